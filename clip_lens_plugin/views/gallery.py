"""Galleries: a head's texts with the images that show most and least of each, and neighbours in chosen heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd
from markupsafe import Markup
from PIL import Image

from clip_lens_plugin.describe.spans import HeadSpan
from clip_lens_plugin.plain_text import printable
from clip_lens_plugin.views.drawing.encoding import picture_uri
from clip_lens_plugin.views.drawing.templates import TEMPLATES
from clip_lens_plugin.views.drawing.thumbnails import THUMBNAIL_SIDE, Thumbnails
from clip_lens_plugin.views.drawing.view import View
from clip_lens_plugin.views.words.maps import named_heads

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ADDED_TO_TEXT = "What these heads add to the cosine with the text, less the mean of that over all images."
"""What stands under images that were found by a text."""

MOST_TEXTS = 8
"""Texts of a head that are shown at once; the others are folded."""


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
    thumbnails = Thumbnails.of(images["row"].tolist(), pictures)
    body = thumbnails.style + gallery_body(spans, images, thumbnails, names)

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.gallery import gallery_figure  # matplotlib, which a page does without.

        ordered = [span for _, inside in _by_layer(spans) for span in inside]
        return gallery_figure(ordered, images, pictures, names)

    return View(title, body, figure)


def gallery_body(
    spans: Sequence[HeadSpan],
    images: pd.DataFrame,
    thumbnails: Thumbnails,
    names: Mapping[int, str],
    roles: Mapping[tuple[int, int], str] | None = None,
) -> Markup:
    """The cards of :func:`head_gallery_view`, on a page that holds the style of the thumbnails already.

    Args:
        spans, images, names: see there.
        thumbnails: of the rows; names stand in the place of those that are missing.
        roles: of some heads.
    """
    tops: dict[tuple, list[dict]] = {}
    for row in images.sort_values("place").to_dict("records"):
        tops.setdefault((row["layer"], row["head"], row["rank"], row["side"]), []).append(row)
    layers = [
        {"layer": layer, "cards": [_card(span, tops, names) for span in sorted(group, key=_least_varied_last)]}
        for layer, group in _by_layer(spans)
    ]
    template = TEMPLATES.get_template("gallery.html.j2")
    return Markup(
        template.render(layers=layers, thumbnails=thumbnails, opened=2, most_texts=MOST_TEXTS, roles=roles or {})
    )


def neighbours_view(
    query: Image.Image | str,
    nearest: pd.DataFrame,
    pictures: Mapping[int, Image.Image],
    names: Mapping[int, str],
    *,
    heads: Sequence[tuple[int, int]] = (),
    layer: int | None = None,
    head: int | None = None,
    query_name: str = "the image",
) -> View:
    """The images of a set that are like an image, or near to a text, in what heads write (figure 1 of the paper).

    Args:
        query: the picture, or the text, asked about.
        nearest: as :func:`~clip_lens_plugin.retrieval.nearest_images` or
            :func:`~clip_lens_plugin.retrieval.nearest_to_text` gives them: place, row, and similarity or score.
        pictures: each row's picture.
        names: each row's name.
        heads: (layer, head) pairs, which were asked.
        layer, head: the same of one.
        query_name: of the picture asked about.

    Raises:
        ValueError: if there is no head.
        KeyError: if a picture or a name of a row is missing.
    """
    if layer is not None and head is not None:
        heads = [*heads, (layer, head)]
    if not heads:
        raise ValueError("neighbours_view names the heads that were asked: give heads=[(5, 3)], or layer and head.")
    picture = None if isinstance(query, str) else query
    column = "score" if isinstance(query, str) else "similarity"
    asked = f"“{printable(query)}”" if isinstance(query, str) else query_name
    found = [{**row, "value": row[column]} for row in nearest.sort_values("place").to_dict("records")]
    title = f"Nearest to {asked} by {named_heads(tuple(heads))}"
    body = TEMPLATES.get_template("neighbours.html.j2").render(
        query=None if picture is None else picture_uri(picture, 2 * THUMBNAIL_SIDE),
        query_name=asked,
        measure="adds" if picture is None else "similarity",
        about=ADDED_TO_TEXT if picture is None else "",
        found=[
            {"uri": picture_uri(pictures[row["row"]], 2 * THUMBNAIL_SIDE), "name": names[row["row"]], **row}
            for row in found
        ],
    )

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.gallery import neighbours_figure

        return neighbours_figure(picture, asked, found, pictures, title)

    return View(title, Markup(body), figure)


def _by_layer(spans: Sequence[HeadSpan]) -> list[tuple[int, list[HeadSpan]]]:
    layers = sorted({span.layer for span in spans}, reverse=True)
    return [(layer, [span for span in spans if span.layer == layer]) for layer in layers]


def _least_varied_last(span: HeadSpan) -> float:
    return -span.total_variance if span.total_variance == span.total_variance else 0.0


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
