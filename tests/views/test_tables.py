"""Tables show the shares and scores that the analyses found, and labels only as text."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
import torch

from clip_lens_plugin.describe.spans import HeadSpan, TextSpanResult
from clip_lens_plugin.views.drawing.view import View
from clip_lens_plugin.views.tables import as_text, head_texts_view, samples_view, text_span_view

pytestmark = pytest.mark.slow

ATTACK = "<img src=x onerror=alert(1)>"
LABELS = [ATTACK, "</span><script>alert(1)</script>", "a & b &lt;b&gt;", "<!-- x", "<", "&", "&#60;i>", "plain", "$x_$"]


def span(
    layer: int = 1, head: int = 2, texts: list[str] | None = None, explained: list[float] | None = None
) -> HeadSpan:
    texts = ["red", "blue", "green"] if texts is None else texts
    explained = [0.5, 0.6, 0.9] if explained is None else explained
    return HeadSpan(layer, head, texts, list(range(len(texts))), explained, 2.0, torch.zeros(len(texts), 4))


def written(view: View) -> dict:
    found = re.search(r'<script type="application/json">(.*?)</script>', view.html(), re.DOTALL)
    assert found
    return json.loads(found.group(1))


def samples_table() -> pd.DataFrame:
    rows = [
        (3, 1, 1, "red", "highest", 1, 4, 0.25),
        (3, 1, 1, "red", "highest", 2, 0, 0.125),
        (3, 1, 1, "red", "lowest", 1, 2, -0.5),
        (3, 1, 1, "red", "lowest", 2, 1, -0.25),
    ]
    return pd.DataFrame(rows, columns=["layer", "head", "rank", "text", "side", "place", "row", "score"])


class Seen(HTMLParser):
    """What a browser would make of markup: its text and whether it holds elements or comments."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=False)
        self.text, self.elements = "", []
        self.feed(markup)
        self.close()

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.elements.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.elements.append(tag)

    def handle_comment(self, data: str) -> None:
        self.elements.append(data)

    def handle_entityref(self, name: str) -> None:
        self.elements.append(name)

    def handle_charref(self, name: str) -> None:
        self.elements.append(name)


@pytest.mark.parametrize("label", LABELS)
def test_a_label_set_as_markup_shows_as_its_own_text(label):
    shown = Seen(as_text(label))
    assert shown.elements == []
    assert shown.text.replace("\u2060", "") == label
    assert html.unescape(as_text(label)).replace("\u2060", "") == label


def test_plain_labels_are_left_alone():
    assert as_text("a photo of a “café” > 3") == "a photo of a “café” > 3"


def test_no_view_writes_a_label_that_begins_a_tag():
    spans = [span(texts=[ATTACK, "a&lt;b", "c"])]
    views = [
        text_span_view(TextSpanResult(spans, 4)),
        head_texts_view(spans[0]),
        samples_view(samples_table().assign(text=ATTACK), [ATTACK] * 5),
    ]
    for view in views:
        props = written(view)["props"]
        tokens = json.dumps(props["tokens"], ensure_ascii=False)
        assert "<\u2060img" in tokens
        assert not re.search("[<&](?!\u2060)", tokens)
        assert "<img src=x" not in view.html()


def test_a_heads_texts_have_the_share_that_each_adds():
    props = written(head_texts_view(span()))["props"]
    assert [token.strip() for token in props["tokens"]] == ["red", "blue", "green"]
    assert props["values"] == pytest.approx([0.5, 0.1, 0.3], abs=1e-4)
    assert (props["minValue"], props["maxValue"]) == (0, pytest.approx(0.5))


def test_each_head_stands_in_its_layer_and_column_in_the_order_picked():
    spans = [span(1, 2), span(3, 6, ["blue", "red"], [0.2, 0.6])]
    props = written(text_span_view(TextSpanResult(spans, 4)))["props"]
    assert props["firstDimensionLabels"] == ["1", "3"]

    def column(sample: int, layer: int, head: int) -> list[tuple[str, float]]:
        index, values = props["topkIdxs"][sample][layer], props["topkVals"][sample][layer]
        return [(props["tokens"][sample][i[head]], v[head]) for i, v in zip(index, values, strict=True)]

    assert column(0, 0, 2) == [("red", 0.5), ("blue", 0.1), ("green", 0.3)]
    assert column(1, 0, 2) == [("red", 0.5), ("blue", 0.6), ("green", 0.9)]
    assert column(0, 1, 6) == [("blue", 0.2), ("red", 0.4), ("–", 0.0)]
    assert column(0, 1, 2) == [("–", 0.0)] * 3
    assert all(len(row) == 7 for layers in props["topkVals"] for layer in layers for row in layer)


def test_no_more_texts_are_shown_than_asked_for():
    props = written(text_span_view(TextSpanResult([span()], 4), n_texts=2))["props"]
    assert [len(layer) for layer in props["topkVals"][0]] == [2]
    assert "green" not in props["tokens"][0]


def test_images_stand_under_their_direction_and_side_from_the_greatest_score_down():
    props = written(samples_view(samples_table(), ["a", "b", "c", "d", "e"]))["props"]
    assert props["zerothDimensionLabels"] == ["layer 3, head 1, 1: red"]
    assert props["firstDimensionLabels"] == ["highest", "lowest"]
    assert props["tokens"] == [[[["e"], ["a"]], [["b"], ["c"]]]]
    assert props["activations"] == [[[[0.25], [0.125]], [[-0.25], [-0.5]]]]


def test_the_static_bars_are_the_numbers_and_their_labels_are_not_mathematics():
    axes = head_texts_view(span(texts=["$x_$", "b" * 90, "c"])).figure().axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([50, 10, 30])
    labels = axes.get_yticklabels()
    assert labels[0].get_text() == "$x_$"
    assert labels[1].get_text().endswith("b…")
    widths = [bar.get_width() for bar in text_span_view(TextSpanResult([span()], 4)).figure().axes[0].patches]
    assert widths == pytest.approx([50, 10, 30])
    samples = samples_view(samples_table(), list("abcde")).figure().axes[1]
    assert [bar.get_width() for bar in samples.patches] == [-0.25, -0.5]


@pytest.mark.parametrize("label", LABELS)
def test_pictures_are_drawn_of_any_label(label):
    one = span(texts=[label], explained=[0.5])
    for view in (head_texts_view(one), text_span_view(TextSpanResult([one], 4))):
        assert view.png.startswith(b"\x89PNG")


def test_empty_results_are_refused():
    with pytest.raises(ValueError, match="no head"):
        text_span_view(TextSpanResult([], 4))
    with pytest.raises(ValueError, match="n_texts must be a whole number of at least 1, got 0"):
        text_span_view(TextSpanResult([span()], 4), n_texts=0)
    with pytest.raises(ValueError, match="no text for layer 1, head 2"):
        head_texts_view(span(texts=[], explained=[]))


@pytest.mark.parametrize(
    ("table", "names", "message"),
    [
        (samples_table().drop(columns="side"), ["a"] * 5, "lacks side"),
        (samples_table()[:0], ["a"] * 5, "no row"),
        (samples_table().assign(score=float("nan")), ["a"] * 5, "NaN"),
        (samples_table(), ["a"] * 4, "0 to 4, but there are 4 names"),
        (samples_table(), "abcde", "names"),
        (samples_table()[:3], ["a"] * 5, "from 1 to 2"),
        (samples_table().assign(row=-1), ["a"] * 5, "-1"),
    ],
)
def test_tables_that_do_not_fit_are_refused(table, names, message):
    with pytest.raises(ValueError, match=message):
        samples_view(table, names)
