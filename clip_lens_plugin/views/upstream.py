"""What feeds a head: a grid of sources over some images, and a tree of sources of one image."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from markupsafe import Markup
from torch import Tensor

from clip_lens_plugin.arguments import checked_index
from clip_lens_plugin.higher_order.frozen_run import FROZEN
from clip_lens_plugin.higher_order.tree import Node, UpstreamTree
from clip_lens_plugin.higher_order.upstream import Upstream
from clip_lens_plugin.views.drawing.numbers import places_for, signed
from clip_lens_plugin.views.drawing.templates import TEMPLATES
from clip_lens_plugin.views.drawing.view import View, static
from clip_lens_plugin.views.summaries import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LISTED = 20
"""Terms that stand in a table under the grid."""

TOLD = (
    (r"embed", "embedding"),
    (r"constant", "the head's own constants"),
    (r"L(\d+)H(\d+)", r"head {1} of layer {0}"),
    (r"(\d+)_attn_bias", r"attention bias of layer {0}"),
    (r"(\d+)_mlp_bias", r"MLP bias of layer {0}"),
    (r"(\d+)_mlp, neuron (\d+)", r"neuron {1}"),
    (r"(\d+)_mlp", r"MLP of layer {0}"),
)
"""A label's form, and how a page says it."""


def told(label: str) -> str:
    """What a term is, in words."""
    for form, words in TOLD:
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
        places: that their numbers are told to.
    """

    title: str
    unit: str
    columns: tuple[str, ...]
    values: Float[Tensor, "l c"]
    beside: dict[str, float]
    places: int


def upstream_view(found: Upstream, text: int = 0) -> View:
    """What each earlier layer's heads, MLP and biases add through one head, on average over the images.

    In per cent of the head's own contribution; or, where the terms were taken towards texts, as parts of the dot
    product with one of them.

    Args:
        found: of one head: ``upstream(model, images, layer, head)``.
        text: position of the text that is shown.

    Raises:
        ValueError: if it is of all heads of a layer.
        IndexError: if there is no such text.
    """
    if found.head is None:
        raise ValueError(
            f"A view is of one head: upstream(model, images, {found.layer}, head). The table of all heads is "
            f"to_dataframe()."
        )
    grid, terms = _grid(found, text)
    largest = sorted(terms, key=lambda label: -abs(terms[label]))[:LISTED]
    listed = Markup("<details open><summary>The {} greatest of {} terms</summary>{}</details>").format(
        len(largest),
        len(terms),
        table(("source", grid.unit), [(told(each), signed(terms[each], grid.places)) for each in largest]),
    )
    note = Markup('<p class="cl-soft">{}. The terms sum to what the head adds, up to {:.0e}.</p>').format(
        FROZEN.capitalize(), found.completeness_error()
    )

    def figure() -> Figure:
        from clip_lens_plugin.views.upstream_figures import source_figure  # matplotlib, which a page does without.

        return source_figure(grid)

    drawn = static(figure, f"{grid.title}: layers down, their heads, MLP and biases across; the table has the numbers")
    return View(grid.title, drawn + note + listed, figure)


def _grid(found: Upstream, text: int) -> tuple[SourceGrid, dict[str, float]]:
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
    beside = {told(label): terms[label] for label in ("embed", "constant")}
    places = 2 if found.texts is None else places_for(max(abs(value) for value in terms.values()))
    return SourceGrid(title, unit, columns, by_layer, beside, places), terms


def tree_view(found: UpstreamTree) -> View:
    """A head, what feeds it, and what feeds that: branches fold, bars are on one scale for each level.

    The page needs no script. Orange adds to the value, purple takes away.

    Args:
        found: of :func:`~clip_lens_plugin.higher_order.tree.upstream_tree`.
    """
    title = f"What feeds {found.root.label} in {found.name}, {found.direction}"
    limits = level_limits(found)
    places = places_for(abs(found.root.value))

    def shown(node: Node, depth: int = 0) -> dict[str, Any]:
        length = 50 * min(1.0, abs(node.value) / limits[depth])
        return {
            "name": told(node.label),
            "told": signed(node.value, places),
            "bar": f"left:{50 - length if node.value < 0 else 50:.2f}%;width:{length:.2f}%",
            "side": "for-a" if node.value > 0 else "for-b",
            "children": [shown(child, depth + 1) for child in node.children],
            "open": depth == 0,
        }

    body = TEMPLATES.get_template("tree.html.j2").render(
        root=shown(found.root), unit=found.unit, note=FROZEN.capitalize(), error=f"{found.error:.0e}"
    )

    def figure() -> Figure:
        from clip_lens_plugin.views.upstream_figures import tree_figure

        return tree_figure(found, title=title)

    return View(title, Markup(body), figure)


def level_limits(found: UpstreamTree) -> dict[int, float]:
    """The greatest size of a value at each depth; of the root and its sources, one."""
    limits: dict[int, float] = {}
    for depth, _, node in found.root.walk():
        limits[depth] = max(limits.get(depth, 0.0), abs(node.value))
    limits[0] = limits[1] = max(limits.get(0, 0.0), limits.get(1, 0.0))
    return {depth: limit or 1.0 for depth, limit in limits.items()}
