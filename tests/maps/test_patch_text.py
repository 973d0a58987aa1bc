"""Maps hold each patch's own contribution, at its own place, and add up."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin import HookedCLIP, PatchTextMap, patch_text_map
from clip_lens_plugin.ablation import zero_ablation
from clip_lens_plugin.decomposition.running.activations import TokensNotAvailableError
from clip_lens_plugin.describe.spans import HeadSpan
from clip_lens_plugin.maps.patch_text import extreme_descriptions, head_text_scores
from clip_lens_plugin.maps.scoring import token_scores
from tests.conftest import TOWERS, random_clip, random_images


def test_token_scores_are_the_normalized_contributions(tower, tokenizer):
    tower.tokenizer = tokenizer
    images = random_images(tower)
    texts = tower.encode_text(["a dog", "a cat"])
    contributions = tower.decompose(images, tokens=True).normalized()
    torch.testing.assert_close(token_scores(tower, images, texts), contributions.towards(texts, per_token=True))


def test_scores_under_hooks_are_those_of_the_contributions(model):
    images, texts = random_images(model, 2), ["a dog", "a red car"]
    embeddings = model.encode_text(texts)
    with model.hooks(fwd_hooks=[("blocks.1.attn.hook_z", zero_ablation([2]))]):
        scores = token_scores(model, images, embeddings)
        own = model.decompose(images, tokens=True).normalized()
        of_one = head_text_scores(model, images[0], texts)
        expected = own.towards(embeddings, per_token=True)
    assert not scores[:, 1, 2].any()
    assert scores[:, 1, 1].any()
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(of_one.by_token, expected[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(of_one.cosine, own.embedding[0] @ embeddings.T, rtol=1e-4, atol=1e-6)
    halved = [("blocks.1.attn.hook_z", lambda z, hook: z / 2)]
    with model.hooks(fwd_hooks=halved), pytest.raises(TokensNotAvailableError, match="replaced the output of"):
        head_text_scores(model, images[0], texts)


def test_map_sums_chosen_heads_and_adds_up_to_their_score(model):
    images = random_images(model, 5)
    chosen = [(1, 2), (-1, 0)]
    maps = patch_text_map(model, images, ["a dog", "a cat"], heads=chosen, batch_size=2)
    assert maps.values.shape == (5, 2, 4, 4)
    scores = model.decompose(images).normalized().towards(model.encode_text(["a dog", "a cat"]))
    torch.testing.assert_close(maps.scores, scores[:, 1, 2] + scores[:, 2, 0])
    tokens = model.decompose(images, tokens=True).normalized().tokens(1, 2)
    tokens = tokens + model.decompose(images, tokens=True).normalized().tokens(2, 0)
    expected = tokens[3, 1 + 2 * 4 + 1] @ model.encode_text("a cat")[0]  # row 2, column 1
    torch.testing.assert_close(maps.values[3, 1, 2, 1], expected)


def test_a_map_knows_the_whole_cosine_and_its_heads(model):
    images, texts = random_images(model, 5), ["a dog", "a cat"]
    maps = patch_text_map(model, images, texts, heads=[(1, 2), (-1, 0)], batch_size=2)
    embeddings = model(images)
    expected = embeddings / embeddings.norm(dim=-1, keepdim=True) @ model.encode_text(texts).T
    torch.testing.assert_close(maps.cosine, expected)
    assert maps.heads == ((1, 2), (2, 0))
    assert patch_text_map(model, images[:1], texts).heads is None
    torch.testing.assert_close(maps.select([3, 1]).cosine, expected[[3, 1]])
    assert maps.contrast().cosine is None
    every = head_text_scores(model, images[0], texts)
    torch.testing.assert_close(every.cosine, expected[0])
    together = PatchTextMap.joined([every.map(), every.map([(1, 2)])])
    torch.testing.assert_close(together.cosine, expected[[0, 0]])
    assert together.heads == ()
    assert PatchTextMap.joined([every.map([(1, 2)]), every.map([(1, 2)])]).heads == ((1, 2),)


def test_rows_and_columns_of_images_that_are_not_square(tokenizer):
    clip = random_clip(TOWERS["not_square"], torch.float64)
    model = HookedCLIP.from_open_clip(clip, tokenizer=tokenizer)
    assert patch_text_map(model, random_images(model, 2), ["a dog"]).values.shape == (2, 1, 4, 7)


def test_bad_arguments_are_refused(model):
    images = random_images(model)
    with pytest.raises(ValueError, match="list of one or more texts"):
        patch_text_map(model, images, [])
    with pytest.raises(ValueError, match="No images"):
        patch_text_map(model, images[:0], ["a dog"])
    with pytest.raises(ValueError, match="at least one"):
        patch_text_map(model, images, ["a dog"], heads=[])
    with pytest.raises(IndexError, match="heads 0 to 3"):
        patch_text_map(model, images, ["a dog"], heads=[(0, 4)])


def test_a_layer_is_all_its_heads(model):
    images = random_images(model)
    layer = patch_text_map(model, images, ["a dog"], heads=1)
    heads = patch_text_map(model, images, ["a dog"], heads=[(1, head) for head in range(model.cfg.n_heads)])
    torch.testing.assert_close(layer.values, heads.values)


def test_contrast_subtracts_the_mean_of_the_other_texts(model):
    maps = patch_text_map(model, random_images(model), ["a dog", "a cat", "a car"])
    contrast = maps.contrast()
    for t, others in ((0, [1, 2]), (1, [0, 2]), (2, [0, 1])):
        torch.testing.assert_close(contrast.values[:, t], maps.values[:, t] - maps.values[:, others].mean(1))
        torch.testing.assert_close(contrast.scores[:, t], maps.scores[:, t] - maps.scores[:, others].mean(1))
    with pytest.raises(ValueError, match="two or more texts"):
        patch_text_map(model, random_images(model), ["a dog"]).contrast()


def test_scores_of_all_heads_are_those_of_the_contributions(model):
    images, texts = random_images(model), ["a dog", "a cat"]
    found = head_text_scores(model, images[1], texts)
    embeddings = model.encode_text(texts)
    contributions = model.decompose(images[1:2]).normalized()
    torch.testing.assert_close(found.scores, contributions.towards(embeddings)[0])
    direct = model.clip.encode_image(images[1:2], normalize=True)[0]
    torch.testing.assert_close(found.cosine, embeddings @ direct)
    assert (found.texts, found.grid_size) == (("a dog", "a cat"), (4, 4))


def test_scores_of_all_heads_make_the_map_of_any(model):
    images, texts = random_images(model), ["a dog", "a cat"]
    found = head_text_scores(model, images[0], texts)
    for heads in (None, [(1, 2)], [(0, 1), (-1, -1), (0, 1)]):
        expected = patch_text_map(model, images[:1], texts, heads)
        torch.testing.assert_close(found.map(heads).values, expected.values)
        torch.testing.assert_close(found.map(heads).scores, expected.scores)
    with pytest.raises(IndexError, match="layers 0 to 2"):
        found.map([(3, 0)])
    with pytest.raises(ValueError, match="one or more texts"):
        head_text_scores(model, images[0], [])


def test_extreme_descriptions_are_the_greatest_and_the_least_score(model):
    images, texts = random_images(model), ["a dog", "a cat", "a car", "a red house"]
    picks = HeadSpan(1, 2, texts, [0, 1, 2, 3], [0.1, 0.2, 0.3, 0.4], 1.0, torch.eye(4).double())
    maps, marks = extreme_descriptions(model, images[2], picks)
    written = model.decompose(images).normalized().heads[2, 1, 2]
    scores = [float(model.encode_text(text)[0] @ written) for text in texts]
    assert maps.texts == (texts[scores.index(max(scores))], texts[scores.index(min(scores))])
    assert maps.scores[0].tolist() == pytest.approx([max(scores), min(scores)])
    assert marks == ("most similar", "least similar")
    with pytest.raises(ValueError, match="need two or more"):
        extreme_descriptions(model, images[0], HeadSpan(1, 2, ["a dog"], [0], [0.1], 1.0, torch.eye(1).double()))


def test_joined_maps_are_those_of_one_call(model):
    images, texts = random_images(model, 5), ["a dog", "a cat"]
    whole = patch_text_map(model, images, texts)
    joined = PatchTextMap.joined(patch_text_map(model, part, texts) for part in (images[:2], images[2:]))
    torch.testing.assert_close(joined.values, whole.values)
    torch.testing.assert_close(joined.class_token, whole.class_token)
    assert joined.texts == whole.texts
    torch.testing.assert_close(whole.select([-1, 0]).scores, whole.scores[[4, 0]])
    with pytest.raises(IndexError, match="image"):
        whole.select([5])
    with pytest.raises(ValueError, match="no maps"):
        PatchTextMap.joined([])
    with pytest.raises(ValueError, match="the same texts"):
        PatchTextMap.joined([whole, patch_text_map(model, images, ["a dog"])])
