"""A spurious cue: what each head adds for it, and each group's accuracy with and without the heads that carry it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from clip_lens_plugin.groups.effects import EFFECTS, GroupEffects
from clip_lens_plugin.groups.spurious.accuracy import STAGES, GroupAccuracy
from clip_lens_plugin.groups.spurious.control import Control
from clip_lens_plugin.groups.spurious.result import SpuriousHeads
from clip_lens_plugin.statistics.intervals import Interval
from clip_lens_plugin.views.drawing.numbers import places_for, places_of_two_digits, signed
from clip_lens_plugin.views.drawing.view import View, aside, static
from clip_lens_plugin.views.report.charts import records, value_grid
from clip_lens_plugin.views.report.summaries import ROWS_LISTED, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CUES = "What is the class and what the cue"
MOST_P = 0.05
"""Family-wise, of heads that are counted as answering to the cue."""

HEADERS = {"core": "core", "cue": "cue", "core_by_cue": "core by cue"}


def group_effects_view(found: GroupEffects) -> View:
    """Layers by heads: what each head adds to the margin by the class, and by the cue; all components as a table.

    Args:
        found: see :func:`~clip_lens_plugin.groups.effects.group_effects`.
    """

    described = "Core and cue effect of each head, layers by heads; the table below has the numbers"
    figure, about = _effects_figure(found), aside(f"{found.about} {cue_words(found)}")
    return View(CUES, about + static(figure, described) + effects_table(found), figure)


def spurious_heads_view(found: SpuriousHeads) -> View:
    """The groups' shares of right answers before and after, what chance gives, and the cue effect of every head.

    Args:
        found: see :func:`~clip_lens_plugin.groups.spurious.finding.spurious_heads`.
    """

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.heads.groups import spurious_heads_figure

        return spurious_heads_figure(found)

    about = [found.effects.compared, found.about_splits, found.note]
    about = aside(" ".join(each for each in about if each))
    removed = Markup("<p>Removed: <strong>{}</strong></p>").format(found.removed)
    described = "Accuracy of each group before and after, and cue effect of each head; the tables have the numbers"
    body = about + removed + shares_table(found) + static(figure, described) + effects_table(found.effects)
    return View("Heads that carry a spurious cue", body, figure)


def shares_table(found: SpuriousHeads) -> Markup:
    """Per cent of right answers: a row for each stage and for what chance gives, a column for each group."""
    rows = [(STAGES[each.stage], *_of_stage(each)) for each in found.shares]
    rows += [(what, by_chance(control), *[""] * 5) for what, control in found.chance]
    groups = [f"{name} ({n:,})" for name, n in zip(found.groups, found.shares[0].counts, strict=True)]
    return table(("right answers (%)", "worst group", "average", *groups), rows)


def cue_grid_view(found: GroupEffects) -> View:
    """Each head's cue effect over its family-wise p, layers by heads, for a page that draws its grids itself."""
    cue, p = found.heads("cue"), found.heads_by_chance("family_p")
    places = places_of_two_digits(float(np.abs(cue).max()))
    every = [(layer, head) for layer in range(cue.shape[0]) for head in range(cue.shape[1])]
    chance = {at: f"p {p[at]:.3f}" for at in every} if found.chance.turns else {}
    form = f"{{:+.{places}f}}"
    grid = value_grid(
        {at: float(cue[at]) for at in every}, "Cue effect of each head (cosine)", form, form, under=chance
    )
    return View(CUES, aside(f"{found.about} {cue_words(found)}") + grid + effects_table(found), _effects_figure(found))


def cue_words(found: GroupEffects) -> str:
    """How many heads move the margin with the cue further than any head does by chance, in sentences."""
    cue, p = found.heads("cue"), found.heads_by_chance("family_p")
    about = "A head's cue effect is how much further it moves images with the second cue towards the second class."
    if not found.chance.turns:
        return about
    greatest, typical = float(cue.flatten()[np.abs(cue).argmax()]), float(np.median(found.heads_by_chance("typical")))
    places = places_for(abs(greatest))
    return (
        f"{about} Beside it stands p: how often, in {found.chance.turns} permutations of the cues among the images of "
        f"each class, any head moves as far. It is below {MOST_P} for {int((p < MOST_P).sum())} of {p.size} heads. The "
        f"greatest cue effect is {signed(greatest, places)}; by chance a head moves by {typical:.{places}f} on the "
        f"median."
    )


def effects_table(found: GroupEffects) -> Markup:
    """The components of the greatest cue effect beside chance, and the whole margin, folded."""
    components = found.to_dataframe()
    greatest = components.sort_values("cue", key=lambda each: each.abs(), ascending=False).head(ROWS_LISTED)
    places = places_of_two_digits(float(np.abs(greatest["cue"].to_numpy()).max()))
    rows = [
        (
            str(row["part"]),
            *("" if str(row[name]) == "<NA>" else str(row[name]) for name in ("layer", "head")),
            *(signed(row[name], places) for name in EFFECTS),
            *(_by_chance(row) if found.chance.turns else ()),
        )
        for row in records(greatest)
    ]
    chance = ("cue by chance", "p", "p of any such part") if found.chance.turns else ()
    whole = (
        "whole margin",
        "",
        "",
        *(signed(value, places) for value in found.of_whole().values()),
        *[""] * len(chance),
    )
    listed = table(("part", "layer", "head", *HEADERS.values(), *chance), [whole, *rows])
    return Markup(
        "<details><summary>The {} components of the greatest cue effect, as a table</summary>{}</details>"
    ).format(len(rows), listed)


def _by_chance(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return f"{row['cue_typical']:.1e}", f"{row['cue_p']:.3f}", f"{row['cue_family_p']:.3f}"


def _effects_figure(found: GroupEffects) -> Callable[[], Figure]:
    def figure() -> Figure:
        from clip_lens_plugin.views.figures.heads.groups import group_effects_figure

        return group_effects_figure(found)

    return figure


def _of_stage(shares: GroupAccuracy) -> tuple[str, ...]:
    return tuple(in_per_cent(each) for each in (shares.worst, shares.average, *shares.groups))


def by_chance(control: Control) -> str:
    """The mean and the best of the worst groups, and p: "70.0, at best 83.6; p = 0.005"."""
    return f"{100 * control.worst.mean():.1f}, at best {100 * control.worst.max():.1f}; p = {control.p:.3f}"


def in_per_cent(share: Interval) -> str:
    """In per cent, with its interval: "69.7 (64.1 to 74.8)"."""
    return f"{100 * share.value:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})"
