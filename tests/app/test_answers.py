"""The answers are those of the public functions, of runs under hooks, and of open_clip's own logits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from clip_lens_plugin.ablation import activation_means, mean_ablation, zero_ablation
from clip_lens_plugin.app.answers import image_answer, nearness, nearness_rows, switched_off
from clip_lens_plugin.app.asked import MOST_KEPT, Asked, AskedPictures
from clip_lens_plugin.app.explored import Explored
from clip_lens_plugin.images.photographs import Photograph
from clip_lens_plugin.maps.patch_text import head_text_scores
from clip_lens_plugin.report.pictures import PixelsInMemory

TEXTS = ("a circle", "a star", "a blue square")


def test_a_kept_run_gives_the_scores_of_a_new_one(explored: Explored, asked: Asked) -> None:
    near, scores = image_answer(explored, asked, TEXTS)
    own = head_text_scores(explored.model, explored.photograph(3).open(), list(TEXTS))
    torch.testing.assert_close(scores.by_token, own.by_token, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(scores.cosine, own.cosine, rtol=1e-4, atol=1e-6)
    assert scores.name == explored.name(3)
    with torch.no_grad():
        image = explored.model.clip.encode_image(asked.pixels, normalize=True)
        text = explored.model.clip.encode_text(explored.model.tokenizer(list(TEXTS)), normalize=True)
        expected = (explored.model.clip.logit_scale.exp() * image @ text.T).softmax(-1)[0]
    torch.testing.assert_close(near.probability.float(), expected, rtol=1e-3, atol=1e-5)


def test_siglip_judges_each_text_for_itself(explored: Explored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(explored.model), "logit_bias", property(lambda self: torch.tensor(-3.0)))
    found = nearness(explored.model, TEXTS, torch.tensor([0.1, -0.2, 0.3]))
    scale = float(explored.model.logit_scale)
    expected = torch.sigmoid(scale * torch.tensor([0.1, -0.2, 0.3]) - 3.0)
    torch.testing.assert_close(found.probability.float(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("ablation", ["mean", "zero"])
def test_switched_off_in_the_sum_and_in_a_run(explored: Explored, asked: Asked, ablation: str) -> None:
    first, second, found = switched_off(explored, asked, TEXTS, ("L5", "L4H2", "L5H1", "M3"), ablation)
    assert (first.total, first.accuracy, second.accuracy) == (None, None, None)
    assert second.total is not None
    assert second.total is found.total
    model, texts = explored.model, explored.model.encode_text(list(TEXTS))
    own = model.decompose(asked.pixels).normalized()
    rows = explored.data.select(range(len(explored))).normalized()
    expected = own.embedding.double() @ texts.double().T
    for name, heads in (("heads", [(5, h) for h in range(8)] + [(4, 2)]), ("attn_bias", [5]), ("mlps", [3])):
        for at in heads:
            layer, head = at if isinstance(at, tuple) else (at, slice(None))
            part, mean = getattr(own, name)[:, layer], getattr(rows, name)[:, layer]
            part, mean = (part[:, head], mean[:, head]) if name == "heads" else (part, mean)
            replaced = mean.double().mean(0) if ablation == "mean" else torch.zeros_like(mean[0]).double()
            expected += (replaced - part.double()) @ texts.double().T
    torch.testing.assert_close(found.direct.cosine.double(), expected[0], rtol=1e-4, atol=1e-5)

    points = ["blocks.5.hook_attn_out", "blocks.4.attn.hook_z", "blocks.3.hook_mlp_out"]
    pictures = [explored.photograph(row).open() for row in range(len(explored))]
    means = activation_means(model, pictures, points)
    hooks = [
        (point, zero_ablation(heads) if ablation == "zero" else mean_ablation(means, heads))
        for point, heads in zip(points, (None, [2], None), strict=True)
    ]
    with torch.no_grad():
        embedding = model.run_with_hooks(asked.pixels, fwd_hooks=hooks)
    cosine = torch.nn.functional.normalize(embedding, dim=-1)[0] @ texts.T
    torch.testing.assert_close(second.total.cosine, cosine, rtol=1e-4, atol=1e-6)

    assert not first.in_run
    assert first.remaining.cosine.tolist() == first.direct.cosine.tolist()
    if found.in_run:
        assert found.remaining.cosine.tolist() == second.total.cosine.tolist()
    torch.testing.assert_close(first.remaining.scores[5:], torch.zeros_like(first.remaining.scores[5:]))
    assert found.in_run == (ablation == "zero")
    if ablation == "zero":
        with torch.no_grad(), model.hooks(fwd_hooks=hooks):
            run = model.decompose(asked.pixels, tokens=True).normalized().towards(texts, per_token=True)[0]
        torch.testing.assert_close(found.remaining.by_token[:5], run[:5], rtol=1e-4, atol=1e-6)
        assert (run[4] - first.remaining.by_token[4]).abs().max() > 1e-4
    left = found.remaining.scores
    assert not left[5].any()
    assert not left[4, 2].any()
    assert left[4, 3].any()
    assert found.accuracy is not None
    assert list(found.accuracy["kind"]) == ["base", found.components.kind]


def test_nothing_and_nobody_to_switch_off(explored: Explored, asked: Asked) -> None:
    with pytest.raises(ValueError, match="Choose what is switched off"):
        list(switched_off(explored, asked, TEXTS, (), "zero"))
    with pytest.raises(IndexError, match="layer 9"):
        list(switched_off(explored, asked, TEXTS, ("M9",), "zero"))


def test_rows_of_numbers(explored: Explored, asked: Asked) -> None:
    near, _ = image_answer(explored, asked, TEXTS)
    assert nearness_rows(picture=near)[0] == ("text", "cosine", "probability")
    rows = nearness_rows(intact=near, direct=near, total=None)
    assert rows[0] == ("text", "intact: cosine", "intact: probability", "direct: cosine", "direct: probability")
    assert [row[0] for row in rows[1:]] == list(TEXTS)
    assert float(rows[1][1]) == pytest.approx(float(near.cosine[0]), abs=5e-5)


def test_a_picture_is_run_once(explored: Explored, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, runs = AskedPictures(explored.model), []
    run = pictures._run
    monkeypatch.setattr(pictures, "_run", lambda photograph: runs.append(photograph.name) or run(photograph))
    for row in (0, 1, 0, 1):
        pictures.of(explored.photograph(row))
    assert runs == [explored.name(0), explored.name(1)]
    for row in range(MOST_KEPT):
        pictures.of(Photograph(explored.photograph(2 + row).open(), "same name"))
    pictures.of(explored.photograph(0))
    assert len(runs) == 2 + MOST_KEPT + 1


def test_a_picture_out_of_reach_is_named(explored: Explored) -> None:
    nothing = PixelsInMemory(torch.empty(0, 3, *explored.model.cfg.image_size), None)
    with pytest.raises(ValueError, match=f"{explored.name(4)} is not in reach"):
        replace(explored, pictures=nothing).photograph(4)
