"""The first screen of a report: its answers in sentences, small tables and pictures."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from markupsafe import Markup

from clip_lens_plugin.report.results import Report
from clip_lens_plugin.statistics.intervals import Z
from clip_lens_plugin.statistics.moments import LATE_LAYERS
from clip_lens_plugin.views.drawing.templates import TEMPLATES
from clip_lens_plugin.views.drawing.thumbnails import Thumbnails
from clip_lens_plugin.views.heads.roles import role_names
from clip_lens_plugin.views.report.charts import PART_NAMES, layer_chart, records

N_CLEAREST, N_GREATEST = 5, 5
FEW_SCORED = 100
"""Images below which an accuracy is said to be rough: its interval is about 10 points to either side."""


def answers(report: Report, thumbnails: Thumbnails) -> Markup:
    """The first screen of the page, which holds the style of the thumbnails already."""
    context = {
        "report": report,
        "about": report.provenance,
        "equality": equality(report),
        "parts": whole_parts(report.layers),
        "chart": layer_chart(report.layers),
        "layers": greatest_parts(report.layers, len(report.names)),
        "heads": greatest_heads(report.heads, len(report.names)),
        "clearest": clearest(report),
        "n_compared": len(report.clarity),
        "questions": questions(report.ablation),
        "reservations": reservations(report),
        "thumbnails": thumbnails,
        "roles": role_names(report.roles),
    }
    return Markup(TEMPLATES.get_template("answers.html.j2").render(context))


def equality(report: Report) -> str:
    """Whether the wrapped model gives its source's own embeddings, in one sentence."""
    found = report.provenance.verified
    on = "one probe image" if found.images == "probe" else f"{found.n_images:,} images"
    if math.isnan(found.relative_difference):
        return f"Not compared with its source, whose own embedding of {on} is NaN or infinite in {found.dtype}."
    verdict = "It equals its source" if found.holds else "It differs from its source"
    return (
        f"{verdict}: on {on} the embedding is the source's own to {found.relative_difference:.0e} "
        f"(up to {found.allowed:.0e} is rounding in {found.dtype})."
    )


def whole_parts(layers: pd.DataFrame) -> str:
    """What all attention heads, all MLPs and the rest add to the embedding, in one sentence."""
    rows = records(layers)
    heads, mlps = (sum(row["share_mean"] for row in rows if row["part"] == part) for part in ("heads", "mlp"))
    rest = sum(row["share_mean"] for row in rows) - heads - mlps
    heads, mlps, rest = (round(100 * share) for share in (heads, mlps, rest))
    return f"Attention heads are {heads} % of the embedding, MLPs {mlps} %, all else {rest} %."


def greatest_parts(layers: pd.DataFrame, n: int) -> list[tuple[str, str, str]]:
    """The layers' parts with the greatest share: name, mean with twice its standard error, deviation over images."""
    return [
        (f"{row['layer']}, {PART_NAMES.get(row['part'], row['part'])}", *_shares(row, n))
        for row in _greatest(records(layers.dropna(subset=["layer"])))
    ]


def greatest_heads(heads: pd.DataFrame, n: int) -> list[tuple[str, str, str]]:
    """The same of heads."""
    return [(f"{row['layer']:.0f}, head {row['head']:.0f}", *_shares(row, n)) for row in _greatest(records(heads))]


def clearest(report: Report) -> list[dict[str, Any]]:
    """The clearest heads: what their texts explain beside chance, the texts, and the images of the first."""
    found = []
    for row in [each for each in records(report.clarity) if each["clear"]][:N_CLEAREST]:
        layer, head, n = int(row["layer"]), int(row["head"]), int(row["texts"])
        span = report.spans[layer, head]
        images = [
            {**each, "row": each["image"]}
            for each in records(report.top_images.sort_values("place"))
            if (each["layer"], each["head"], each["rank"], each["side"]) == (layer, head, 1, "highest")
        ]
        shown = list(zip(span.texts[:n], span.explained_variance[:n], strict=True))
        found.append({**row, "texts": shown, "more": len(span.texts) - n, "images": images})
    return found


def questions(ablation: pd.DataFrame) -> dict[str, Any] | None:
    """Accuracy on each question, and how many points it loses with other parts replaced by their means."""
    rows = records(ablation)
    if not rows:
        return None
    n_layers = max(int(row["layers"]) for row in rows if row["kind"] == "attention")
    # The paper's own claim: what tells images apart is written by the last layers.
    early = max(0, n_layers - LATE_LAYERS)
    columns: list[tuple[str, str, int | None]] = [("MLPs", "mlps", None)]
    columns += [(f"attention, layers 0 to {early - 1}", "attention", early)] if early else []
    columns += [("attention, all layers", "attention", n_layers)]
    asked = []
    for name in dict.fromkeys(row["question"] for row in rows):
        own = [row for row in rows if row["question"] == name]
        base = next(row for row in own if row["kind"] == "base")
        asked.append(
            {
                "name": name,
                "classes": int(base["classes"]),
                "scored": int(base["scored"]),
                "accuracy": f"{100 * base['accuracy']:.0f}",
                "interval": f"{100 * base['low']:.0f} to {100 * base['high']:.0f}",
                "costs": [_cost(own, kind, layers) for _, kind, layers in columns],
            }
        )
    return {"columns": [title for title, _, _ in columns], "rows": asked}


def reservations(report: Report) -> list[str]:
    """What the number of images does not allow to say, a sentence each."""
    n, width = len(report.names), report.head_width
    found = []
    if n <= width:
        found.append(
            f"{n:,} images are few: a head can write in {width} directions and they show at most {n - 1} of them, so "
            f"other images may give other texts and variances. Where two shares differ by less than what stands after "
            f"±, their order is noise."
        )
    scored = [int(row["scored"]) for row in records(report.ablation)]
    if scored and min(scored) < FEW_SCORED:
        points = 100 * Z * 0.5 / math.sqrt(min(scored))
        found.append(
            f"An accuracy of {min(scored)} images is known to ±{points:.0f} points at worst: compare intervals, not "
            f"numbers."
        )
    return found


def _greatest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: -abs(row["share_mean"]))[:N_GREATEST]


def _cost(rows: list[dict[str, Any]], kind: str, layers: int | None) -> tuple[str, str]:
    """Points gained with parts replaced, and their interval; a dash where that was not measured."""
    for row in rows:
        if row["kind"] == kind and layers in (None, row["layers"]):
            low, high = _points(row["difference_low"]), _points(row["difference_high"])
            return _points(row["difference"]), f"{low} to {high}"
    return "–", ""


def _points(difference: float) -> str:
    points = round(100 * difference)
    return f"{points:+d}" if points else "0"


def _shares(row: dict[str, Any], n: int) -> tuple[str, str]:
    error = 2 * row["share_std"] / math.sqrt(max(1, n - 1))
    return f"{100 * row['share_mean']:+.1f} ± {100 * error:.1f}", f"{100 * row['share_std']:.1f}"
