"""Drawn scenes as a data set of torch, with one attribute as the label."""

from __future__ import annotations

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from clip_lens_plugin.scenes.attributes import ATTRIBUTES, sample_scene
from clip_lens_plugin.scenes.captions import prompts
from clip_lens_plugin.scenes.drawing import draw


class ScenesDataset(Dataset["tuple[Image.Image, int] | Image.Image"]):
    """``n`` scenes, drawn when they are asked for; scene ``i`` depends on ``(seed, i)`` alone.

    Items are ``(picture, label)``, where the label is the position of the scene's value in
    ``ATTRIBUTES[attribute]``, -1 where a scene with several shapes has no position; without an attribute they
    are pictures.

    Attributes:
        classes: a prompt for each value of the attribute; None without one.
    """

    def __init__(self, n: int, seed: int, attribute: str | None = None) -> None:
        """
        Raises:
            ValueError: if ``n`` or ``seed`` is negative, or there is no such attribute.
        """
        if n < 0 or seed < 0:
            raise ValueError(f"ScenesDataset was given n={n} and seed={seed}; both must be 0 or more.")
        self.classes = None if attribute is None else prompts(attribute)
        self._n, self._seed, self._attribute = n, seed, attribute

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, position: int) -> tuple[Image.Image, int] | Image.Image:
        if not 0 <= position < self._n:
            raise IndexError(f"There is no scene {position}; there are {self._n}, from 0 on.")
        scene = sample_scene(np.random.default_rng([self._seed, position]))
        if self._attribute is None:
            return draw(scene)
        return draw(scene), scene.codes()[[*ATTRIBUTES].index(self._attribute)]

    def __repr__(self) -> str:
        return f"ScenesDataset(n={self._n}, seed={self._seed}, attribute={self._attribute!r})"
