"""Charts of a report as plain HTML, which scale with the page, follow its colours and take no time to draw."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from clip_lens_plugin.views.drawing.colours import ADDS, LINE_STYLES, TAKES, rgb
from clip_lens_plugin.views.drawing.templates import TEMPLATES

PART_NAMES = {"heads": "attention heads", "mlp": "MLP", "attn_bias": "attention bias"}
LABELLED_LAYERS = 12
"""Most layers whose numbers stand under a chart."""

DASHES = ("", "6 3", "2 2", "8 3 2 3")
CURVE = ("base", "attention")
"""Kinds of ablation that make the curve; others stand beside it."""


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, by column."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def layer_chart(layers: pd.DataFrame) -> Markup:
    """Bars of each layer's heads and MLP, layer 0 at the left.

    Args:
        layers: columns part, layer, share_mean (parts of 1).
    """
    bars = [row for row in records(layers) if row["part"] in ("heads", "mlp")]
    numbers = sorted({int(row["layer"]) for row in bars})
    highest = max(0.0, *(row["share_mean"] for row in bars))
    lowest = min(0.0, *(row["share_mean"] for row in bars))
    height = (highest - lowest) or 1.0
    slot = 100 / len(numbers)
    drawn = []
    for row in bars:
        share, at = float(row["share_mean"]), numbers.index(int(row["layer"]))
        drawn.append(
            {
                "part": row["part"],
                "left": slot * (at + (0.1 if row["part"] == "heads" else 0.5)),
                "top": 100 * (highest - max(share, 0.0)) / height,
                "width": 0.4 * slot,
                "height": 100 * abs(share) / height,
                "title": f"layer {row['layer']}, {PART_NAMES[row['part']]}: {100 * share:+.1f} %",
            }
        )
    ticks = [(slot * (at + 0.5), number) for at, number in _some(numbers)]
    ends = f"{100 * highest:+.0f} %", (f"{100 * lowest:+.0f} %" if lowest < 0 else "0")
    return _drawn("layers", bars=drawn, ticks=ticks, zero=100 * highest / height, ends=ends)


@dataclass(frozen=True)
class Cell:
    """A cell of a grid of layers by heads.

    Attributes:
        value_text: what stands in it.
        title: where it is pointed at.
        colour, ink: of the cell and its letters.
        under: in small letters under the value.
    """

    value_text: str
    title: str
    colour: str
    ink: str
    under: str = ""


def cell_grid(cells: Mapping[tuple[int, int], Cell], label: str) -> Markup:
    """Layers by heads, layer 0 at the top.

    Args:
        cells: by layer and head.
        label: what they are, in words.
    """
    rows: dict[int, dict[int, Cell]] = {}
    for (layer, head), cell in cells.items():
        rows.setdefault(layer, {})[head] = cell
    columns = sorted({head for _, head in cells})
    return _drawn("heads", rows=sorted(rows.items()), columns=columns, label=label)


def head_grid(heads: pd.DataFrame, roles: Mapping[tuple[int, int], str] | None = None) -> Markup:
    """Layers by heads, layer 0 at the top, coloured by share: orange adds, purple takes away; numbers in per cent.

    Args:
        heads: columns layer, head, share_mean (parts of 1).
        roles: of some heads, for who points at a cell.
    """
    rows = records(heads)
    values = {(int(row["layer"]), int(row["head"])): 100 * float(row["share_mean"]) for row in rows}
    also = {head: f"; role: {role}" for head, role in (roles or {}).items()}
    return value_grid(values, "Mean share of each head in per cent", "{:+.2f} %", "{:.1f}", also)


def value_grid(
    values: Mapping[tuple[int, int], float],
    label: str,
    pointed_at: str,
    number: str,
    also: Mapping[tuple[int, int], str] | None = None,
    under: Mapping[tuple[int, int], str] | None = None,
) -> Markup:
    """Layers by heads over the scale of their colours: orange is above zero, purple below, and NaN a dash.

    Args:
        values: by layer and head.
        label: what they are, in words.
        pointed_at: format of a value where a cell is pointed at.
        number: format of the number in a cell.
        also: words that follow it for some cells.
        under: in small letters under the number of some cells.
    """
    limit = max((abs(value) for value in values.values() if not math.isnan(value)), default=0.0) or 1.0
    cells = {}
    for (layer, head), value in values.items():
        unknown = math.isnan(value)
        title = f"layer {layer}, head {head}: {'nothing' if unknown else pointed_at.format(value)}"
        title += (also or {}).get((layer, head), "")
        shown = "–" if unknown else number.format(value)
        colours = _shade(0.0 if unknown else value / limit)
        cells[layer, head] = Cell(shown, title, *colours, (under or {}).get((layer, head), ""))
    ends = (-1.0, 0.0, 1.0) if any(value < 0 for value in values.values()) else (0.0, 1.0)
    shades, ticks = [_shade(each)[0] for each in ends], [pointed_at.format(limit * each) for each in ends]
    scale = _drawn("scale", colours=shades, ticks=ticks, label=label)
    return cell_grid(cells, label) + scale


def accuracy_chart(ablation: pd.DataFrame) -> Markup:
    """Accuracy against the number of attention layers ablated, one line per question; other sets as points beside.

    Args:
        ablation: columns question, ablated, kind, layers, accuracy, low, high (parts of 1).
    """
    rows = records(ablation)
    n_layers = max(int(row["layers"]) for row in rows if row["kind"] in CURVE)
    beside = list(dict.fromkeys(str(row["ablated"]) for row in rows if row["kind"] not in CURVE))
    gap = max(1.0, 0.2 * n_layers)
    width = n_layers + gap * (len(beside) + 0.5)
    places = {name: n_layers + gap * (1 + i) for i, name in enumerate(beside)}
    asked = list(dict.fromkeys(str(row["question"]) for row in rows))
    lines = []
    for i, name in enumerate(asked):
        own = [row for row in rows if str(row["question"]) == name]
        curve = sorted((row for row in own if row["kind"] in CURVE), key=lambda row: row["layers"])
        other = [row for row in own if row["kind"] not in CURVE]
        along = [(100 * row["layers"] / width, row) for row in curve]
        aside = [
            (100 * (places[str(row["ablated"])] + 0.08 * gap * (i - (len(asked) - 1) / 2)) / width, row)
            for row in other
        ]
        upper = [(x, 100 - 100 * row["high"]) for x, row in along]
        lower = [(x, 100 - 100 * row["low"]) for x, row in reversed(along)]
        colour = LINE_STYLES[i % len(LINE_STYLES)][0]
        lines.append(
            {
                "name": name,
                "colour": "var(--ink)" if colour == "#000000" else colour,
                "dash": DASHES[i // len(LINE_STYLES) % len(DASHES)],
                "line": _points([(x, 100 - 100 * row["accuracy"]) for x, row in along]),
                "band": _points([*upper, *lower]),
                "dots": [_dot(x, row) for x, row in [*along, *aside]],
            }
        )
    ticks = [(100 * number / width, str(number)) for _, number in _some(list(range(n_layers + 1)))]
    ticks += [(100 * place / width, name) for name, place in places.items()]
    return _drawn("accuracy", lines=lines, ticks=ticks, split=100 * (n_layers + 0.5 * gap) / width if beside else None)


def _drawn(chart: str, **data: Any) -> Markup:
    return Markup(TEMPLATES.get_template("charts.html.j2").render(chart=chart, **data))


def _some(numbers: list[int]) -> list[tuple[int, int]]:
    """Position and value of at most :data:`LABELLED_LAYERS` or so, evenly spaced from the first."""
    every = -(-len(numbers) // LABELLED_LAYERS)
    return [(at, number) for at, number in enumerate(numbers) if at % every == 0]


def _points(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in points)


def _dot(x: float, row: dict[str, Any]) -> dict[str, Any]:
    low, high = 100 * row["low"], 100 * row["high"]
    title = f"{row['ablated']} ablated: {100 * row['accuracy']:.1f} % ({low:.1f} to {high:.1f})"
    return {"left": x, "top": 100 - 100 * row["accuracy"], "title": title, "high": 100 - high, "height": high - low}


def _shade(relative: float) -> tuple[str, str]:
    """The colour of a value from −1 to 1 on white, and black or white, which stands out from it more."""
    full = ADDS if relative > 0 else TAKES
    mixed = [255 + abs(relative) * (each - 255) for each in rgb(full)]
    linear = [(c / 255 / 12.92) if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in mixed]
    light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    ink = "#000" if (light + 0.05) / 0.05 >= 1.05 / (light + 0.05) else "#fff"
    return "#" + "".join(f"{round(each):02x}" for each in mixed), ink
