"""Words and patches on pages and in figures: the interaction's own numbers, on the photograph, no text as markup."""

from __future__ import annotations

import base64
import json
import re
from itertools import pairwise

import jaxtyping
import numpy as np
import open_clip
import pytest
from torchvision.transforms import Compose, GaussianBlur

from clip_lens_plugin import HookedCLIP, decompose, interaction
from clip_lens_plugin.decomposition.running.runs import decompose_images
from clip_lens_plugin.images.photographs import Photograph
from clip_lens_plugin.maps.crop_geometry import Placement
from clip_lens_plugin.scenes import draw, sample_scenes
from clip_lens_plugin.views import interaction_view
from clip_lens_plugin.views.drawing.colours import OPACITY
from clip_lens_plugin.views.drawing.layout.sheet import text_width
from clip_lens_plugin.views.drawing.numbers import places_for
from clip_lens_plugin.views.figures.maps.words import PAD, ROOM, word_boxes
from clip_lens_plugin.views.maps.word_maps import named_prefix, word_maps
from tests.conftest import random_images
from tests.support.families import FAMILIES
from tests.support.text_families import TEXT_FAMILIES, some_ids
from tests.views.conftest import EVIL, EVIL_TEXT

TEXTS = ["two small red circles", EVIL_TEXT]
PHOTOS = [draw(scene).resize((84, 56)) for scene in sample_scenes(2, seed=1)]


@pytest.fixture(scope="module")
def scenes() -> HookedCLIP:
    return HookedCLIP.from_pretrained("scenes", device="cpu")


@pytest.fixture(scope="module")
def found(scenes):
    given = interaction(scenes, PHOTOS, TEXTS)
    given.images._of((Photograph(PHOTOS[0], EVIL), Photograph(PHOTOS[1], "second.png")))
    return given


def data_of(view) -> list[dict]:
    return [json.loads(each) for each in re.findall(r'<script type="application/json">(.*?)</script>', view.body)]


def decoded(packed: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed["float32"]), "<f4").reshape(packed["shape"])


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def test_the_page_holds_the_interactions_own_numbers_and_the_crop(found, scenes):
    words = found.words()
    for i, data in enumerate(data_of(found.view())):
        for t, packed in enumerate(data["values"]):
            np.testing.assert_allclose(decoded(packed), words[t][i].numpy(), rtol=1e-6, atol=1e-8)
        assert data["cosine"] == pytest.approx(found.cosine[i].tolist())
        assert data["words"][0] == ["[start]", "two", "small", "red", "circles", "[end]", "[padding]"]
        assert data["nothing"][0] == [False] * 6 + [True]
        assert (data["texts"], data["prefix"], data["grid"], data["unseen"]) == (TEXTS, "the class token", [7, 7], True)
        boxes = Placement.of(scenes.preprocess, (84, 56), scenes.cfg.image_size).patch_boxes((7, 7))
        left, top, width, height = data["crop"]
        assert (left * 84, top * 56) == pytest.approx(tuple(boxes[0, 0, :2]))
        assert ((left + width) * 84, (top + height) * 56) == pytest.approx(tuple(boxes[-1, -1, 2:]))


def test_without_scripts_the_words_have_their_numbers_and_colours(found):
    body = found.view(images=[1], texts=[0]).body
    shown = re.findall(r'<span class="cl-word"( style="background:#\w+")><span>(.*?)</span><span.*?>(.*?)</span>', body)
    added = found.words()[0][1, 1:].sum(0)
    assert [word for _, word, _ in shown] == ["[start]", "two", "small", "red", "circles", "[end]"]
    assert [number(each) for _, _, each in shown] == pytest.approx(added[:6].tolist(), abs=6e-5)
    for (style, _, _), value in zip(shown, added, strict=False):
        red, green, blue = (int(style[at : at + 2], 16) for at in (-7, -5, -3))
        assert (red > blue) == bool(value > 0), (style, value)
        assert green <= 255
    assert '<span class="cl-word cl-nothing"><span>[padding]</span>' in body
    assert "<b>cosine " in body


def test_names_and_texts_are_no_markup(found):
    for options in ({}, {"of": "layers", "images": [0], "texts": [1]}):
        body = found.view(**options).body
        assert "<script>x" not in body
        assert "<img src=x" not in body
    for of in ("words", "heads"):
        figure = found.view(of=of, images=[0], texts=[1]).figure()
        assert any("$text" in text.get_text() for text in figure.texts)
        assert not any(text.get_parse_math() for text in figure.texts)
    assert len(found._repr_html_()) < 150_000


