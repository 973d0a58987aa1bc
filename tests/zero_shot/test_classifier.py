"""Zero-shot classifiers against open_clip's own, and accuracies against a plain restatement."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
from jaxtyping import TypeCheckError

from clip_lens_plugin import HookedCLIP, ZeroShotClassifier, mean_ablation_curve
from clip_lens_plugin.texts.embedding import CACHE_VARIABLE
from clip_lens_plugin.zero_shot import classifier as zero_shot
from clip_lens_plugin.zero_shot.classifier import ZeroShotAccuracy
from tests.adapters.conversion import image_features, siglip_model
from tests.conftest import random_clip, random_images
from tests.support.families import FAMILIES

LABELS = ("a dog", "a cat", "a house", "the sea", "a red car", "an old tree", "snow")
TEMPLATES = ("{}", "a photo of {}", lambda text: f"a drawing of {text}.")


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, "")


@pytest.fixture
def planted() -> tuple[ZeroShotClassifier, torch.Tensor, torch.Tensor]:
    """A classifier, and 60 images of five classes that lie near their class's text; the last ten are unknown."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.nn.functional.normalize(torch.randn(7, 12, generator=generator), dim=-1)
    labels = torch.randint(5, (60,), generator=generator)
    images = classes[labels] + 0.7 * torch.randn(60, 12, generator=generator)
    labels[50:] = -1
    return ZeroShotClassifier(LABELS, classes, 100.0), images * 3, labels


def open_clips(model, names, templates):
    return open_clip.build_zero_shot_classifier(model.clip, model.tokenizer, names, templates).T


@pytest.mark.parametrize("templates", [TEMPLATES[:2], TEMPLATES[2:], ("{}",)])
def test_embeddings_are_open_clips(model, templates):
    found = ZeroShotClassifier.from_labels(model, LABELS, templates)
    assert found.names == LABELS
    torch.testing.assert_close(found.embeddings, open_clips(model, LABELS, templates))


def test_texts_and_functions_may_be_mixed(model):
    found = ZeroShotClassifier.from_labels(model, list(LABELS), TEMPLATES)
    as_functions = [TEMPLATES[0].format, TEMPLATES[1].format, TEMPLATES[2]]
    torch.testing.assert_close(found.embeddings, open_clips(model, LABELS, as_functions))


def test_imagenet_is_open_clips_with_names_of_their_own(model, monkeypatch):
    monkeypatch.setattr(zero_shot, "OPENAI_IMAGENET_TEMPLATES", open_clip.OPENAI_IMAGENET_TEMPLATES[:2])
    steps: list[tuple[int, int]] = []
    found = ZeroShotClassifier.from_imagenet(model, lambda *step: steps.append(step))
    expected = open_clips(model, open_clip.IMAGENET_CLASSNAMES, open_clip.OPENAI_IMAGENET_TEMPLATES[:2])
    torch.testing.assert_close(found.embeddings, expected)
    assert len(set(found.names)) == 1000
    changed = {i: name for i, name in enumerate(found.names) if name != open_clip.IMAGENET_CLASSNAMES[i]}
    assert changed == {744: "missile (2)", 837: "sunglasses (2)"}
    assert steps[-1] == (2000, 2000)


def test_imagenet_uses_all_of_open_clips_templates(model, monkeypatch):
    names = ["tench", "crane", "crane"]
    monkeypatch.setattr(zero_shot, "IMAGENET_CLASSNAMES", names)
    found = ZeroShotClassifier.from_imagenet(model)
    assert found.names == ("tench", "crane", "crane (2)")
    torch.testing.assert_close(found.embeddings, open_clips(model, names, open_clip.OPENAI_IMAGENET_TEMPLATES))


def test_attached_classes_are_the_models_vocabulary(model):
    found = ZeroShotClassifier.from_labels(model, LABELS)
    found.attach(model)
    assert model.to_single_token("a house") == 2
    torch.testing.assert_close(model.W_U, model.W_P @ found.embeddings.T)
    images = random_images(model)
    embedding, cache = model.run_with_cache(images)
    dots = model.unembed(cache["ln_final.hook_normalized"][:, 0] * model.ln_final.w + model.ln_final.b)
    torch.testing.assert_close(dots, found.cosines(embedding) * embedding.norm(dim=-1, keepdim=True))


