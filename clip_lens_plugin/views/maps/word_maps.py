"""What pages and figures show of one image with one text: patches and words, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from clip_lens_plugin.interactions.interacting import Interaction
from clip_lens_plugin.plain_text import one_line

BLANK_PATCH = 16
"""Pixels of a patch where there is no photograph."""

LONGEST = 60
"""Characters of a word that are shown."""


@dataclass(frozen=True)
class WordMap:
    """What the tokens of an image and the words of a text add together, through all heads of both towers.

    Attributes:
        image, text: their names.
        cosine: of the two.
        values: of the tokens before the patches, then of the patches, in the rows; of the words in the columns.
        letters: the words, in letters that can be shown.
        prefix: what the tokens before the patches are called; "" where there are none.
        grid_size: (rows, columns) of patches.
    """

    image: str
    text: str
    cosine: float
    values: Float[Tensor, "n w"]
    letters: tuple[str, ...]
    prefix: str
    grid_size: tuple[int, int]

    @property
    def of_patches(self) -> Float[Tensor, "patches w"]:
        """The rows of patches."""
        return self.values[len(self.values) - self.grid_size[0] * self.grid_size[1] :]

    @property
    def by_patch(self) -> Float[Tensor, "rows columns"]:
        """What each patch adds with all words."""
        return self.of_patches.sum(1).unflatten(0, self.grid_size)

    @property
    def by_word(self) -> list[float]:
        """What each word adds with all patches."""
        return self.of_patches.sum(0).tolist()

    @property
    def of_prefix(self) -> float:
        """What the tokens before the patches add with all words."""
        return float(self.values.sum() - self.of_patches.sum())

    @property
    def rest(self) -> float:
        """What is left of the cosine: what MLPs and constants of either side add."""
        return self.cosine - float(self.values.sum())

    @property
    def nothing(self) -> tuple[bool, ...]:
        """Whether each word adds nothing at all, as padding behind the pooled token of a causal tower."""
        return tuple((self.values == 0).all(0).tolist())

    def blank(self) -> Image.Image:
        """White in the place of a photograph that is not known."""
        rows, columns = self.grid_size
        return Image.new("RGB", (columns * BLANK_PATCH, rows * BLANK_PATCH), "white")


def word_maps(found: Interaction, names: Sequence[str]) -> list[list[WordMap]]:
    """For each image, and each text.

    Args:
        found: not centred, see :meth:`Interaction.words`.
        names: of the images.

    Raises:
        ValueError: if it is not known which words the texts have.
        TokensNotAvailableError: a ValueError, if tokens were not kept, or a hook replaced the output of a head.
    """
    cfg = found.images.readout.image_model.cfg
    prefix = named_prefix(cfg.prefix_names)
    values = [each.detach().double().cpu() for each in found.words()]
    cosine = found.cosine.tolist()
    letters = [tuple(one_line(word.text, LONGEST).strip() or "␣" for word in text.words) for text in found.texts.spelt]
    return [
        [
            WordMap(name, text, cosine[i][t], values[t][i], letters[t], prefix, cfg.grid_size)
            for t, text in enumerate(found.text_names)
        ]
        for i, name in enumerate(names)
    ]


def named_prefix(names: Sequence[str]) -> str:
    """What the tokens before the patches are called together: of "CLS", "REG0" and so on."""
    class_token, registers = "CLS" in names, len(names) > ("CLS" in names)
    said = [what for what, there in (("the class token", class_token), ("registers", registers)) if there]
    return " and ".join(said)
