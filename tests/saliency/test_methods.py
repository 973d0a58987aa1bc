"""Each method's maps are those of its published formula, on towers of every pooling; and all take the same contrast."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.saliency.methods import METHODS, SaliencyMethod, resolved_method
from tests.adapters.conversion import clip_model, vision_model
from tests.conftest import random_clip, random_images
from tests.saliency.formulas import FORMULAS, relevance, score
from tests.saliency.plain import Plain, PlainTimm, Run
from tests.support.families import FAMILIES, SIGLIP, vit

pytestmark = pytest.mark.slow

TOWERS: dict[str, Callable[[], Any]] = {
    **{name: FAMILIES[name] for name in ("plain", "norm_then_mean", "clipa", "coca", "registers")},
    "layer_scale": partial(random_clip, {"vision_cfg": {"ls_init_value": 0.3}}),
    "SigLIP with registers that the pool does not read": partial(vit, **SIGLIP, reg_tokens=2),
}


class Known(NamedTuple):
    """A tower, two images with a text and three others each, and the images' plain runs."""

    model: HookedCLIP
    images: Tensor
    texts: Tensor
    against: Tensor
    plain: Plain
    runs: list[Run]


def unit(*shape: int) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=-1)


@cache
def known(family: str) -> Known:
    clip = TOWERS[family]().double()
    model = HookedCLIP.from_open_clip(clip, model_name=family)
    plain = PlainTimm(clip) if hasattr(clip.visual, "trunk") else Plain(clip)
    images = random_images(model, 2)
    runs = [plain.run(image) for image in images]
    e = model.cfg.d_embed
    return Known(model, images, unit(2, e), unit(2, 3, e), plain, runs)


def maps_of(name: str, given: Known, against: Tensor | None) -> Tensor:
    return METHODS[name].maps(given.model, given.images, given.texts, against)


@pytest.fixture(scope="module")
def half() -> HookedCLIP:
    return HookedCLIP.from_open_clip(random_clip().to(torch.bfloat16))


@pytest.mark.parametrize("family", TOWERS)
def test_the_plain_runs_are_the_source_s(family: str) -> None:
    given = known(family)
    found = torch.stack([run.embedding for run in given.runs])
    torch.testing.assert_close(found, given.model.clip.encode_image(given.images))


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("family", TOWERS)
def test_a_map_is_that_of_its_published_formula(family: str, name: str) -> None:
    given = known(family)
    for against in (None, given.against) if family == "plain" else (given.against,):
        directions = given.texts if against is None else given.texts - against.mean(1)
        scale = given.model.logit_scale
        n_patches = given.model.cfg.grid_size[0] * given.model.cfg.grid_size[1]
        expected = [
            FORMULAS[name](given.plain, run, direction, scale)[-n_patches:].unflatten(0, given.model.cfg.grid_size)
            for run, direction in zip(given.runs, directions, strict=True)
        ]
        found = maps_of(name, given, against)
        assert float(found.abs().max()) > 0
        torch.testing.assert_close(found, torch.stack(expected).detach(), rtol=1e-8, atol=1e-12)


def test_rollout_attention_and_relevance_of_hugging_face_s_own_patterns() -> None:
    source = clip_model(random_clip()).double().eval()
    source.set_attn_implementation("eager")
    model = HookedCLIP.from_transformers(source)
    images, texts = random_images(model, 1), unit(1, model.cfg.d_embed)
    out = source.vision_model(pixel_values=images, output_attentions=True)
    target = source.logit_scale.exp() * score(source.visual_projection(out.pooler_output)[0], texts[0])
    gradients = torch.autograd.grad(target, out.attentions)
    R = relevance([each[0] for each in out.attentions], [each[0] for each in gradients], model.cfg.n_ctx)
    found = METHODS["chefer"].maps(model, images, texts, None)
    torch.testing.assert_close(found[0].flatten(), R[0, 1:].detach())
    expected = out.attentions[-1][0, :, 0, 1:].mean(0).detach()
    torch.testing.assert_close(METHODS["raw_attention"].maps(model, images, texts, None)[0].flatten(), expected)


@pytest.mark.parametrize("family", ["plain", "norm_then_mean", "SigLIP with registers that the pool does not read"])
def test_our_maps_are_the_heads_token_contributions(family: str) -> None:
    given = known(family)
    tokens = given.model.decompose(given.images, tokens=True).normalized()
    for name, layers in (("patch_text", slice(None)), ("last_layers", slice(-4, None))):
        towards = tokens.towards(torch.cat([given.texts, given.against.flatten(0, 1)]), per_token=True)[:, layers]
        summed = towards.sum((1, 2))[:, given.model.cfg.n_prefix_tokens :]  # [images, patches, texts]
        own = torch.stack([summed[i, :, i] - summed[i, :, 2 + 3 * i : 5 + 3 * i].mean(-1) for i in range(2)])
        torch.testing.assert_close(maps_of(name, given, given.against).flatten(1), own)


