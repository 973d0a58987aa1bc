"""Drawn scenes as a data set of torch, with one attribute as the label."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from clip_lens_plugin.arguments import checked_index, checked_number
from clip_lens_plugin.scenes.attributes import ATTRIBUTES, sample_scene
from clip_lens_plugin.scenes.captions import prompts
from clip_lens_plugin.scenes.drawing import draw

DRAWN_KEPT = 1024
"""Scenes that stay in memory, of 9 kB each."""


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
            ValueError: if ``n`` or ``seed`` is no whole number of at least 0, or there is no such attribute.
        """
        self._n, self._seed = checked_number("n", n, least=0), checked_number("seed", seed, least=0)
        self.classes = None if attribute is None else prompts(attribute)
        self._attribute = attribute

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, position: int) -> tuple[Image.Image, int] | Image.Image:
        position = checked_index("scene", position, self._n)
        picture, codes = _drawn(self._seed, position)
        if self._attribute is None:
            return picture.copy()
        return picture.copy(), codes[[*ATTRIBUTES].index(self._attribute)]

    def __repr__(self) -> str:
        return f"ScenesDataset(n={self._n}, seed={self._seed}, attribute={self._attribute!r})"


@lru_cache(DRAWN_KEPT)
def _drawn(seed: int, position: int) -> tuple[Image.Image, tuple[int, ...]]:
    """A scene's picture, not to be changed, and its codes; drawn once where it is asked for again soon."""
    scene = sample_scene(np.random.default_rng([seed, position]))
    return draw(scene), tuple(scene.codes())