def test_logits_are_clips_own(model):
    images = random_images(model)
    with torch.no_grad():
        features, texts, scale = model.clip(images, model.tokenizer(list(LABELS)))
        expected = scale * features @ texts.T
        found = ZeroShotClassifier.from_labels(model, LABELS)
        embedding = model(images)
    torch.testing.assert_close(found.logits(embedding), expected)
    torch.testing.assert_close(found.cosines(7 * embedding), features @ texts.T)


def test_siglips_bias_is_part_of_its_logits(tokenizer):
    """Against open_clip's and Hugging Face's own forward."""
    clip = random_clip({"init_logit_bias": -10.0}, torch.float64)
    model = HookedCLIP.from_open_clip(clip, tokenizer=tokenizer)
    images = random_images(model)
    with torch.no_grad():
        features, texts, scale, bias = clip(images, tokenizer(list(LABELS)))
        embedding = model(images)
    found = ZeroShotClassifier.from_labels(model, LABELS)
    assert (model.logit_bias, found.logit_bias) == (-10.0, -10.0)
    torch.testing.assert_close(found.logits(embedding), scale * features @ texts.T + bias)
    assert HookedCLIP.from_open_clip(random_clip()).logit_bias == 0.0
    assert ZeroShotClassifier(LABELS, found.embeddings, 1.0).logit_bias == 0.0


@pytest.mark.filterwarnings("ignore:1 of 7 texts leave nothing")  # Its stand-in for a tokenizer reads no text.
@pytest.mark.parametrize("second", [False, True])
def test_hugging_faces_siglip_has_its_bias_too(second):
    source = siglip_model(FAMILIES["SigLIP"](), second)
    with torch.no_grad():
        source.logit_bias.fill_(-3.5)
        source.logit_scale.fill_(1.5)
    ids = torch.randint(2, 30, (7, source.config.text_config.max_position_embeddings))
    model = HookedCLIP.from_transformers(source, tokenizer=lambda texts: ids[: len(texts)])
    images = random_images(model)
    found = ZeroShotClassifier.from_labels(model, LABELS)
    with torch.no_grad():
        if second:
            cosines = torch.nn.functional.normalize(image_features(source, images), dim=-1) @ found.embeddings.T
            expected = source.logit_scale.exp() * cosines + source.logit_bias
        else:
            expected = source(input_ids=ids, pixel_values=images).logits_per_image
        torch.testing.assert_close(found.logits(model(images)), expected)
    assert found.logit_bias == -3.5


def test_a_classifier_of_another_model_is_not_attached(tokenizer):
    model = HookedCLIP.from_open_clip(random_clip(), tokenizer=tokenizer)
    found = ZeroShotClassifier.from_labels(model, LABELS)
    other = HookedCLIP.from_open_clip(random_clip(seed=1), tokenizer=tokenizer)
    with pytest.raises(ValueError, match="another model"):
        found.attach(other)
    assert other.labels is None
    with pytest.raises(ValueError, match="another model"):
        mean_ablation_curve(other.decompose(random_images(other, 7)), found, torch.arange(7))
    found.attach(HookedCLIP.from_open_clip(random_clip().bfloat16(), tokenizer=tokenizer))
    found.attach(HookedCLIP.from_open_clip(random_clip(seed=1)))  # Without a tokenizer it has no texts to compare.
    ZeroShotClassifier(LABELS, found.embeddings, 1.0).attach(other)


def test_accuracy_is_that_of_a_plain_restatement(planted):
    classifier, images, labels = planted
    found = classifier.accuracy(images, labels)
    scores = images[:50].double().numpy() @ classifier.embeddings.double().numpy().T
    order = np.argsort(-scores, axis=1)
    truth = labels[:50].numpy()
    first, five = order[:, 0] == truth, (order[:, :5] == truth[:, None]).any(1)
    assert 0.4 < first.mean() < five.mean() < 1
    assert found.n == 50
    assert found.top1.value == pytest.approx(first.mean())
    assert found.top5.value == pytest.approx(five.mean())
    # Wilson: of a true share p, the share found is 1.96 standard deviations of p away.
    for end in (found.top1.low, found.top1.high):
        assert (first.mean() - end) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / 50, abs=1e-6)
    table = found.per_class
    assert table["class"].tolist() == list(LABELS)
    assert table["label"].tolist() == list(range(7))
    for row in table.itertuples():
        mine = truth == row.label
        assert row.n == mine.sum()
        if row.n:
            assert (row.top1, row.top5) == pytest.approx((first[mine].mean(), five[mine].mean()))
            assert row.top1_low <= row.top1 <= row.top1_high
        else:
            assert np.isnan([row.top1, row.top1_low, row.top1_high, row.top5]).all()
    assert (table["n"] == 0).sum() == 2


