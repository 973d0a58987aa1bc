"""Drawn scenes with masks: one object, or two of which a text names one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count as counting
from itertools import islice
from typing import Any

import numpy as np

from clip_lens_plugin.arguments import checked_index, checked_number
from clip_lens_plugin.scenes.attributes import ATTRIBUTES, Scene, sample_pairs, sample_scene
from clip_lens_plugin.scenes.captions import caption
from clip_lens_plugin.scenes.drawing import draw, draw_together, shape_mask
from clip_lens_plugin.scenes.seeds import SCENES_SEED
from clip_lens_plugin.segmentation.masked.dataset import MaskedImage


class DrawnObjects:
    """``n`` drawn scenes; the text is the colour and the shape of an object, "red circle".

    With one object there is one image per scene. With two, of different colours and shapes, there are two: each names
    one of them, and the other's mask stands beside. So what does not heed the text is right as often as wrong, exactly.
    Scenes depend on ``(seed, i)`` alone, so a longer list begins with a shorter one.

    Attributes:
        objects: of a scene, 1 or 2.
        texts: every colour with every shape.
    """

    def __init__(self, n: int, objects: int = 1, seed: int = SCENES_SEED) -> None:
        """
        Raises:
            ValueError: if ``n`` is no whole number of at least 1, ``objects`` neither 1 nor 2, or ``seed`` is none.
        """
        n, seed = checked_number("n", n), checked_number("seed", seed, least=0)
        if objects not in (1, 2):
            raise ValueError(f"A drawn scene has 1 or 2 objects, got {objects!r}.")
        self.objects, self._seed = objects, seed
        if objects == 2:
            self._scenes: list[tuple[Scene, ...]] = [*sample_pairs(n, seed)]
        else:
            every = (sample_scene(np.random.default_rng([seed, i])) for i in counting())
            self._scenes = [(scene,) for scene in islice((each for each in every if each.count == "one"), n)]

    @property
    def title(self) -> str:
        """What it is, in a line."""
        what = "one object" if self.objects == 1 else "two objects, each named once"
        return f"{len(self._scenes):,} drawn scenes with {what}, seed {self._seed}"

    @property
    def texts(self) -> Sequence[str]:
        """Every colour with every shape."""
        pairs = ((colour, shape) for colour in ATTRIBUTES["colour"] for shape in ATTRIBUTES["shape"])
        return [caption({"colour": colour, "shape": shape}) for colour, shape in pairs]

    def __len__(self) -> int:
        return self.objects * len(self._scenes)

    def __getitem__(self, position: Any, /) -> MaskedImage:
        at, which = divmod(checked_index("image", position, len(self)), self.objects)
        scenes = self._scenes[at]
        named = scenes[which]
        text = caption({"colour": named.colour, "shape": named.shape})
        if self.objects == 1:
            return MaskedImage(f"scene {at}", draw(named), text, shape_mask(named))
        other = shape_mask(scenes[1 - which])
        return MaskedImage(
            f"scene {at}, {text}", draw_together(scenes), text, shape_mask(named), other=other, group=f"scene {at}"
        )
