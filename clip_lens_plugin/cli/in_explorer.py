"""The command lines that open in the explorer what the sections of a report show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clip_lens_plugin.app.state import State
from clip_lens_plugin.describe.class_result import ClassHeads
from clip_lens_plugin.hints import typed
from clip_lens_plugin.report.results import Report
from clip_lens_plugin.views.report.charts import records
from clip_lens_plugin.views.report.report import InExplorer

TITLES = {"image": "Image", "why": "Why", "off": "Switch off", "heads": "Heads"}
"""Titles of the explorer's pages that a section names."""


def in_explorer(report: Report, words: Sequence[str | Path]) -> dict[str, list[InExplorer]]:
    """By the anchor of a section the command for each of its parts; by "" that for the whole.

    Args:
        report: whose rows have the numbers of the explorer's pictures.
        words: of the command that explores the same pictures by the same model, as it is typed.
    """
    opened = {anchor: [_page(state, words) for state in states] for anchor, states in _states(report).items()}
    return {"": [InExplorer("", typed(*words))], **opened}


def _page(state: State, words: Sequence[str | Path]) -> InExplorer:
    return InExplorer(TITLES[state.tab], typed(*words, "--at", state.query()))


def _states(report: Report) -> dict[str, list[State]]:
    """What each part shows: the page that is about the same, at what stands out in it."""
    found = {
        "layers": [State("off", off=(_greatest_layer(report),))],
        "heads": [State("heads")],
        "textspan": [State("heads", heads=(_named(row),)) for row in records(report.clarity.head(1))],
        "classes": [State("heads", heads=(_best_head(each.heads),)) for each in report.explained],
        # Of the curve the first point.
        "ablation": [State("off", off=("L0",))] if len(report.ablation) else [],
        "heatmaps": [State("image", each.image, tuple(each.scores.texts)) for each in report.heatmaps],
        "decisions": [State("why", each.image, tuple(each.decision.texts)) for each in report.decisions],
    }
    return found if report.roles is None else {**found, "roles": [State("heads", by="role")]}


def _greatest_layer(report: Report) -> str:
    """The heads, or the MLP, of the layer with the greatest share."""
    layers = [row for row in records(report.layers) if row["part"] in ("heads", "mlp")]
    row = max(layers, key=lambda each: abs(each["share_mean"]))
    return f"{'M' if row['part'] == 'mlp' else 'L'}{row['layer']}"


def _best_head(found: ClassHeads) -> str:
    return _named(records(found.to_dataframe().nlargest(1, "eta_squared"))[0])


def _named(row: Mapping[str, Any]) -> str:
    return f"L{row['layer']:.0f}H{row['head']:.0f}"
