"""Figures as PNG bytes: a grid of heads, accuracy under ablation, a patch-text map over its picture.

Signed values are white at zero, orange above and purple below, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import io

import matplotlib
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

SIGNED = "PuOr_r"
"""Colour map: purple below zero, white at zero, orange above."""

LINE_STYLES = [
    ("#0072B2", "o"),
    ("#D55E00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#000000", "v"),
    ("#E69F00", "P"),
    ("#56B4E9", "X"),
]
"""Okabe and Ito's colours, each with a marker of its own."""


def head_grid(heads: pd.DataFrame) -> bytes:
    """Layers × heads, coloured by share_mean; numbers in per cent where there is room for them.

    Args:
        heads: columns layer, head, share_mean.
    """
    grid = heads.pivot(index="layer", columns="head", values="share_mean").to_numpy()
    n_layers, n_heads = grid.shape
    figure = Figure(figsize=(1.4 + 0.55 * n_heads, 1.1 + 0.42 * n_layers), layout="constrained")
    axes = figure.add_subplot()
    limit = _limit(grid)
    drawn = axes.imshow(grid * 100, cmap=SIGNED, vmin=-100 * limit, vmax=100 * limit, aspect="auto")
    for (l, h), share in np.ndenumerate(grid):
        dark = abs(share) > 0.65 * limit
        axes.text(h, l, f"{100 * share:.1f}", ha="center", va="center", size=8, color="w" if dark else "k")
    axes.set_xticks(range(n_heads), labels=[str(h) for h in range(n_heads)])
    axes.set_yticks(range(n_layers), labels=[str(l) for l in range(n_layers)])
    axes.set_xlabel("head")
    axes.set_ylabel("layer (0 is first)")
    figure.colorbar(drawn, label="mean share of ‖M‖² (%)")
    return _png(figure)


def ablation_curves(ablation: pd.DataFrame) -> bytes:
    """Accuracy against the number of attention layers replaced by their mean, a line a question.

    Args:
        ablation: columns question, kind, layers, accuracy.
    """
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    n_layers = max(ablation["layers"].tolist())
    for i, (question, rows) in enumerate(ablation.groupby("question", sort=False)):
        colour, marker = LINE_STYLES[i % len(LINE_STYLES)]
        line = rows.query("kind != 'mlps'").sort_values("layers")
        axes.plot(line["layers"], 100 * line["accuracy"], color=colour, marker=marker, label=str(question))
        mlps = rows.query("kind == 'mlps'")
        axes.plot([n_layers + 1.5] * len(mlps), 100 * mlps["accuracy"], color=colour, marker=marker, ms=7, ls="")
    axes.axvline(n_layers + 0.75, color="0.7", lw=1)
    step = max(1, -(-n_layers // 12))
    ticks = list(range(0, n_layers + 1, step))
    axes.set_xticks([*ticks, n_layers + 1.5], labels=[*(str(tick) for tick in ticks), "all\nMLPs"])
    axes.set_ylim(-3, 103)
    axes.set_xlabel("attention layers replaced by their mean, from the first on")
    axes.set_ylabel("zero-shot accuracy (%)")
    axes.grid(axis="y", color="0.9")
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return _png(figure)


def patch_overlay(picture: Image.Image, values: Float[Tensor, "rows columns"], side: int = 320) -> Image.Image:
    """The map over its picture in grey; the stronger a value, the less of the picture shows through.

    Args:
        picture: what the model sees.
        values: signed scores; the greatest absolute one has the full colour.
        side: longer side of the result in pixels.
    """
    size = _scaled(picture.size, side)
    grey = picture.convert("L").resize(size, Image.Resampling.BICUBIC)
    light = 0.25 + 0.6 * np.asarray(grey, dtype=float)[..., None] / 255
    relative = values.numpy() / _limit(values.numpy())
    colours = matplotlib.colormaps[SIGNED](Normalize(-1, 1)(relative))[..., :3]
    alpha = 0.15 + 0.7 * np.abs(relative)
    paint = Image.fromarray(np.uint8(np.dstack([colours, alpha]) * 255), "RGBA")
    paint = np.asarray(paint.resize(size, Image.Resampling.NEAREST), dtype=float) / 255
    mixed = paint[..., :3] * paint[..., 3:] + light * (1 - paint[..., 3:])
    return Image.fromarray(np.uint8(255 * mixed))


def colour_bar(label: str) -> bytes:
    """A horizontal scale from −1 to 1."""
    figure = Figure(figsize=(4.2, 0.75), layout="constrained")
    axes = figure.add_subplot()
    ramp = np.linspace(-1, 1, 256)[None]
    axes.imshow(ramp, cmap=SIGNED, aspect="auto", extent=(-1, 1, 0, 1))
    axes.set_yticks([])
    axes.set_xticks([-1, -0.5, 0, 0.5, 1])
    axes.set_xlabel(label)
    return _png(figure)


def _scaled(size: tuple[int, int], side: int) -> tuple[int, int]:
    return max(1, round(size[0] * side / max(size))), max(1, round(size[1] * side / max(size)))


def _limit(values: np.ndarray) -> float:
    greatest = float(np.abs(values).max(initial=0.0))
    return greatest if greatest > 0 else 1.0


def _png(figure: Figure) -> bytes:
    """PNG without matplotlib's note of its own version and address."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
