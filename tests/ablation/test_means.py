"""Means over images, against open_clip's module outputs, whole caches and planted numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.ablation.hooks import zero_ablation
from clip_lens_plugin.ablation.means import ActivationMeans, activation_means
from tests.ablation.conftest import (
    BATCH,
    D_HEAD,
    N_HEADS,
    N_TOKENS,
    TOWERS_ABLATED,
    assert_close,
    exact_model,
    mlp_out,
    output_of,
    without_heads,
)
from tests.conftest import random_clip, random_images


@pytest.fixture(scope="module", params=TOWERS_ABLATED)
def model(request: pytest.FixtureRequest) -> HookedCLIP:
    return exact_model(request.param)


@pytest.mark.parametrize("names", ["hook_embed", ["blocks.2.attn.hook_pattern"], lambda name: name.startswith("ln_f")])
def test_activation_means_are_those_of_the_whole_cache(model, names) -> None:
    images = random_images(model, 7)
    cache = model.run_with_cache(images, names_filter=names)[1]
    for batch_size in (3, 32):
        means = activation_means(model, images, names, batch_size=batch_size)
        assert sorted(means) == sorted(cache.keys())
        for name, mean in means.items():
            assert_close(mean, cache[name].mean(0))


def test_means_of_a_stream_are_those_of_all_images(model) -> None:
    images = random_images(model, 7)
    running = ActivationMeans(model, "blocks.0.hook_mlp_out")
    for batch in images.split([1, 4, 2]):
        running.add(batch)
    assert running.n == 7
    expected = output_of(model.clip, images, mlp_out(model.clip, 0)).mean(0)
    assert_close(running.means()["blocks.0.hook_mlp_out"], expected)


def test_means_are_of_the_model_as_hooked(model, images) -> None:
    with model.hooks(fwd_hooks=[("blocks.0.attn.hook_z", zero_ablation([1]))]):
        means = activation_means(model, images, ["blocks.0.attn.hook_z", "blocks.1.hook_mlp_out"])
    assert means["blocks.0.attn.hook_z"][:, 1].abs().max() == 0
    ablated = without_heads(model.clip, 0, [1])
    assert_close(means["blocks.1.hook_mlp_out"], output_of(ablated, images, mlp_out(ablated, 1)).mean(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_means_are_float32_and_summed_in_float64(dtype, batch_size) -> None:
    """2²⁷ + 1 − 2²⁷ is 0 in float32 and 1 in float64."""
    model = HookedCLIP.from_open_clip(random_clip(dtype=dtype))
    values = iter(torch.tensor([2.0**27, 1.0, -(2.0**27)]).split(batch_size))

    def plant(stream: Tensor, hook) -> Tensor:
        return next(values).to(dtype)[:, None, None].expand(stream.shape).contiguous()

    with model.hooks(fwd_hooks=[("blocks.2.hook_resid_post", plant)]):
        mean = activation_means(model, random_images(model), "blocks.2.hook_resid_post", batch_size)
    expected = torch.full((N_TOKENS, N_HEADS * D_HEAD), 1 / 3)
    torch.testing.assert_close(mean["blocks.2.hook_resid_post"], expected)


def test_bad_names_and_images_are_refused(model, images) -> None:
    with pytest.raises(ValueError, match=r"no hook point 'blocks.1.hook_z'.*blocks\.1\.attn\.hook_z"):
        activation_means(model, images, ["hook_embed", "blocks.1.hook_z"])
    for none in ([], lambda name: False):
        with pytest.raises(ValueError, match=r"No hook point was named.*hook_embed"):
            activation_means(model, images, none)
    with pytest.raises(ValueError, match="No image"):
        activation_means(model, images[:0], "hook_embed")
    running = ActivationMeans(model, "hook_embed")
    running.add(images)
    with pytest.raises(ValueError, match="hook_embed of these 1 images has NaN"):
        running.add(images[:1] * float("nan"))
    assert running.n == BATCH
    assert bool(running.means()["hook_embed"].isfinite().all())
