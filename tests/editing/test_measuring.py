"""Edited models measured beside the model before, on planted and on drawn images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from clip_lens_plugin import HookedCLIP, ZeroShotClassifier, collect, edit_effects, head_means
from clip_lens_plugin.editing.measuring import _before_and_direct, _kept
from clip_lens_plugin.scenes.dataset import ScenesDataset
from tests.conftest import random_clip, random_images
from tests.editing.test_edited import wrapped


@pytest.mark.parametrize("name", ["plain", "SigLIP"])
def test_the_direct_effect_changes_the_edited_heads_alone(name: str) -> None:
    model = wrapped(name)
    data = model.decompose(random_images(model))
    direction = torch.nn.functional.normalize(torch.randn(1, model.cfg.d_embed, dtype=torch.float64), dim=-1)
    edited = model.edited(remove=[(0, 1)], scale={(2, 3): 3.0, (0, 2): 0.5}, project_out={(1, 0): direction})
    _, direct = _before_and_direct(data, edited.decompose(random_images(model)).readout, [0, 1, 2])
    heads = data.heads
    expected = data.embedding - heads[:, 0, 1] + 2 * heads[:, 2, 3] - 0.5 * heads[:, 0, 2]
    # What is projected out of a head's coordinates is not of its contribution: but its score is gone.
    change = direct - expected
    torch.testing.assert_close(change @ direction.T, -heads[:, 1, 0] @ direction.T, atol=1e-10, rtol=1e-10)
    without = model.edited(remove=[(0, 1)], scale={(2, 3): 3.0, (0, 2): 0.5})
    _, plain = _before_and_direct(data, without.decompose(random_images(model)).readout, [0, 2])
    torch.testing.assert_close(plain, expected, atol=1e-10, rtol=1e-10)


def test_the_direct_effect_of_a_mean_is_that_of_a_run_in_which_nothing_reacts() -> None:
    """In the last layer only its own MLP and the last norm react, which are frozen here."""
    model = wrapped("plain")
    images = random_images(model)
    means = head_means(model, images)
    edited = model.edited(remove=[(2, 1)], means=means)
    _, cache = model.run_with_cache(images)
    frozen: Any = [
        (name, lambda x, hook: cache[hook.name]) for name in ("blocks.2.hook_mlp_out", "ln_final.hook_scale")
    ]
    expected = edited.run_with_hooks(images, fwd_hooks=frozen)
    _, direct = _before_and_direct(model.decompose(images), edited.decompose(images).readout, [2])
    torch.testing.assert_close(direct, expected, atol=1e-10, rtol=1e-10)


def test_means_are_over_images_and_tokens(model: HookedCLIP) -> None:
    images = random_images(model, 5)
    _, cache = model.run_with_cache(images)
    found = head_means(model, images, batch_size=2)
    assert found.shape == (3, 4, 12)
    for layer in range(3):
        torch.testing.assert_close(found[layer], cache[f"blocks.{layer}.attn.hook_z"].mean((0, 1)))
    with model.hooks(fwd_hooks=[("hook_embed", lambda x, hook: x)]), pytest.raises(ValueError, match="plain model"):
        head_means(model, images)
    with pytest.raises(ValueError, match="batch_size"):
        head_means(model, images, batch_size=0)


def test_a_store_and_pictures_give_the_same(tmp_path: Path) -> None:
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    dataset = ScenesDataset(8, 3, "background")
    store = collect(model, dataset, tmp_path / "store", what="contributions", dtype="float32", progress=False)
    pictures: list[Image.Image] = [dataset[i][0] for i in range(8)]
    data = model.decompose(pictures)
    means = head_means(model, store, images=dataset)
    torch.testing.assert_close(means, head_means(model, pictures))
    torch.testing.assert_close(means, head_means(model, data, batch_size=5))
    edited = model.edited(remove=-1, means=means)
    classes = ZeroShotClassifier.from_labels(model, dataset.classes)
    groups = ["even", "odd"] * 4
    found = edit_effects(edited, store, classes, groups=groups, images=dataset)
    again = edit_effects(edited, data, classes, store.labels, groups, batch_size=5)
    fewer = edit_effects(edited, data, classes, store.labels, [*groups[:6], None, float("nan")])
    assert [group.n for group in fewer.of_kind("group")] == [3, 3]
    assert found.shares == again.shares
    assert found.accuracy is not None
    assert found.accuracy.after.value == float(
        classes.accuracy(edited(model.prepare(pictures)), store.labels).top1.value  # type: ignore[arg-type]
    )
    assert found.accuracy.before.value == classes.accuracy(data.embedding, store.labels).top1.value  # type: ignore[arg-type]
    assert [group.n for group in found.of_kind("group")] == [4, 4]
    assert found.neighbours_kept == again.neighbours_kept


def test_neighbours_that_stay() -> None:
    angles = torch.tensor([0.0, 10, 25, 45, 70]).deg2rad()
    before = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert _kept(before, 3 * before, 2) == 1.0
    after = before[[4, 1, 2, 3, 0]]  # The first and the last change places.
    expected = [{1, 2}, {0, 2}, {1, 3}, {2, 4}, {3, 2}], [{3, 2}, {4, 2}, {1, 3}, {2, 0}, {1, 2}]
    kept = sum(len(one & other) for one, other in zip(*expected, strict=True))
    assert _kept(before, after, 2) == kept / 10


def test_what_cannot_be_measured_is_refused(model: HookedCLIP) -> None:
    images = random_images(model)
    data, edited = model.decompose(images), model.edited(scale={(0, 0): 0.5})
    with pytest.raises(ValueError, match="was not edited"):
        edit_effects(model, data)
    with pytest.raises(ValueError, match=r"give\s+model.decompose\(images\)"):
        edit_effects(edited, images)
    other = HookedCLIP.from_open_clip(random_clip(dtype=torch.float64, seed=1))
    with pytest.raises(ValueError, match="not the model that"):
        edit_effects(edited, other.decompose(images), images=images)
    with pytest.raises(ValueError, match="itself: its heads write what"):
        edit_effects(edited, edited.decompose(images), images=images)
    with pytest.raises(ValueError, match="needs a classifier"):
        edit_effects(edited, data, groups=["a"] * 3, images=images)
    classes = ZeroShotClassifier.from_labels(model, ["a cat", "a dog"])
    with pytest.raises(ValueError, match="no labels of their own"):
        edit_effects(edited, data, classes, images=images)
    labels = torch.tensor([0, 1, 0])
    with pytest.raises(ValueError, match="3 images need as many groups"):
        edit_effects(edited, data, classes, labels, ["a"], images)
    with pytest.raises(ValueError, match="give images"):
        edit_effects(edited, data, classes, labels)
    with pytest.raises(ValueError, match="3 images, but 2 were given"):
        edit_effects(edited, data, images=images[:2])
    one = edit_effects(edited, model.decompose(images[:1]), images=images[:1])
    assert one.neighbours_kept is None
