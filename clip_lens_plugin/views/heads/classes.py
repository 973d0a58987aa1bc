"""How much of each head the classes explain, as layers by heads, with the classes of heads and the heads of classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.describe.class_result import ClassHeads
from clip_lens_plugin.labelling.names import few
from clip_lens_plugin.plain_text import how_many
from clip_lens_plugin.views.drawing.numbers import places_for, signed
from clip_lens_plugin.views.drawing.view import View, static
from clip_lens_plugin.views.report.charts import records, value_grid
from clip_lens_plugin.views.report.summaries import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "How much of each head the classes explain"
LABEL = "Share of each head's variance that the classes explain"
MOST_HEADS, MOST_CLASSES, CLASSES_OF_HEAD = 10, 40, 3


def class_heads_view(found: ClassHeads, count: int = MOST_HEADS) -> View:
    """Layers by heads, coloured by η²; the first heads beside chance, with the classes that they tell apart.

    Args:
        found: see :func:`~clip_lens_plugin.class_heads`.
        count: of heads in the table.

    Raises:
        ValueError: if no head varies over the images, or ``count`` is no whole number of at least 1.
    """
    count = checked_number("count", count)
    _refuse_constant(found)

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.heads.classes import class_heads_figure

        return class_heads_figure(found)

    described = f"{LABEL}, layers by heads; the table below has the numbers"
    body = class_words(found) + static(figure, described) + class_tables(found, count)
    return View(TITLE, body, figure)


def class_section(found: ClassHeads) -> Markup:
    """The same for a page that draws its grids itself.

    Raises:
        ValueError: if no head varies over the images.
    """
    _refuse_constant(found)
    values = {
        (layer, head): 100 * value for layer, row in enumerate(found.grid().tolist()) for head, value in enumerate(row)
    }
    grid = value_grid(values, f"{LABEL}, in per cent", "{:.1f} %", "{:.0f}")
    return class_words(found) + grid + class_tables(found)


def class_words(found: ClassHeads) -> Markup:
    """How many images and classes, and what stands for chance."""
    n = found.n_unlabelled
    left = f"; {how_many(n, 'image')} without a label {'is' if n == 1 else 'are'} left out" if n else ""
    some = "" if len(found.layers) == found.n_layers else f" Layers {found.layers[0]} to {found.layers[-1]} alone."
    empty = f" No image of {few(found.empty, 3)}." if found.empty else ""
    return Markup(
        '<p class="cl-soft">The share of the variance of a head\'s contribution that lies between the means of {} '
        "classes, over {} images{}.{}{} Chance is {}.</p>"
    ).format(f"{len(found.classes):,}", f"{found.n:,}", left, some, empty, found.chance_told)


def class_tables(found: ClassHeads, count: int = MOST_HEADS) -> Markup:
    """The heads that the classes explain best, with these classes; and of each class its heads; folded."""
    varying = found.to_dataframe().dropna(subset=["eta_squared"])
    best = records(varying.sort_values("eta_squared", ascending=False).head(count))
    rows = [
        (
            f"{row['layer']:.0f}",
            f"{row['head']:.0f}",
            f"{100 * row['eta_squared']:.1f}",
            f"{100 * row['chance']:.1f}" + (f" ({100 * row['chance_most']:.1f})" if found.permutations else ""),
            f"{row['total_variance']:.1e}",
            _in_words(found, int(row["layer"]), int(row["head"])),
        )
        for row in best
    ]
    chance = "chance, and the greatest (%)" if found.permutations else "chance (%)"
    how = "class (share, %)" if found.towards is None else "class (towards its text, cosine)"
    header = ("layer", "head", "explained (%)", chance, "variance (cosine²)", how)
    heads = Markup("<details open><summary>The {} heads that the classes explain best</summary>{}</details>").format(
        len(rows), table(header, rows)
    )
    classes = found.by_class()
    shown = [(row["class"], f"{row['images']:,}", row["heads"]) for row in records(classes.head(MOST_CLASSES))]
    some = f"The first {len(shown)} of {len(classes):,} classes" if len(shown) < len(classes) else "Each class"
    words = "that move it farthest" if found.towards is None else "that add most towards its text"
    return heads + Markup("<details><summary>{}, with the heads {}</summary>{}</details>").format(
        some, words, table(("class", "images", "heads"), shown)
    )


def _in_words(found: ClassHeads, layer: int, head: int) -> str:
    rows = records(found.classes_of(layer, head, CLASSES_OF_HEAD))
    if found.towards is None:
        return ", ".join(f"{row['class']} ({100 * row['share']:.1f})" for row in rows)
    places = places_for(max(abs(row["towards"]) for row in rows))
    return ", ".join(f"{row['class']} ({signed(row['towards'], places)})" for row in rows)


def _refuse_constant(found: ClassHeads) -> None:
    if not bool(found.eta_squared.isfinite().any()):
        raise ValueError("No head varies over these images, so classes explain nothing.")
