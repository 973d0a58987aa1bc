"""What a user gives to a tower, images or texts, a run at a time."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from jaxtyping import Int
from torch import Tensor

from clip_lens_plugin.model.bridged import resolved
from clip_lens_plugin.model.inputs.given import GivenImages, given_images
from clip_lens_plugin.model.inputs.image_tokens import pixels_of
from clip_lens_plugin.model.protocol import ImageModel, TextModel, Tower


@dataclass(frozen=True)
class GivenTexts:
    """Texts as token ids.

    Attributes:
        ids: of the texts.
        names: the texts themselves, or their words.
    """

    ids: Int[Tensor, "b n"]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def pixels(self, rows: slice) -> Int[Tensor, "s n"]:
        return self.ids[rows]

    def checked(self) -> AbstractContextManager[None]:
        return nullcontext()


Given = GivenImages | GivenTexts
"""b images or texts."""


def given_to(model: Any, inputs: Any) -> tuple[Tower, Given, tuple[str, ...]]:
    """The tower, what it is given, and names: of pictures, of texts, or "image 0" and so on.

    Args:
        model: a model of images, or its text tower ``model.text``; or a ``TransformerBridge``.
        inputs: images, or texts for a text tower.

    Raises:
        ValueError: if there is none, or it is not what the tower takes.
    """
    if isinstance(model, TextModel):
        texts = tuple(each.name for each in model.spelt(inputs))
        return model, GivenTexts(model.to_tokens(inputs), texts), texts
    tower: ImageModel = resolved(model)
    given = given_images(tower, pixels_of(inputs))
    if given.photographs is None:
        return tower, given, tuple(f"image {row}" for row in range(len(given)))
    return tower, given, tuple(each.name for each in given.photographs)
