"""Galleries: a head's texts with the images that show most and least of each, and an image's neighbours in one head."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from clip_lens_plugin.describe.spans import HeadSpan
from clip_lens_plugin.images.pictures import upright_rgb
from clip_lens_plugin.plain_text import one_line
from clip_lens_plugin.views.drawing.encoding import picture_uri
from clip_lens_plugin.views.drawing.lettering import plainly_lettered
from clip_lens_plugin.views.drawing.templates import TEMPLATES
from clip_lens_plugin.views.drawing.view import View

THUMBNAIL_SIDE = 96
MOST_OF_LABEL = 120
"""Characters of a text beside its images."""
MOST_OF_NAME = 40
"""Characters of a name in the place of a picture."""


def head_gallery_view(
    spans: Sequence[HeadSpan],
    images: pd.DataFrame,
    pictures: Mapping[int, Image.Image] | None,
    names: Mapping[int, str],
    *,
    title: str = "What heads write",
) -> View:
    """One card per head: its TextSpan texts with the variance they explain, and its images (the paper's figure 4).

    Cards stand by layer, the last layer first; in a layer, heads that vary most first.

    Args:
        spans: texts of each head, as :func:`~clip_lens_plugin.describe.spans.text_span` gives them.
        images: as :func:`~clip_lens_plugin.retrieval.extreme_images` gives them: layer, head, rank, side ("highest",
            "lowest"), place, row, score in cosine units with the mean over the images removed.
        pictures: each row's picture; None to show names in their place.
        names: each row's name.
        title: plain text.

    Raises:
        KeyError: if a picture or a name of a row is missing.
    """
    thumbnails = {} if pictures is None else _thumbnails(images["row"].tolist(), pictures)
    tops: dict[tuple, list[dict]] = {}
    for row in images.sort_values("place").to_dict("records"):
        tops.setdefault((row["layer"], row["head"], row["rank"], row["side"]), []).append(row)
    layers = [
        {"layer": layer, "cards": [_card(span, tops, names) for span in sorted(group, key=lambda s: -s.total_variance)]}
        for layer, group in _by_layer(spans)
    ]
    body = TEMPLATES.get_template("gallery.html.j2").render(
        layers=layers, thumbnails=thumbnails, prefix=_prefix(thumbnails), opened=2
    )

    def figure() -> Figure:
        return gallery_figure(spans, images, pictures, names)

    return View(title, Markup(body), figure)


def neighbours_view(
    query: Image.Image,
    nearest: pd.DataFrame,
    pictures: Mapping[int, Image.Image],
    names: Mapping[int, str],
    *,
    layer: int,
    head: int,
    query_name: str = "the image",
) -> View:
    """The images of a set to which one head writes most alike what it writes to an image (figure 1 of the paper).

    Args:
        query: the picture asked about.
        nearest: as :func:`~clip_lens_plugin.retrieval.nearest_images` gives them: place, row, similarity.
        pictures: each row's picture.
        names: each row's name.
        layer, head: which head.
        query_name: of the picture asked about.

    Raises:
        KeyError: if a picture or a name of a row is missing.
    """
    found = nearest.sort_values("place").to_dict("records")
    title = f"Nearest to {query_name} by layer {layer}, head {head}"
    body = TEMPLATES.get_template("neighbours.html.j2").render(
        query=picture_uri(query, 2 * THUMBNAIL_SIDE),
        query_name=query_name,
        found=[
            {"uri": picture_uri(pictures[row["row"]], 2 * THUMBNAIL_SIDE), "name": names[row["row"]], **row}
            for row in found
        ],
    )

    @plainly_lettered
    def figure() -> Figure:
        drawn = Figure(figsize=(1.7 * (len(found) + 1), 2.1), layout="constrained")
        axes = drawn.subplots(1, len(found) + 1, squeeze=False)[0]
        _thumb(axes[0], query, query_name)
        for one, row in zip(axes[1:], found, strict=True):
            _thumb(one, pictures[row["row"]], f"{row['similarity']:+.3f}")
        return drawn

    return View(title, Markup(body), figure)


@plainly_lettered
def gallery_figure(
    spans: Sequence[HeadSpan],
    images: pd.DataFrame,
    pictures: Mapping[int, Image.Image] | None,
    names: Mapping[int, str],
) -> Figure:
    """One line per head and text that has images: the text, its highest images, its lowest."""
    found: dict[tuple[int, int, int], list[dict]] = {}
    for row in images.to_dict("records"):
        found.setdefault((row["layer"], row["head"], row["rank"]), []).append(row)
    lines = [
        (span, rank, found[span.layer, span.head, rank])
        for _, inside in _by_layer(spans)
        for span in inside
        for rank in range(1, len(span.texts) + 1)
        if (span.layer, span.head, rank) in found
    ]
    most = max([1, *images["place"].tolist()])
    figure = Figure(figsize=(4.2 + 1.5 * most, max(1.0, 0.86 * len(lines))), layout="constrained")
    if not lines:
        figure.text(0.5, 0.5, "no images", ha="center")
        return figure
    ratios = [4.2 / 0.75, *[1] * most, 0.25, *[1] * most]
    grid = figure.subplots(len(lines), 2 * most + 2, squeeze=False, width_ratios=ratios)
    for axes in grid.ravel():
        axes.set_axis_off()
    for line, (span, rank, rows) in zip(grid, lines, strict=True):
        text, share = one_line(span.texts[rank - 1], MOST_OF_LABEL), span.explained_variance[rank - 1]
        told = f"layer {span.layer}, head {span.head}\n{text}\n{100 * share:.1f} % of its variance"
        line[0].text(0, 0.5, told, va="center", fontsize=8, wrap=True)
        for row in rows:
            at = row["place"] + (0 if row["side"] == "highest" else most + 1)
            if pictures is not None:
                _thumb(line[at], pictures[row["row"]], f"{row['score']:+.3f}")
            else:
                told = f"{one_line(names[row['row']], MOST_OF_NAME)}\n{row['score']:+.3f}"
                line[at].text(0.5, 0.5, told, ha="center", va="center", fontsize=5, wrap=True)
    return figure


def _by_layer(spans: Sequence[HeadSpan]) -> list[tuple[int, list[HeadSpan]]]:
    layers = sorted({span.layer for span in spans}, reverse=True)
    return [(layer, [span for span in spans if span.layer == layer]) for layer in layers]


def _card(span: HeadSpan, tops: Mapping[tuple, list[dict]], names: Mapping[int, str]) -> dict:
    texts, before = [], 0.0
    for i, (text, share) in enumerate(zip(span.texts, span.explained_variance, strict=True)):
        found = {
            side: [{**row, "name": names[row["row"]]} for row in tops.get((span.layer, span.head, i + 1, side), [])]
            for side in ("highest", "lowest")
        }
        texts.append({"text": text, "before": before, "share": share, **found})
        before = share
    return {"layer": span.layer, "head": span.head, "total": span.total_variance, "texts": texts}


def _thumbnails(rows: Sequence[int], pictures: Mapping[int, Image.Image]) -> dict[int, str]:
    return {row: picture_uri(pictures[row], THUMBNAIL_SIDE) for row in sorted(set(rows))}


def _prefix(thumbnails: Mapping[int, str]) -> str:
    """Of class names, so that galleries of one page keep their own pictures."""
    return "cl-g" + hashlib.sha256("".join(thumbnails.values()).encode()).hexdigest()[:8]


def _thumb(axes: Axes, picture: Image.Image, caption: str) -> None:
    axes.set_axis_on()
    axes.imshow(upright_rgb(picture))
    axes.set_title(one_line(caption, MOST_OF_LABEL), fontsize=7)
    axes.set_xticks([])
    axes.set_yticks([])