def test_pixels_have_no_photograph_and_one_can_be_given(scenes):
    plain = interaction(scenes, scenes.prepare(PHOTOS[:1]), TEXTS[:1])
    (data,) = data_of(plain.view())
    assert (data["picture"], data["crop"], data["name"]) == (None, [0, 0, 1, 1], "image 0")
    (painted,) = plain.view().figure().axes[0].images
    painted = painted.get_array()
    by_patch = plain.words()[0][0, 1:].sum(1).reshape(7, 7)
    expected = OPACITY * by_patch.abs() / by_patch.abs().max()
    np.testing.assert_allclose(painted[..., 3], expected.numpy(), atol=4e-3)
    (data,) = data_of(interaction_view(plain, PHOTOS[:1]))
    assert data["picture"].startswith("data:image/jpeg")
    assert data["unseen"]
    blurred = HookedCLIP.from_open_clip(
        scenes.clip, tokenizer=scenes.tokenizer, preprocess=Compose([GaussianBlur(3), scenes.preprocess])
    )
    (data,) = data_of(interaction(blurred, PHOTOS[:1], TEXTS[:1]).view())
    assert data["picture"] is None
    with pytest.raises(ValueError, match="1 images need as many pictures, got 2"):
        plain.view(pictures=PHOTOS)


@pytest.mark.parametrize(
    ("name", "prefix", "before"),
    [("registers", "the class token and registers", 4), ("SigLIP with registers", "registers", 2), ("SigLIP", "", 0)],
)
def test_tokens_before_the_patches_are_shown_beside(name, prefix, before):
    model = HookedCLIP.from_open_clip(FAMILIES[name](), tokenizer=open_clip.get_tokenizer("ViT-B-32"))
    given = interaction(model, random_images(model, 1), "a dog")
    (data,) = data_of(given.view())
    assert data["prefix"] == prefix == named_prefix(model.cfg.prefix_names)
    values = decoded(data["values"][0])
    assert len(values) == before + 16
    ((each,),) = word_maps(given, ["image 0"])
    assert each.of_prefix == pytest.approx(float(values[:before].sum()), abs=1e-6)
    assert each.by_patch.flatten().tolist() == pytest.approx(values[before:].sum(1).tolist(), abs=1e-6)
    sums = [float(each.of_patches.sum()), each.of_prefix, each.rest]
    assert sum(sums) == pytest.approx(float(given.cosine), abs=1e-6)


@pytest.mark.parametrize(("name", "carries"), [("OpenAI's", False), ("MobileCLIP", True)])
def test_padding_is_greyed_where_it_carries_nothing(name, carries):
    """Behind the end of the text: a causal tower cannot look there, another can."""
    model = HookedCLIP.from_open_clip(TEXT_FAMILIES[name]())
    (data,) = data_of(interaction(model, random_images(model, 1), some_ids(1)).view())
    assert data["nothing"][0] == [False] * 4 + [not carries] * 8


def test_of_many_the_first_are_shown_and_others_chosen(found, scenes):
    many = interaction(scenes, found.images.select([0, 1] * 5), [f"text {i}" for i in range(9)])
    view = many.view()
    assert len(data_of(view)) == 4
    assert "The first 4 of 10 images; view(images=[...]) shows others." in view.body
    assert "The first 4 of 9 texts; view(texts=[...]) shows others." in view.body
    chosen = many.view(images=[9], texts=[8, 2])
    (data,) = data_of(chosen)
    assert (data["name"], data["texts"]) == ("second.png", ["text 8", "text 2"])
    np.testing.assert_allclose(decoded(data["values"][0]), many.words()[8][9].numpy(), rtol=1e-4, atol=1e-7)
    assert "shows others" not in chosen.body
    with pytest.raises(ValueError, match="shows 1 to 8 images, got 10 of 10"):
        many.view(images=slice(None))
    with pytest.raises(IndexError, match="text"):
        many.view(texts=[9])


def test_what_is_not_known_is_said(found, scenes, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=r"of must be .*'word'"):
        found.view(of="word")
    whole = interaction(scenes, decompose_images(scenes, PHOTOS), TEXTS)
    with pytest.raises(ValueError, match="tokens"):
        whole.view()
    assert "<table" in whole._repr_html_()
    assert "cosine" in whole.view(of="layers", images=[0], texts=[0]).body
    _, cache = scenes.text.run_with_cache(TEXTS)
    nameless = interaction(scenes, found.images, decompose(scenes.text, cache))
    with pytest.raises(ValueError, match="not known of a cache"):
        nameless.view()
    assert "text 1" in nameless._repr_html_()
    pool = ["red circle", "blue star"]
    centred = interaction(scenes, found.images, found.texts, centred=(found.images, pool))
    assert "Words and patches are not centred." in centred.view().body


