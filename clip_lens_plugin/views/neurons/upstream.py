"""What feeds a head: a grid of sources over some images, and a tree of sources of one image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from clip_lens_plugin.higher_order.frozen_run import FROZEN
from clip_lens_plugin.higher_order.tree import Node, UpstreamTree
from clip_lens_plugin.higher_order.upstream import Upstream
from clip_lens_plugin.views.drawing.numbers import places_for, signed
from clip_lens_plugin.views.drawing.templates import TEMPLATES
from clip_lens_plugin.views.drawing.view import View, static
from clip_lens_plugin.views.report.summaries import table
from clip_lens_plugin.views.words.upstream import in_words, level_limits, source_grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LISTED = 20
"""Terms that stand in a table under the grid."""


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
    grid, terms = source_grid(found, text)
    largest = sorted(terms, key=lambda label: -abs(terms[label]))[:LISTED]
    listed = Markup("<details open><summary>The {} greatest of {} terms</summary>{}</details>").format(
        len(largest),
        len(terms),
        table(("source", grid.unit), [(in_words(each), signed(terms[each], grid.places)) for each in largest]),
    )
    note = Markup('<p class="cl-soft">{}. The terms sum to what the head adds, up to {:.0e}.</p>').format(
        FROZEN.capitalize(), found.completeness_error()
    )

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.neurons.upstream import (
            source_figure,  # matplotlib, which a page does without.
        )

        return source_figure(grid)

    drawn = static(figure, f"{grid.title}: layers down, their heads, MLP and biases across; the table has the numbers")
    return View(grid.title, drawn + note + listed, figure)


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
            "name": in_words(node.label),
            "value_text": signed(node.value, places),
            "bar": f"left:{50 - length if node.value < 0 else 50:.2f}%;width:{length:.2f}%",
            "side": "for-a" if node.value > 0 else "for-b",
            "children": [shown(child, depth + 1) for child in node.children],
            "open": depth == 0,
        }

    body = TEMPLATES.get_template("tree.html.j2").render(
        root=shown(found.root), unit=found.unit, note=FROZEN.capitalize(), error=f"{found.error:.0e}"
    )

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.neurons.upstream import tree_figure

        return tree_figure(found, title=title)

    return View(title, Markup(body), figure)
