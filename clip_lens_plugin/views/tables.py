"""TextSpan's texts and the images of its directions in circuitsvis's tables of tokens."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import partial

import pandas as pd
from markupsafe import Markup

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.describe.spans import HeadSpan, TextSpanResult
from clip_lens_plugin.plain_text import one_line
from clip_lens_plugin.views.drawing.view import View, aside, drawn
from clip_lens_plugin.views.figures.tables import bars_figure, heads_figure

COLOUR = "#b35806"
NOTHING = "–"
FEWEST_COLUMNS = 5
"""circuitsvis puts headers over at least this many columns, with or without cells beneath."""

COLUMNS = ("layer", "head", "rank", "text", "side", "place", "row", "score")


def text_span_view(result: TextSpanResult, n_texts: int = 10) -> View:
    """The first texts of every head with the share of the head's variance that each explains (``TopkTokens``).

    Texts stand in the order in which they were picked, the first on top, which is nearly the order of their shares.
    A cell goes from white at 0 to blue at 1; hovering shows the number. The "sample" called "share so far" counts
    the texts above as well. A dash stands where a head was not asked for or has fewer texts. Where scripts do not
    run, the heads of the greatest variance are shown.

    Args:
        result: of :func:`~clip_lens_plugin.describe.spans.text_span`.
        n_texts: texts shown per head.

    Raises:
        ValueError: if the result has no head, or ``n_texts`` is no whole number of at least 1.
    """
    if not len(result):
        raise ValueError("The result holds no head; run text_span with one or more.")
    n_texts = checked_number("n_texts", n_texts)
    layers = sorted({layer for layer, _ in result.heads})
    n_heads = max(FEWEST_COLUMNS, 1 + max(head for _, head in result.heads))
    depth = max(1, min(n_texts, max(len(span.texts) for span in result)))
    tokens = [NOTHING, *dict.fromkeys(text for span in result for text in span.texts[:depth])]
    place = {text: i for i, text in enumerate(tokens)}
    index = [[[0] * n_heads for _ in range(depth)] for _ in layers]
    alone = [[[0.0] * n_heads for _ in range(depth)] for _ in layers]
    so_far = [[[0.0] * n_heads for _ in range(depth)] for _ in layers]
    for span in result:
        shares = zip(span.texts[:depth], _shares(span), span.explained_variance, strict=False)
        for rank, (text, share, cumulative) in enumerate(shares):
            at = layers.index(span.layer)
            index[at][rank][span.head] = place[text]
            alone[at][rank][span.head] = round(share, 4)
            so_far[at][rank][span.head] = round(cumulative, 4)
    none = [[] for _ in layers]
    labels = [as_text(token) for token in tokens]
    # Two samples also because of one alone circuitsvis shows a single head.
    props = {
        "tokens": [labels, labels],
        "topkVals": [alone, so_far],
        "topkIdxs": [index, index],
        "bottomkVals": [none, none],
        "bottomkIdxs": [none, none],
        "firstDimensionName": "Layer",
        "thirdDimensionName": "Head",
        "sampleLabels": ["share of each text", "share so far"],
        "firstDimensionLabels": [str(layer) for layer in layers],
    }
    spans = list(result)
    figure = partial(
        heads_figure,
        [f"layer {span.layer}, head {span.head}" for span in spans],
        [span.texts[:depth] for span in spans],
        [_shares(span)[:depth] for span in spans],
        [span.total_variance for span in spans],
    )
    about = aside(
        f"Texts that {result.method} picked for each head, the first on top, and the share of the head's variance over "
        "the images that each explains: white is 0, blue 1. “Sample” chooses between the share of each text and that "
        f"of all texts down to it. {NOTHING} stands where there is no such head or text; “bottomk” is empty, because "
        f"{result.method} knows no least text."
    )
    return _view("Texts of heads", about, "TopkTokens", props, figure, "The first texts of heads and their shares.")


def head_texts_view(span: HeadSpan) -> View:
    """The texts of a ``span`` in the order picked, coloured by the share of variance each explains (``ColoredTokens``).

    White is 0, full colour the greatest share; hovering shows the number.

    Raises:
        ValueError: if the head has no text.
    """
    if not span.texts:
        raise ValueError(f"{span.method} found no text for layer {span.layer}, head {span.head}: it writes nothing.")
    shares = _shares(span)
    props = {
        # A line break each, which puts the next text on a line of its own.
        "tokens": [as_text(text) + "\n" for text in span.texts],
        "values": [round(share, 4) for share in shares],
        "minValue": 0,
        "maxValue": max(*shares, 1e-9),
        "positiveColor": COLOUR,
    }
    title = f"Texts of layer {span.layer}, head {span.head}"
    per_cent = [100 * share for share in shares]
    figure = partial(bars_figure, [title], [span.texts], [per_cent], "share of the head's variance (%)")
    about = aside(
        "In the order picked. The colour is the share of the head's variance over the images that a text explains: "
        f"white is 0, full colour {100 * max(shares):.1f} %. All {len(shares)} explain "
        f"{100 * span.explained_variance[-1]:.1f} %."
    )
    return _view(title, about, "ColoredTokens", props, figure, f"{title} and their shares.")


def samples_view(table: pd.DataFrame, names: Sequence[str]) -> View:
    """Names or captions of the images that lie highest and lowest on each direction (``TopkSamples``).

    The component has two choices, so a direction, which is a layer, a head and a text, is the first and the side the
    second. It calls its list descending: images of either side stand from the greatest score to the least. Red is
    negative, blue positive, full colour the side's greatest; hovering shows the score. It shows no picture.

    Args:
        table: columns layer, head, rank, text, side, place, row, score; as many rows for every direction and side.
        names: of the images, which ``row`` counts from 0.

    Raises:
        ValueError: if a column is missing, there is no row, a score is not finite, a row has no name, or directions
            differ in their number of images.
    """
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise ValueError(f"The table lacks {', '.join(missing)}; it needs the columns {', '.join(COLUMNS)}.")
    if not len(table):
        raise ValueError("The table holds no row.")
    if not all(math.isfinite(score) for score in table["score"]):
        raise ValueError("The table holds a score that is NaN or infinite.")
    if isinstance(names, str) or not table["row"].between(0, len(names) - 1).all():
        raise ValueError(
            f"Rows run from {table['row'].min()} to {table['row'].max()}, but there are {len(names)} names."
        )
    sides = list(dict.fromkeys(table["side"]))
    lists: dict[tuple, dict[str, list[tuple[float, str]]]] = {}
    for row in table.to_dict("records"):
        direction = lists.setdefault((row["layer"], row["head"], row["rank"], row["text"]), {})
        direction.setdefault(row["side"], []).append((float(row["score"]), str(names[row["row"]])))
    lengths = {len(direction.get(side, [])) for direction in lists.values() for side in sides}
    if len(lengths) > 1:
        raise ValueError(f"Each direction and side needs as many images, got from {min(lengths)} to {max(lengths)}.")
    ordered = [[sorted(direction[side], key=lambda pair: -pair[0]) for side in sides] for direction in lists.values()]
    directions = [one_line(f"layer {layer}, head {head}, {rank}: {text}") for layer, head, rank, text in lists]
    props = {
        "tokens": [[[[as_text(name)] for _, name in side] for side in group] for group in ordered],
        "activations": [[[[float(f"{score:.4g}")] for score, _ in side] for side in group] for group in ordered],
        "zerothDimensionName": "Direction",
        "firstDimensionName": "Side",
        "zerothDimensionLabels": directions,
        "firstDimensionLabels": [one_line(str(side)) for side in sides],
    }
    figure = partial(
        bars_figure,
        [f"{side} on {direction}" for direction in directions for side in sides],
        [[name for _, name in side] for group in ordered for side in group],
        [[score for score, _ in side] for group in ordered for side in group],
        "score (cosine against the mean)",
    )
    about = aside(
        "Images that lie highest and lowest on a direction, from the greatest score to the least; red is negative, "
        "blue positive, full colour the greatest of its side."
    )
    return _view("Images of directions", about, "TopkSamples", props, figure, "Images of directions with their scores.")


def as_text(label: str) -> str:
    """The label so that circuitsvis, which sets it as markup in some places and as text in others, shows it as text.

    A word joiner (U+2060), which has no width, after each "<" and "&" keeps them from beginning a tag or a character
    reference; nothing else has a meaning in the content of an element.
    """
    return re.sub("[<&]", "\\g<0>\u2060", one_line(label))


def _shares(span: HeadSpan) -> list[float]:
    """What each pick adds to the explained variance."""
    before = [0.0, *span.explained_variance]
    return [max(0.0, after - earlier) for earlier, after in zip(before, span.explained_variance, strict=False)]


def _view(title: str, about: Markup, component: str, props: dict, figure: partial, description: str) -> View:
    body = about + drawn("circuitsvis", {"component": component, "props": props}, figure, description)
    return View(title, body, figure, with_circuitsvis=True)