def test_the_figure_has_the_words_beside_the_photograph(found):
    figure = found.view(images=[0], texts=[0]).figure()
    photograph, words, *bars = figure.axes
    by_patch = found.words()[0][0, 1:].sum(1).reshape(7, 7)
    alpha = photograph.images[1].get_array()[..., 3]
    np.testing.assert_allclose(alpha, (OPACITY * by_patch.abs() / by_patch.abs().max()).numpy(), atol=4e-3)
    drawn = [text.get_text() for text in words.texts]
    by_word = found.words()[0][0, 1:].sum(0)
    assert drawn[:-2:2] == ["[start]", "two", "small", "red", "circles", "[end]"]
    assert [number(each) for each in drawn[1:-2:2]] == pytest.approx(by_word[:6].tolist(), abs=6e-5)
    assert drawn[-2:] == ["[padding]", "0"]
    faces = [patch.get_facecolor() for patch in words.patches]
    relative = (by_word / by_word.abs().max())[:6]
    assert [face[3] for face in faces[:6]] == pytest.approx((OPACITY * relative.abs()).tolist(), abs=4e-3)
    limits = [float(by_patch.abs().max()), float(by_word.abs().max())]
    assert [bar.get_xlim()[1] for bar in bars] == pytest.approx(limits)
    assert [bar.get_xlabel() for bar in bars] == ["added by a patch (cosine)", "added by a word (cosine)"]
    lines = [text.get_text() for text in figure.texts]
    bold = [text.get_text() for text in figure.texts if text.get_weight() == "bold"]
    assert bold == [f"cosine {float(found.cosine[0, 0]):+.4f}".replace("-", "−")]
    parts = [number(line.split()[-1]) for line in lines if line.startswith(("of which", "by "))]
    assert len(parts) == 3
    assert sum(parts) == pytest.approx(float(found.cosine[0, 0]), abs=2e-4)


def test_words_stay_in_their_room(scenes):
    long = "a photograph of an extraordinarily " + "long" * 40 + " street with " + "many trees and houses " * 3
    given = interaction(scenes, PHOTOS[:1], long)
    ((each,),) = word_maps(given, ["image 0"])
    boxes = word_boxes(each)
    assert len(boxes) == len(each.letters)
    for box, after in pairwise(boxes):
        assert box.left + box.width <= ROOM + 1e-9
        assert after.top > box.top or after.left >= box.left + box.width
        assert text_width(box.word, 7.5) <= box.width - 2 * PAD + 1e-9


@pytest.mark.parametrize(
    ("greatest", "places"), [(0.0, 4), (3.0, 4), (0.012, 4), (0.0012, 4), (0.00034, 5), (1e-12, 8)]
)
def test_small_numbers_have_more_places(greatest, places):
    assert places_for(greatest) == places


@pytest.mark.parametrize("of", ["layers", "heads"])
def test_grids_have_layer_0_at_the_top_and_the_left(found, of):
    *grids, bar = found.view(of=of, texts=[1]).figure().axes
    values = (found.layers() if of == "layers" else found.heads().flatten(2, 3).flatten(3, 4))[:, 1]
    for at, axes in enumerate(grids):
        np.testing.assert_allclose(axes.images[0].get_array(), values[at].numpy(), rtol=1e-4, atol=1e-7)
        low, high = axes.get_ylim()
        assert low > high
        names = [[label.get_text() for label in labels] for labels in (axes.get_yticklabels(), axes.get_xticklabels())]
        ends = (["embed"], ["rest"]) if of == "layers" else ([], [])
        assert names == [[*ends[0], *(str(layer) for layer in range(n)), *ends[1]] for n in (6, 2)]
        middle = axes.get_yticks()[names[0].index("3")]
        assert middle == ({"layers": 1 + 3 * 2 + 0.5, "heads": 3 * 8 + 3.5}[of])
    limit = float(values.abs().max())
    assert bar.get_xlim() == pytest.approx((-limit, limit))
    assert bar.get_xlabel() == "added by two parts together (cosine), one scale for all"


def test_the_greatest_pairs_of_layers_are_listed(found):
    body = found.view(of="layers", images=[0]).body
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", body)[1:]]
    table = found.to_dataframe().iloc[: 2 * 14 * 6]
    greatest = table.loc[table["value"].abs().sort_values(ascending=False).index[:12]]
    assert [number(row[4]) for row in rows] == pytest.approx(greatest["value"].tolist(), abs=6e-6)
    assert [row[2:4] for row in rows] == greatest[["image_part", "text_part"]].to_numpy().tolist()
