"""Patched heads as layers by heads; estimates of attribution patching against what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from clip_lens_plugin.patching.attributed import AttributionPatching
from clip_lens_plugin.patching.heads import HeadPatching
from clip_lens_plugin.views.drawing.numbers import places_for, signed
from clip_lens_plugin.views.drawing.view import View, static
from clip_lens_plugin.views.report.charts import records
from clip_lens_plugin.views.report.summaries import ROWS_LISTED, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXACT, ESTIMATED = "What each head carries, patched", "What attribution patching says, and what is measured"


def head_patching_view(found: HeadPatching) -> View:
    """Layers by heads: what the metric gains if one head is patched, the mean over the pairs; the greatest as a table.

    Args:
        found: see :func:`~clip_lens_plugin.patching.heads.patch_heads`.

    Raises:
        ValueError: if an effect is NaN.
    """
    if not bool(found.effects.isfinite().all()):
        raise ValueError("The metric was NaN in some patched runs, so heads cannot be compared; the table names them.")
    effects = found.to_dataframe()

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.patching import head_patching_figure

        return head_patching_figure(effects)

    greatest = effects.sort_values("effect_mean", key=lambda each: each.abs(), ascending=False).head(ROWS_LISTED)
    places = places_for(float(found.effects.mean(0).abs().max()))
    rows = [
        (
            f"{row['layer']:.0f}",
            f"{row['head']:.0f}",
            signed(row["effect_mean"], places),
            f"{row['effect_std']:.{places}f}",
        )
        for row in records(greatest)
    ]
    listed = Markup("<details><summary>The {} heads of the greatest effect, as a table</summary>{}</details>").format(
        len(rows), table(("layer", "head", "mean effect", "std over pairs"), rows)
    )
    described = "Mean effect of each patched head on the metric, layers by heads; the table below has the numbers"
    return View(EXACT, _baselines(found) + static(figure, described) + listed, figure)


def attribution_patching_view(found: AttributionPatching) -> View:
    """Estimates against exact values where both are known, the wrong signs named; of heads, all estimates as a grid.

    Args:
        found: see :func:`~clip_lens_plugin.patching.attribution.attribution_patching`.

    Raises:
        ValueError: if an exact value is NaN.
    """
    if not bool(found.exact.isfinite().all()):
        raise ValueError(
            "The metric was NaN in some patched runs, so estimates cannot be judged; the table names them."
        )

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.patching import attribution_patching_figure

        return attribution_patching_figure(found)

    checks = records(found.checks().sort_values("exact", key=lambda each: each.abs(), ascending=False))
    places = places_for(max(abs(row[name]) for row in checks for name in ("estimate", "exact")))
    rows = [
        (
            found.name(row),
            signed(row["estimate"], places),
            signed(row["exact"], places),
            row["chosen"],
            "wrong" if row["wrong_sign"] else "",
            f"{row['wrong_pairs']} of {len(found.estimates)}",
        )
        for row in checks
    ]
    header = (found.kind[:-1], "estimate", "exact", "chosen", "sign", "pairs of the wrong sign")
    listed = Markup("<details><summary>All {} that were measured, as a table</summary>{}</details>").format(
        len(rows), table(header, rows)
    )
    described = "Estimated against exact effect of those that were measured; the table below has the numbers"
    return View(ESTIMATED, _baselines(found) + static(figure, described) + listed, figure)


def _baselines(found: HeadPatching | AttributionPatching) -> Markup:
    without, whole = (f"{float(each.mean()):.4g}".replace("-", "−") for each in (found.corrupted, found.clean))
    n = len(found.corrupted)
    return Markup(
        '<p class="cl-soft">The metric is {} on the corrupted inputs and {} on the clean ones, the mean of {}. '
        "An effect is what it gains over the corrupted run if one is patched from the clean run.</p>"
    ).format(without, whole, "one pair" if n == 1 else f"{n:,} pairs")
