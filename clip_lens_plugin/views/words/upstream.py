"""What pages and figures of what feeds a head show, chosen and named once."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_index
from clip_lens_plugin.higher_order.tree import UpstreamTree
from clip_lens_plugin.higher_order.upstream import Upstream
from clip_lens_plugin.views.drawing.numbers import places_for

IN_WORDS = (
    (r"embed", "embedding"),
    (r"constant", "the head's own constants"),
    (r"L(\d+)H(\d+)", r"head {1} of layer {0}"),
    (r"(\d+)_attn_bias", r"attention bias of layer {0}"),
    (r"(\d+)_mlp_bias", r"MLP bias of layer {0}"),
    (r"(\d+)_mlp, neuron (\d+)", r"neuron {1}"),
    (r"(\d+)_mlp", r"MLP of layer {0}"),
)
"""A label's form, and how a page says it."""


def in_words(label: str) -> str:
    """What a term is, in words."""
    for form, words in IN_WORDS:
        found = re.fullmatch(form, label)
        if found is not None:
            return words.format(*found.groups())
    return label


@dataclass(frozen=True)
class SourceGrid:
    """What each source adds through a head, on average over images.

    Attributes:
        title, unit: of the values.
        columns: what stands across: heads, MLP, and biases.
        values: by layer and column.
        beside: the terms that are of no layer, by name.
        places: decimal places of their numbers.
    """

    title: str
    unit: str
    columns: tuple[str, ...]
    values: Float[Tensor, "l c"]
    beside: dict[str, float]
    places: int


def source_grid(found: Upstream, text: int) -> tuple[SourceGrid, dict[str, float]]:
    """The grid, and every term by its label.

    Args:
        text: position of the text, where terms are towards texts.

    Raises:
        IndexError: if there is no such text.
    """
    if found.texts is None:
        values, unit = 100 * found.shares().double().mean(0), "share of what the head adds (%)"
        title = f"What feeds L{found.layer}H{found.head}"
    else:
        t = checked_index("text", text, len(found.texts))
        values = found.stack()[0][..., t].double().mean(0)
        unit = "added (cosine)" if found.unit == "cosine" else "added (dot product)"
        title = f"What feeds L{found.layer}H{found.head}, towards “{found.texts[t]}”"
    terms = dict(zip(found.labels, values.cpu().tolist(), strict=True))
    heads, layers = range(found.readout.n_heads), range(found.layer)
    kinds = {"MLP": "{}_mlp", "MLP bias": "{}_mlp_bias", "attention bias": "{}_attn_bias"}
    rows = [
        [*(terms[f"L{l}H{h}"] for h in heads), *(terms[label.format(l)] for label in kinds.values())] for l in layers
    ]
    columns = (*(str(h) for h in heads), *kinds)
    by_layer = torch.tensor(rows, dtype=torch.float64, device="cpu").reshape(len(layers), len(columns))
    beside = {in_words(label): terms[label] for label in ("embed", "constant")}
    places = 2 if found.texts is None else places_for(max(abs(value) for value in terms.values()))
    return SourceGrid(title, unit, columns, by_layer, beside, places), terms


def level_limits(found: UpstreamTree) -> dict[int, float]:
    """The greatest size of a value at each depth; of the root and its sources, one."""
    limits: dict[int, float] = {}
    for depth, _, node in found.root.walk():
        limits[depth] = max(limits.get(depth, 0.0), abs(node.value))
    limits[0] = limits[1] = max(limits.get(0, 0.0), limits.get(1, 0.0))
    return {depth: limit or 1.0 for depth, limit in limits.items()}
