"""Texts, classifiers and means in their forms, and what is refused in one sentence."""

from __future__ import annotations

from dataclasses import replace

import jaxtyping
import pytest
import torch

from clip_lens_plugin import HookedCLIP, TextPool, explain, text_span
from clip_lens_plugin.ablation import zero_ablation
from clip_lens_plugin.decisions.explaining import DESCRIBED, NoGapError
from clip_lens_plugin.statistics.means import ComponentSums
from tests.conftest import random_clip, random_images
from tests.decisions.conftest import classifier, unit
from tests.support.families import FAMILIES

TEXTS = ["a dog", "a cat"]


def test_the_other_order_is_the_other_sign(plain) -> None:
    image = random_images(plain, 1)
    one, other = explain(plain, image, *TEXTS, random_sets=3), explain(plain, image, *TEXTS[::-1], random_sets=3)
    assert one.gap == pytest.approx(-other.gap, abs=1e-12)
    assert (one.answer, one.other, one.flips) == (other.answer, other.other, other.flips)
    assert one.answer == one.texts[0 if one.gap > 0 else 1]
    assert [each.heads for each in one.removed] == [each.heads for each in other.removed]
    torch.testing.assert_close(torch.tensor(one.removed[0].random), -torch.tensor(other.removed[0].random))
    assert one.sentences() == other.sentences()


def test_of_a_classifier_the_two_nearest_are_compared(plain) -> None:
    image, texts = random_images(plain, 1), unit(6, 24)
    found = explain(plain, image, classifier(texts), random_sets=0)
    nearest = (texts @ plain(image)[0]).argsort(descending=True)[:2].tolist()
    assert found.texts == tuple(f"text {i}" for i in nearest)
    assert found.gap > 0
    assert all(each.nearest in classifier(texts).names for each in found.removed)


def test_patches_are_a_map(plain) -> None:
    found = explain(plain, random_images(plain, 1), *TEXTS, random_sets=0)
    maps, rows = found.map(), found.patches.rows
    by_place = rows.query("part == 'patch'").set_index(["row", "column"])["gap"]
    assert maps.values[0, 0, 3, 1].item() == by_place[3, 1]
    assert maps.class_token.item() == rows.query("part == 'class token'")["gap"].item()
    table = found.to_dataframe()
    assert list(table.groupby("table")["gap"].sum()) == pytest.approx([found.gap] * 3, abs=1e-12)


def test_heads_are_described_on_the_images_of_the_means(plain) -> None:
    image, others, pool = random_images(plain, 1), random_images(plain, 6, seed=1), TextPool(["red", "blue", "a dog"])
    found = explain(plain, image, *TEXTS, means=others, texts=pool, random_sets=0)
    assert found.spans is not None
    largest = found.heads.rows.query("part == 'head'").head(DESCRIBED)
    wanted = {*zip(largest["layer"], largest["head"], strict=True), *(h for each in found.removed for h in each.heads)}
    assert set(found.spans.heads) == wanted
    head = found.removed[0].heads[0]
    assert found.spans[head].texts == text_span(plain, others, pool, 3, [head])[head].texts
    again = explain(plain, image, *TEXTS, texts=found.spans, random_sets=0)
    assert (again.spans, again.ablation) == (found.spans, "zero")


REFUSED = {
    "the same text": (("a dog", " a dog "), {}, "are the same"),
    "blank": (("a dog", " "), {}, "takes two texts"),
    "one text": (("a dog",), {}, "takes two texts"),
    "a list": ((["a dog", "a cat"],), {}, r"ZeroShotClassifier\.from_labels"),
    "no text": ((5, "a cat"), {}, "takes two texts"),
    "texts without means": (TEXTS, {"texts": ["red"]}, "give means as well"),
    "random_sets": (TEXTS, {"random_sets": -1}, "random_sets must be a whole number of at least 0"),
    "seed": (TEXTS, {"seed": 0.5}, "seed must be a whole number of at least 0"),
    "batch_size": (TEXTS, {"batch_size": 0}, "batch_size must be a whole number of at least 1"),
    "no images": (TEXTS, {"means": "nowhere.png"}, "There is no picture"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.filterwarnings("error")
def test_what_is_no_question_is_refused(plain, kind, monkeypatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # As outside of tests.
    given, options, message = REFUSED[kind]
    with pytest.raises(ValueError, match=message) as caught:
        explain(plain, random_images(plain, 1), *given, **options)
    assert "\n" not in str(caught.value)


def test_classifiers_that_are_no_question_are_refused(plain) -> None:
    image, texts = random_images(plain, 1), unit(2, 24)
    with pytest.raises(ValueError, match="two classes or more"):
        explain(plain, image, classifier(texts[:1]))
    with pytest.raises(ValueError, match="leave out the text 'a cat'"):
        explain(plain, image, classifier(texts), "a cat")
    with pytest.raises(ValueError, match=r"must be \[texts, 24\]"):
        explain(plain, image, classifier(unit(2, 20)))
    with pytest.raises(NoGapError, match="as near to 'text 0' as to 'text 1'"):
        explain(plain, image, classifier(texts[[0, 0]]))


def test_means_of_another_model_are_refused(plain) -> None:
    image, others = random_images(plain, 1), random_images(plain, 3)
    other = HookedCLIP.from_open_clip(random_clip(dtype=torch.float64, seed=5))
    with pytest.raises(ValueError, match="means are of another model"):
        explain(plain, image, *TEXTS, means=other.decompose(others))
    narrow = replace(ComponentSums.of(plain.decompose(others)), coordinates=torch.zeros(3, 4, 11))
    with pytest.raises(ValueError, match=r"is \[3, 4, 11\] there and \[3, 4, 12\] here"):
        explain(plain, image, *TEXTS, means=narrow)
    in_other_units = ComponentSums.from_contributions(plain.decompose(others))
    with pytest.raises(ValueError, match="expected 'cosine'"):
        explain(plain, image, *TEXTS, means=in_other_units)
    siglip = HookedCLIP.from_open_clip(FAMILIES["SigLIP"]())
    images, asked = random_images(siglip, 4), classifier(unit(2, siglip.cfg.d_embed))
    with pytest.raises(ValueError, match=r"heads of the attention pool .* Give images as means"):
        explain(siglip, images[:1], asked, means=siglip.decompose(images))
    assert explain(siglip, images[:1], asked, means=images, random_sets=0).ablation == "mean"


def test_left_hooks_are_refused_and_those_around_the_call_are_explained(plain) -> None:
    image, point = random_images(plain, 1), "blocks.1.attn.hook_v"
    plain.add_hook(point, zero_ablation([0]))
    with pytest.raises(ValueError, match="hooks were left"):
        explain(plain, image, *TEXTS)
    plain.reset_hooks()
    with plain.hooks(fwd_hooks=[(point, zero_ablation([0]))]):
        found = explain(plain, image, *TEXTS, random_sets=0)
    assert found.heads.rows.query("layer == 1 and head == 0")["gap"].item() == 0
    assert max(table.error for table in found.tables) < 1e-12
