"""A spurious cue: what each head adds for it, and each group's accuracy with and without the heads that carry it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from clip_lens_plugin.groups.accuracy import STAGES, GroupAccuracy
from clip_lens_plugin.groups.control import Control
from clip_lens_plugin.groups.effects import EFFECTS, GroupEffects
from clip_lens_plugin.groups.result import SpuriousHeads
from clip_lens_plugin.statistics.intervals import Interval
from clip_lens_plugin.views.drawing.numbers import places_of_two_digits, signed
from clip_lens_plugin.views.drawing.view import View, aside, static
from clip_lens_plugin.views.report.charts import records
from clip_lens_plugin.views.report.summaries import ROWS_LISTED, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADERS = {"core": "core", "cue": "cue", "core_by_cue": "core by cue"}


def group_effects_view(found: GroupEffects) -> View:
    """Layers by heads: what each head adds to the margin by the class, and by the cue; all components as a table.

    Args:
        found: see :func:`~clip_lens_plugin.groups.effects.group_effects`.
    """

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.heads.groups import group_effects_figure

        return group_effects_figure(found)

    described = "Core and cue effect of each head, layers by heads; the table below has the numbers"
    about = aside(found.about)
    return View("What is the class and what the cue", about + static(figure, described) + effects_table(found), figure)


def spurious_heads_view(found: SpuriousHeads) -> View:
    """The groups' shares of right answers before and after, what chance gives, and the cue effect of every head.

    Args:
        found: see :func:`~clip_lens_plugin.groups.spurious.spurious_heads`.
    """

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.heads.groups import spurious_heads_figure

        return spurious_heads_figure(found)

    told = [found.effects.compared, found.about_splits, found.note]
    about = aside(" ".join(each for each in told if each))
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


def effects_table(found: GroupEffects) -> Markup:
    """The components of the greatest cue effect, and the whole margin, folded."""
    components = found.to_dataframe()
    greatest = components.sort_values("cue", key=lambda each: each.abs(), ascending=False).head(ROWS_LISTED)
    places = places_of_two_digits(float(np.abs(greatest["cue"].to_numpy()).max()))
    rows = [
        (
            str(row["part"]),
            *("" if str(row[name]) == "<NA>" else str(row[name]) for name in ("layer", "head")),
            *(signed(row[name], places) for name in EFFECTS),
        )
        for row in records(greatest)
    ]
    whole = ("whole margin", "", "", *(signed(value, places) for value in found.of_whole().values()))
    listed = table(("part", "layer", "head", *HEADERS.values()), [whole, *rows])
    return Markup(
        "<details><summary>The {} components of the greatest cue effect, as a table</summary>{}</details>"
    ).format(len(rows), listed)


def _of_stage(shares: GroupAccuracy) -> tuple[str, ...]:
    return tuple(told(each) for each in (shares.worst, shares.average, *shares.groups))


def by_chance(control: Control) -> str:
    """The mean and the best of the worst groups, and p: "70.0, at best 83.6; p = 0.005"."""
    return f"{100 * control.worst.mean():.1f}, at best {100 * control.worst.max():.1f}; p = {control.p:.3f}"


def told(share: Interval) -> str:
    """In per cent, with its interval: "69.7 (64.1 to 74.8)"."""
    return f"{100 * share.value:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})"
