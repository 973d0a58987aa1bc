"""Cards of sparse codes: words in their order, bars of one scale, and nothing that was given is markup."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from PIL import Image

from clip_lens_plugin.describe.sparse_result import SparseText
from clip_lens_plugin.views import sparse_view
from tests.views.conftest import EVIL

PICTURES = {0: Image.new("RGB", (40, 30), "red")}


def result(both_signs: bool = False) -> SparseText:
    weights = torch.tensor([[0.5, 0.25, 0.125], [0.25, -0.05 if both_signs else 0.05, 0.0], [0.0, 0.0, 0.0]])
    nothing = torch.zeros(3, dtype=torch.float64)
    return SparseText(
        names=(EVIL, "plain.png", "empty.png"),
        texts=("a dog", EVIL, "a cat"),
        indices=torch.tensor([[2, 0, 1], [1, 2, 0], [0, 0, 0]]),
        weights=weights.double(),
        objective=nothing,
        kkt=nothing,
        cosine=torch.tensor([0.9, 0.5, torch.nan]).double(),
        lengths=nothing,
        penalty=0.25,
        k=None,
        text_mean=torch.zeros(4).double(),
        image_mean=None if both_signs else torch.zeros(4).double(),
        mean_of="means of 7 images",
    )


def test_words_stand_in_their_order_with_bars_of_one_scale() -> None:
    body = sparse_view(result(), PICTURES).body
    assert re.findall(r"</span><span>(\d\.\d{3})</span>", body) == ["0.500", "0.250", "0.125", "0.250", "0.050"]
    assert re.findall(r"width:(\d+\.\d+)%", body) == ["100.00", "50.00", "25.00", "50.00", "10.00"]
    assert re.findall(r"cosine (\d\.\d\d)<", body) == ["0.90", "0.50"]
    assert body.count("<img ") == 1
    assert body.count("No word is worth its penalty") == 1
    assert "centred by means of 7 images" in body


def test_directions_go_to_both_sides() -> None:
    body = sparse_view(result(both_signs=True)).body
    assert re.findall(r'class="(cl-\w+)" style="left:(\d+\.\d+)%;width:(\d+\.\d+)%', body)[3:] == [
        ("cl-adds", "50.00", "25.00"),
        ("cl-takes", "45.00", "5.00"),
    ]
    assert "−0.050" in body


def test_names_and_texts_are_text() -> None:
    view = sparse_view(result(), PICTURES)
    assert "<img src=x" not in view.html()
    assert "<script>" not in view.body
    assert len([axes for axes in view.figure().axes if axes.images]) == 1


def test_more_words_are_folded_and_more_vectors_left_out() -> None:
    body = sparse_view(result(), n_words=2).body
    assert "and 1 more" in body
    assert "3 words" in body
    one = result()
    flat = {name: getattr(one, name).repeat(20) for name in ("objective", "kkt", "cosine", "lengths")}
    tensors = {"indices": one.indices.repeat(20, 1), "weights": one.weights.repeat(20, 1), **flat}
    long = replace(one, names=one.names * 20, **tensors)
    view = sparse_view(long)
    assert view.body.count("<article") == 48
    assert "And 12 more" in view.body
    assert view.figure().get_size_inches()[1] < 20
    with pytest.raises(ValueError, match="n_words must be a whole number"):
        sparse_view(long, n_words=0)


def test_pictures_may_be_given_with_embeddings() -> None:
    assert result().view(images=list(PICTURES.values())).body.count("<img ") == 1
    assert result().view().body.count("<img ") == 0