def test_ranks_gathered_in_parts_give_the_same_accuracy(planted):
    classifier, images, labels = planted
    parts = [classifier.ranks(images[i : i + 7], labels[i : i + 7]) for i in range(0, 60, 7)]
    found = ZeroShotAccuracy.from_ranks(torch.cat(parts), labels, LABELS)
    whole = classifier.accuracy(images, labels)
    assert (found.top1, found.top5) == (whole.top1, whole.top5)
    assert found.per_class.equals(whole.per_class)
    assert torch.cat(parts)[50:].eq(-1).all()


def test_equal_scores_rank_as_argmax_picks():
    same = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [0, 1], [0, 1], [0, 1]]), dim=-1)
    classifier = ZeroShotClassifier(("a", "b", "c", "d"), same, 1.0)
    images = torch.tensor([[0.0, 1.0]]).expand(4, 2)
    assert classifier.ranks(images, torch.arange(4)).tolist() == [3, 0, 1, 2]
    assert int(classifier.cosines(images)[0].argmax()) == 1
    assert classifier.accuracy(images, torch.arange(4)).top5.value == 1


def test_half_precision_is_compared_in_float32(planted):
    classifier, images, labels = planted
    half = ZeroShotClassifier(LABELS, classifier.embeddings.bfloat16(), 100.0)
    cosines = half.cosines(images.bfloat16())
    assert cosines.dtype == torch.float32
    expected = torch.nn.functional.normalize(images.bfloat16().double(), dim=-1) @ half.embeddings.double().T
    torch.testing.assert_close(cosines, expected.float())
    assert half.accuracy(images.bfloat16(), labels.int()).n == 50


def test_classes_that_cannot_be_are_refused(model):
    for labels, templates in (("a dog", TEMPLATES), ([], TEMPLATES), (LABELS, "{}"), (LABELS, ())):
        with pytest.raises(ValueError, match="takes a list of one or more"):
            ZeroShotClassifier.from_labels(model, labels, templates)
    with pytest.raises(ValueError, match=r"once.*\['a dog'\]"):
        ZeroShotClassifier.from_labels(model, ["a dog", "a cat", "a dog"])
    with pytest.raises(ValueError, match="'a photo'"):
        ZeroShotClassifier.from_labels(model, LABELS, ("{}", "a photo"))
    with pytest.raises(ValueError, match="without a tokenizer"):
        ZeroShotClassifier.from_labels(HookedCLIP.from_open_clip(random_clip()), LABELS)
    with pytest.raises(ValueError, match="7 labels need as many embeddings, got 6"):
        ZeroShotClassifier(LABELS, torch.eye(6), 1.0)
    for broken in (2 * torch.eye(7), torch.full((7, 7), float("nan"))):
        with pytest.raises(ValueError, match="must be unit vectors"):
            ZeroShotClassifier(LABELS, broken, 1.0)
    with pytest.raises(ValueError, match="24 wide"):
        ZeroShotClassifier(LABELS, torch.eye(7), 1.0).attach(model)


def test_images_and_labels_that_do_not_fit_are_refused(planted):
    classifier, images, labels = planted
    for bad, got in ((7, "-1 to 7"), (-2, "-2 to 4")):
        wrong = labels.clone()
        wrong[0] = bad
        with pytest.raises(ValueError, match=f"got {got}"):
            classifier.accuracy(images, wrong)
    with pytest.raises(ValueError, match="all 10 labels are -1"):
        classifier.accuracy(images[50:], labels[50:])
    with pytest.raises((ValueError, TypeCheckError), match="60"):
        classifier.accuracy(images, labels[:1])
    with pytest.raises(ValueError, match="12 wide, the images' 11"):
        classifier.cosines(images[:, :11])
    images[3, 3] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        classifier.accuracy(images, labels)


def test_ranks_that_are_none_are_refused():
    for rank in (-1, 7):
        with pytest.raises(ValueError, match="0 to 6"):
            ZeroShotAccuracy.from_ranks(torch.tensor([0, rank]), torch.tensor([0, 1]), LABELS)
    with pytest.raises((ValueError, TypeCheckError)):
        ZeroShotAccuracy.from_ranks(torch.tensor([0]), torch.tensor([0, 1]), LABELS)
