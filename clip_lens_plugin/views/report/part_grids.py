"""The cosine of images with texts as grids: parts of the image down, layer 0 at the top, parts of the text across."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.interactions.interacting import Interaction
from clip_lens_plugin.views.drawing.numbers import signed

Blocks = tuple[tuple[str, int], ...]
"""Names of neighbouring rows or columns that belong together, such as those of a layer, and how many these are."""


@dataclass(frozen=True)
class PartGrid:
    """What parts of images and parts of texts add together.

    Attributes:
        title: what parts these are.
        images, texts: names.
        cosine: of each image with each text.
        values: the grids [b, t, r, c].
        rows, columns: names of the parts.
        row_blocks, column_blocks: which of them belong together.
        summed: what the grid's sum is of the cosine.
    """

    title: str
    images: tuple[str, ...]
    texts: tuple[str, ...]
    cosine: Float[Tensor, "b t"]
    values: Float[Tensor, "b t r c"]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_blocks: Blocks
    column_blocks: Blocks
    summed: str

    def greatest(self, n: int) -> list[tuple[str, ...]]:
        """The n greatest pairs of parts by size: image, text, part of either, what they add."""
        flat = self.values.flatten()
        found = []
        for at in flat.abs().topk(min(n, len(flat))).indices.tolist():
            at, column = divmod(at, len(self.columns))
            at, row = divmod(at, len(self.rows))
            i, t = divmod(at, len(self.texts))
            value = float(self.values[i, t, row, column])
            found.append((self.images[i], self.texts[t], self.rows[row], self.columns[column], signed(value, 5)))
        return found


def part_grid(found: Interaction, names: Sequence[str], of: str) -> PartGrid:
    """Of layers, or of heads.

    Args:
        found: as it is centred.
        names: of the images.
        of: "layers" or "heads".

    Raises:
        ValueError: see :meth:`Interaction.layers`.
    """
    known = (tuple(names), tuple(found.text_names), found.cosine.detach().double().cpu())
    if of == "layers":
        values = found.layers()
        rows, columns = found.image_parts, found.text_parts
        blocks = (layer_blocks(found.images.n_layers), layer_blocks(found.texts.n_layers))
        title, summed = "Layers of the image with layers of the text, attention before MLP", "by all parts together"
    else:
        values = found.heads().flatten(-2).flatten(2, 3)
        sides = [(each.n_layers, each.readout.n_heads) for each in (found.images, found.texts)]
        rows, columns = (tuple(f"L{l}H{h}" for l in range(layers) for h in range(heads)) for layers, heads in sides)
        blocks = (head_blocks(*sides[0]), head_blocks(*sides[1]))
        title, summed = "Heads of the image with heads of the text, layer by layer", "of which by the heads of both"
    if found.centred is not None:
        summed = "of which by the deviations from the means"
        title += ", centred"
    return PartGrid(title, *known, values.detach().double().cpu(), rows, columns, *blocks, summed)


def layer_blocks(n_layers: int) -> Blocks:
    """Of the parts of :func:`~clip_lens_plugin.interactions.layer_parts.part_names`."""
    return (("embed", 1), *((str(layer), 2) for layer in range(n_layers)), ("rest", 1))


def head_blocks(n_layers: int, n_heads: int) -> Blocks:
    """Of the heads of all layers."""
    return tuple((str(layer), n_heads) for layer in range(n_layers))