def test_the_last_layers_are_four() -> None:
    clip = random_clip({"vision_cfg": {"layers": 6}}, torch.float64)
    model = HookedCLIP.from_open_clip(clip)
    images, texts = random_images(model, 1), unit(1, 24)
    scores = model.decompose(images, tokens=True).normalized().towards(texts, per_token=True)
    expected = scores[0, 2:, :, 1:, 0].sum((0, 1))
    found = METHODS["last_layers"].maps(model, images, texts, None)
    torch.testing.assert_close(found[0].flatten(), expected)
    assert not torch.allclose(found, METHODS["patch_text"].maps(model, images, texts, None))


@pytest.mark.parametrize("name", METHODS)
def test_a_map_does_not_depend_on_the_other_images(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given, method = known("plain"), METHODS[name]
    together = maps_of(name, given, given.against)
    alone = [
        method.maps(given.model, *(each[i : i + 1] for each in (given.images, given.texts, given.against)))
        for i in (0, 1)
    ]
    torch.testing.assert_close(together, torch.cat(alone))
    monkeypatch.setattr("clip_lens_plugin.saliency.published.attention_runs.RUN_BYTES", {"cpu": 1})
    monkeypatch.setattr("clip_lens_plugin.saliency.own.TOGETHER", 1)
    torch.testing.assert_close(maps_of(name, given, given.against), together)


@pytest.mark.parametrize("name", METHODS)
def test_only_methods_that_say_so_look_at_the_text(name: str) -> None:
    given, method = known("plain"), METHODS[name]
    other = method.maps(given.model, given.images, given.texts.flip(0), None)
    assert torch.equal(maps_of(name, given, None), other) is not method.takes_text
    assert torch.equal(maps_of(name, given, given.against), maps_of(name, given, None)) is not method.takes_text


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_left_on_the_model_whatever_gradients_are_asked_for(name: str) -> None:
    given, method = known("plain"), METHODS[name]
    expected = maps_of(name, given, None)
    assert not expected.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(maps_of(name, given, None), expected)
    with torch.inference_mode():
        images, texts = given.images.clone(), given.texts.clone()
        found = method.maps(given.model, images, texts, None)
    torch.testing.assert_close(found.clone(), expected)
    given.model.requires_grad_(False)
    try:
        torch.testing.assert_close(maps_of(name, given, None), expected)
    finally:
        given.model.requires_grad_(True)
    assert all(weight.grad is None for weight in given.model.parameters())
    assert not any(point.has_hooks() for point in given.model.hook_dict.values())


@pytest.mark.parametrize("name", METHODS)
def test_hooks_are_refused_and_left_where_they_are(name: str) -> None:
    given = known("plain")
    with given.model.hooks(fwd_hooks=[("blocks.0.hook_mlp_out", lambda x, hook: None)]):
        with pytest.raises(ValueError, match="A saliency map is of the plain model, but there are hooks on"):
            maps_of(name, given, None)
        assert given.model.hook_dict["blocks.0.hook_mlp_out"].has_hooks()


@pytest.mark.parametrize("name", METHODS)
def test_maps_of_a_model_in_bfloat16_are_float32(name: str, half: HookedCLIP) -> None:
    texts = unit(2, 24).to(torch.bfloat16)
    found = METHODS[name].maps(half, random_images(half, 2), texts, None)
    assert found.dtype == torch.float32
    assert bool(found.isfinite().all())


def test_a_contrast_that_leaves_nothing_is_refused() -> None:
    given = known("plain")
    with pytest.raises(ValueError, match="text of image 0 is the mean of those that it is contrasted with"):
        maps_of("patches", given, given.texts[:, None].expand(-1, 2, -1))


def test_relevance_without_a_text_tower_is_of_cosines() -> None:
    given = known("plain")
    alone = HookedCLIP.from_transformers(vision_model(given.model.clip).double())
    found = METHODS["chefer"].maps(alone, given.images, given.texts, None)
    for i, run in enumerate(given.runs):
        expected = FORMULAS["chefer"](given.plain, run, given.texts[i], 1.0)[1:].detach()
        torch.testing.assert_close(found[i].flatten(), expected)


def test_methods_by_name() -> None:
    assert resolved_method("legrad") is METHODS["legrad"]
    own = SaliencyMethod("mine", False, METHODS["random"].maps)
    assert resolved_method(own) is own
    for given in ("grad-cam", 3, None):
        with pytest.raises(ValueError, match=r"method must be 'patch_text', 'last_layers'.*'random', got"):
            resolved_method(given)
