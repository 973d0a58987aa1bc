"""Every figure fits a paper: no text is cut, too small or over another, and layer 0 stands in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from clip_lens_plugin.maps.crop_geometry import Placement
from clip_lens_plugin.maps.patch_text import PatchTextMap
from clip_lens_plugin.segmentation.overlays import Overlay
from clip_lens_plugin.segmentation.result import SegmentationScores
from clip_lens_plugin.views.drawing.figure_files import DPI
from clip_lens_plugin.views.drawing.layout.sheet import COLUMN, PAGE, SMALL
from clip_lens_plugin.views.figures.gallery import gallery_figure, neighbours_figure
from clip_lens_plugin.views.figures.heads.parts import parts_figure
from clip_lens_plugin.views.figures.maps.attention import all_class_rows_figure, rows_figure
from clip_lens_plugin.views.figures.maps.maps import maps_figure
from clip_lens_plugin.views.figures.maps.segmentation import segmentation_figure
from clip_lens_plugin.views.figures.maps.words import words_figure
from clip_lens_plugin.views.figures.summaries import (
    ablation_figure,
    explained_variance_figure,
    head_figure,
    layer_figure,
    text_span_completeness_figure,
)
from clip_lens_plugin.views.figures.tables import bars_figure, heads_figure
from clip_lens_plugin.views.maps.word_maps import WordMap
from clip_lens_plugin.views.report.part_grids import Blocks, PartGrid, head_blocks, layer_blocks
from tests.views.conftest import span

pytestmark = pytest.mark.slow

LONG = (
    "a photograph of the station of a small town in winter, taken from the bridge over the river, with a train and snow"
)
WIDE = "W" * 90
PHOTO = Image.new("RGB", (150, 100), "teal")
PICTURES = {i: Image.new("RGB", size, "teal") for i, size in enumerate([(30, 20), (20, 30), (60, 20), (20, 20)])}


def layers(n: int) -> pd.DataFrame:
    rows = [(part, None, 0.1, 0.05) for part in ("embed", "ln_bias", "pool_bias", "pool_mlp")]
    rows += [(part, layer, -0.2 * layer, 0.1) for part in ("heads", "mlp", "attn_bias") for layer in range(n)]
    return pd.DataFrame(rows, columns=["part", "layer", "share_mean", "share_std"]).astype({"layer": "Int64"})


def heads(n_layers: int, n_heads: int) -> pd.DataFrame:
    rows = [(layer, head, layer / 7 - head / 100) for layer in range(n_layers) for head in range(n_heads)]
    return pd.DataFrame(rows, columns=["layer", "head", "share_mean"])


def curve(n_layers: int, *questions: str) -> pd.DataFrame:
    found = []
    for question in questions:
        rows = [(str(n), "attention", n) for n in range(n_layers + 1)]
        rows += [("all MLPs", "mlps", n_layers), ("the class token's own attention", "own", n_layers)]
        found.append(pd.DataFrame(rows, columns=["ablated", "kind", "layers"]).assign(question=question))
    return pd.concat(found).assign(accuracy=0.5, low=0.4, high=0.6)


def explained(n_layers: int, n_heads: int) -> pd.DataFrame:
    rows = [(l, h, r, 0.1 * r) for l in range(n_layers) for h in range(n_heads) for r in range(1, 11)]
    return pd.DataFrame(rows, columns=["layer", "head", "rank", "explained_variance"])


def maps(n_images: int, *texts: str, cosine: bool = False) -> Figure:
    generator = torch.Generator().manual_seed(0)
    values = 1e-4 * torch.randn(n_images, len(texts), 4, 4, generator=generator)
    whole = torch.full((n_images, len(texts)), -0.25) if cosine else None
    heads = ((22, 11), (23, 10), (23, 11))
    found = PatchTextMap(values, torch.zeros(n_images, len(texts)), texts, cosine=whole, heads=heads)
    placement = Placement((150, 100), (100, 100), 1.0, 1.0, -25.0, 0.0)
    marks = ["most similar", *[""] * (len(texts) - 1)]
    return maps_figure(found, [PHOTO] * n_images, [placement] * n_images, marks, [LONG] * n_images, title=LONG)


def gallery(pictures: dict[int, Image.Image] | None) -> Figure:
    spans = [span(layer, 11, [LONG, WIDE], [0.5, 0.75], 0.1) for layer in (22, 23)]
    rows = [
        (each.layer, 11, rank, side, place, place % 4, -0.0123)
        for each in spans
        for rank in (1, 2)
        for side in ("highest", "lowest")
        for place in range(1, 6)
    ]
    images = pd.DataFrame(rows, columns=["layer", "head", "rank", "side", "place", "row", "score"])
    return gallery_figure(spans, images, pictures, dict.fromkeys(range(4), LONG))


def rows_of_attention(n_heads: int) -> Figure:
    weights = torch.full((n_heads, 18), 1.2345e-5)
    names = [f"head {head}" for head in range(n_heads)]
    return rows_figure(weights, names, ["CLS", "REG0"], PHOTO, (4, 4), f"Layer 11 {LONG}", "the class token")


def neighbours(n: int) -> Figure:
    found = [{"row": i % 4, "value": -0.987} for i in range(n)]
    return neighbours_figure(PHOTO, LONG, found, PICTURES, f"Nearest to {LONG} by layer 22, head 11")


def words(*texts: str, photograph: Image.Image | None = PHOTO) -> Figure:
    found = []
    for text in texts:
        letters = ("[start]", *text.split(), "[padding]")
        values = torch.linspace(-1, 1, 17 * len(letters)).double().unflatten(0, (17, -1)) / 1e4
        values[:, -1] = 0
        prefix = "the class token and registers"
        found.append(WordMap(LONG, text, -0.25, values, letters, prefix, (4, 4)))
    placement = None if photograph is None else Placement((150, 100), (100, 100), 1.0, 1.0, -25.0, 0.0)
    return words_figure([found], [(photograph, placement)], "nearest", title=LONG)


def over_texts(*pools: str) -> pd.DataFrame:
    keys = [("model", 0), ("all directions", 0), *((pool, m) for pool in pools for m in (10, 20, 30, 40, 50, 60))]
    table = pd.DataFrame(keys, columns=["pool", "n_texts"])
    return table.assign(accuracy=1 - 0.9 / (table["n_texts"] + 1), low=0.5, high=1.0)


def parts(rows: Blocks, columns: Blocks, *texts: str) -> Figure:
    names = [tuple(f"part {i}" for i in range(sum(n for _, n in blocks))) for blocks in (rows, columns)]
    values = torch.linspace(-1, 1, len(texts) * len(names[0]) * len(names[1])).double() / 1e4
    values = values.reshape(1, len(texts), len(names[0]), -1)
    cosine = torch.full((1, len(texts)), -0.25).double()
    summed = "of which by the deviations from the means"
    return parts_figure(PartGrid(LONG, (LONG,), texts, cosine, values, *names, rows, columns, summed), title=LONG)


def segmentation(titles: Sequence[str], n_images: int, other: float) -> Figure:
    kinds = {f"kind {i}": title for i, title in enumerate(titles)}
    rows = [
        {
            **{"image": i, "name": LONG, "text": WIDE, "group": str(i), "kind": label, "method": label},
            **{"contrast": False, "true_positive": 3, "false_positive": i, "false_negative": 2, "true_negative": 9},
            **{"unseen": 0, "void": 0, "average_precision": 1 - i / 9, "both_classes_precision": 0.5},
            **{"named": i / 9, "other": other, "seconds": 0.1},
        }
        for i in range(6)
        for label in kinds
    ]
    mask, maps = np.eye(100, 150) > 0, dict.fromkeys(kinds, np.linspace(-1, 1, 16).reshape(4, 4))
    shown = [Overlay(i, LONG, WIDE, PHOTO, mask, (0.2, 0.0, 0.6, 1.0), maps) for i in range(n_images)]
    found = SegmentationScores(pd.DataFrame(rows), kinds, "kind 0", "original", LONG, LONG, overlays=tuple(shown))
    return segmentation_figure(found, list(kinds))


FIGURES: dict[str, Callable[[], Figure]] = {
    "layers of a small model": lambda: layer_figure(layers(4)),
    "layers of a large model": lambda: layer_figure(layers(48)),
    "heads of a small model": lambda: head_figure(heads(4, 3)),
    "heads of a large model": lambda: head_figure(heads(48, 25)),
    "curve of one question": lambda: ablation_figure(curve(6, LONG)),
    "curve of many questions": lambda: ablation_figure(curve(32, LONG, WIDE, "shape", "colour", "size")),
    "accuracy over texts": lambda: text_span_completeness_figure(over_texts(LONG, WIDE)),
    "accuracy over texts of many questions": lambda: text_span_completeness_figure(
        pd.concat([over_texts(LONG, WIDE, "a", "b").assign(question=each) for each in (LONG, WIDE, "shape", "$x", "e")])
    ),
    "explained variance of one layer": lambda: explained_variance_figure(explained(1, 6)),
    "explained variance of many layers": lambda: explained_variance_figure(explained(5, 16)),
    "one map": lambda: maps(1, LONG),
    "maps of one image": lambda: maps(1, LONG, WIDE, "a dog", "a cat", "an ox", cosine=True),
    "maps of several images": lambda: maps(2, LONG, WIDE, cosine=True),
    "words": lambda: words(LONG),
    "words of several texts": lambda: words("a dog", WIDE, LONG),
    "words without a photograph": lambda: words("a dog", photograph=None),
    "layers with layers": lambda: parts(layer_blocks(24), layer_blocks(12), LONG),
    "layers with layers of small towers": lambda: parts(layer_blocks(6), layer_blocks(2), LONG, WIDE, "a dog"),
    "layers with layers of a small text tower": lambda: parts(layer_blocks(48), layer_blocks(2), "a dog", LONG),
    "heads with heads": lambda: parts(head_blocks(32, 16), head_blocks(24, 16), LONG, "a dog"),
    "texts of heads": lambda: heads_figure(
        [f"layer 23, head {i}" for i in range(30)], [[LONG]] * 30, [[0.5]] * 30, [1.0] * 30
    ),
    "bars of one panel": lambda: bars_figure(
        [LONG], [[LONG, WIDE]], [[0.5, -0.25]], "share of the head's variance (%)"
    ),
    "bars of many panels": lambda: bars_figure([LONG, WIDE] * 7, [[LONG]] * 14, [[-0.00025]] * 14, "score"),
    "attention of two heads": lambda: rows_of_attention(2),
    "attention of many heads": lambda: rows_of_attention(8),
    "class rows": lambda: all_class_rows_figure(torch.full((24, 16, 5), 0.05), PHOTO, (2, 2)),
    "class rows of a small model": lambda: all_class_rows_figure(torch.full((3, 2, 17), 0.05), PHOTO, (4, 4)),
    "segmentation": lambda: segmentation([LONG, WIDE, "$x"], 6, np.nan),
    "segmentation by many methods": lambda: segmentation([LONG, WIDE] * 12, 6, 0.3),
    "segmentation without maps": lambda: segmentation(["LeGrad"], 0, 0.3),
    "gallery": lambda: gallery(PICTURES),
    "gallery of names": lambda: gallery(None),
    "two neighbours": lambda: neighbours(2),
    "many neighbours": lambda: neighbours(9),
}


def drawn(figure: Figure) -> tuple[list[Text], np.ndarray]:
    """The texts that a picture of the figure has, and their left, bottom, right and top in pixels."""
    figure.set_dpi(DPI)
    FigureCanvasAgg(figure)
    found: list[Text] = []
    draw = Text.draw

    def draw_noted(text: Text, renderer) -> None:
        if text.get_visible() and text.get_text().strip():
            found.append(text)
        draw(text, renderer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", draw_noted)
        figure.draw_without_rendering()
    return found, np.array([text.get_window_extent().extents for text in found])


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_fits_a_paper(name):
    figure = FIGURES[name]()
    assert figure.get_figwidth() in (COLUMN, PAGE)
    assert figure.get_figheight() < 10
    texts, boxes = drawn(figure)
    assert min(text.get_fontsize() for text in texts) >= SMALL
    width, height = figure.bbox.size
    for text, (left, bottom, right, top) in zip(texts, boxes, strict=True):
        assert (left >= -1, bottom >= -1, right <= width + 1, top <= height + 1) == (True,) * 4, text
    for i, (left, bottom, right, top) in enumerate(boxes):
        inside = (
            (boxes[:, 0] < right - 1) & (boxes[:, 2] > left + 1) & (boxes[:, 1] < top - 1) & (boxes[:, 3] > bottom + 1)
        )
        inside[i] = False
        assert not inside.any(), (texts[i], texts[int(inside.argmax())])


def test_layer_0_is_at_the_top_or_at_the_left():
    grid = head_figure(heads(4, 3)).axes[0]
    top, bottom = (grid.transData.transform((0, layer))[1] for layer in (0, 3))
    assert top > bottom
    assert grid.images[0].get_array()[3, 0] == pytest.approx(300 / 7)
    _, itself, mosaic, *_ = all_class_rows_figure(torch.full((3, 2, 17), 0.05), PHOTO, (4, 4)).axes
    for axes in (grid, itself, mosaic):
        assert [tick.get_text() for tick in axes.get_yticklabels()][:2] == ["0", "1"]
        positions = axes.transData.transform([(0, y) for y in axes.get_yticks()])[:, 1]
        assert (np.diff(positions) < 0).all()
        assert axes.get_ylabel() == "layer (0 is first)"
    bars = layer_figure(layers(4)).axes[0]
    labels = {tick.get_text(): tick.get_position()[0] for tick in bars.get_xticklabels()}
    assert labels["0"] < labels["3"]
    assert bars.get_xlabel() == "layer (0 is first)"
    texts = heads_figure(["layer 0, head 1", "layer 5, head 0"], [["a"], ["b"]], [[0.5], [0.25]], [1.0, 2.0]).axes[0]
    assert [tick.get_text() for tick in texts.get_yticklabels()] == ["layer 0, head 1", "layer 5, head 0"]
    assert texts.get_ylim()[0] > texts.get_ylim()[1]
