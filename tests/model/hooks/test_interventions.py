"""Hooks of both kinds are seen everywhere, and analyses of the plain model refuse them."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from clip_lens_plugin import HookedCLIP, collect, decompose, mean_ablation_curve, patch_text_map
from clip_lens_plugin.maps.patch_text import head_text_scores
from clip_lens_plugin.model.hooks import run_lock
from clip_lens_plugin.model.hooks.interventions import active_hooks, refuse_hooks
from tests.conftest import random_clip, random_images
from tests.support.families import FAMILIES

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("family", FAMILIES)
def test_every_point_fires_for_pytorchs_own_hooks(family: str):
    """``register_forward_hook`` at each hook point sees the activation that a cache holds, and moves the output."""
    model = HookedCLIP.from_open_clip(FAMILIES[family]().double())
    images = random_images(model, 2)
    plain = model(images)
    _, cache = model.run_with_cache(images)
    for name, point in model.hook_dict.items():
        seen: list[torch.Tensor] = []

        def double(module: Any, given: Any, found: torch.Tensor, seen=seen) -> torch.Tensor:
            seen.append(found.clone())
            return found * 1.5 + 0.01

        handle = point.register_forward_hook(double)
        moved, cached = model(images), model.run_with_cache(images)[0]
        handle.remove()
        assert len(seen) == 2, name
        if name in cache:
            assert torch.allclose(seen[0], cache[name], atol=1e-12), name
        assert torch.allclose(moved, cached, atol=1e-12), name
        assert not torch.equal(moved, plain) or "hook_k" in name or "hook_rot_k" in name, name
    assert torch.equal(model(images), plain)


@pytest.mark.parametrize("at", ["blocks.1.attn", "blocks.1.hook_resid_mid", "blocks.1", "blocks.1.mlp", "ln_final"])
def test_decompositions_of_images_and_of_a_cache_agree(at: str):
    model = HookedCLIP.from_open_clip(random_clip(dtype=torch.float64))
    images = random_images(model, 2)
    handle = model.get_submodule(at).register_forward_hook(lambda module, given, found: found + 0.3)
    from_images = model.decompose(images) if at != "ln_final" else None
    _, cache = model.run_with_cache(images)
    if from_images is None:
        with pytest.warns(UserWarning, match="do not sum"):
            model.decompose(images)
        with pytest.raises(ValueError, match="There are PyTorch hooks on ln_final, after what a cache holds"):
            decompose(model, cache)
        return
    from_cache = decompose(model, cache)
    handle.remove()
    assert active_hooks(model) == []
    assert torch.allclose(from_images.heads, from_cache.heads, atol=1e-12)
    assert torch.allclose(from_images.edits, from_cache.edits, atol=1e-12)
    assert from_images.completeness_error() < 1e-12


def test_active_hooks_are_named():
    model = HookedCLIP.from_open_clip(random_clip())
    assert active_hooks(model) == []
    model.add_hook("blocks.0.attn.hook_z", lambda x, hook: None)
    handles = [
        model.hook_dict["blocks.2.hook_mlp_out"].register_forward_pre_hook(lambda module, given: None),
        model.blocks[1].register_forward_hook(lambda module, given, found: None),
        model.register_forward_hook(lambda module, given, found: None),
    ]
    assert active_hooks(model) == ["blocks.0.attn.hook_z", "blocks.2.hook_mlp_out", "the model", "blocks.1"]
    with pytest.raises(ValueError, match=r"this needs the plain model, but there are hooks on .* and others"):
        refuse_hooks(model, "this needs the plain model")
    model.reset_hooks()
    for handle in handles:
        handle.remove()
    refuse_hooks(model, "this needs the plain model")


@pytest.mark.parametrize("native", [False, True])
def test_analyses_of_the_plain_model_refuse_hooks(native: bool, tmp_path, tokenizer):
    model = HookedCLIP.from_open_clip(random_clip(), tokenizer=tokenizer)
    images, texts = random_images(model, 4), torch.nn.functional.normalize(torch.randn(3, 24), dim=-1)
    labels = torch.tensor([0, 1, 2, 0])
    contributions = model.decompose(images)
    if native:
        model.hook_dict["blocks.0.hook_mlp_out"].register_forward_hook(lambda module, given, found: found * 2)
    else:
        model.add_hook("blocks.0.hook_mlp_out", lambda x, hook: x * 2)
    runs = {
        "collect": lambda: collect(model, [(image, 0) for image in images], tmp_path / "store", progress=False),
        "patch_text_map": lambda: patch_text_map(model, images, ["a"]),
        "head_text_scores": lambda: head_text_scores(model, images[0], ["a"]),
        "total effects": lambda: mean_ablation_curve(
            contributions, texts, labels, images, effect="total", images=images
        ),
    }
    for what, run in runs.items():
        with pytest.raises(ValueError, match=r"(there are hooks|hooks were left) on blocks\.0\.hook_mlp_out"):
            raise AssertionError(f"{what} ran: {run()}")


def test_threads_do_not_see_each_others_hooks():
    """Two threads decompose, a third ablates: each gets what it would get alone."""
    model = HookedCLIP.from_open_clip(random_clip(dtype=torch.float64))
    batches = [random_images(model, 2, seed) for seed in range(3)]
    expected = [
        model.decompose(batch, tokens=True).towards(torch.eye(24).double(), per_token=True) for batch in batches
    ]

    def ablate(z: torch.Tensor, hook: Any) -> torch.Tensor:
        return z * 0

    with model.hooks(fwd_hooks=[("blocks.0.attn.hook_z", ablate)]):
        ablated = model(batches[2])
    wrong: list[str] = []

    def decomposes(number: int) -> None:
        for _ in range(10):
            found = model.decompose(batches[number], tokens=True).towards(torch.eye(24).double(), per_token=True)
            if not torch.allclose(found, expected[number], atol=1e-12):
                wrong.append(f"decomposition {number}")

    def ablates() -> None:
        for _ in range(10):
            found = model.run_with_hooks(batches[2], fwd_hooks=[("blocks.0.attn.hook_z", ablate)])
            if not torch.allclose(found, ablated, atol=1e-12):
                wrong.append("ablation")

    threads = [threading.Thread(target=decomposes, args=(number,)) for number in range(2)]
    threads.append(threading.Thread(target=ablates))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert active_hooks(model) == []


def test_verifying_beside_a_decomposition():
    """Another thread's decomposition has hooks on the model, which are no hooks that were left on it."""
    model = HookedCLIP.from_open_clip(random_clip())
    images, failed, done = random_images(model, 4), [], threading.Event()

    def decomposes() -> None:
        while not done.is_set():
            model.decompose(images)

    other = threading.Thread(target=decomposes)
    other.start()
    try:
        for _ in range(30):
            model.verify()
    except ValueError as error:
        failed.append(error)
    finally:
        done.set()
        other.join()
    assert not failed


def test_a_thread_that_waits_for_hooks_says_so(monkeypatch: pytest.MonkeyPatch):
    """Workers inside the context of hooks would wait for ever for the thread that waits for them."""
    monkeypatch.setattr(run_lock, "PATIENCE", 0.2)
    model = HookedCLIP.from_open_clip(random_clip())
    images = random_images(model, 1)
    quiet = [("blocks.0.hook_mlp_out", lambda x, hook: None)]
    with (
        model.hooks(fwd_hooks=quiet),
        ThreadPoolExecutor(1) as pool,
        pytest.raises(RuntimeError, match=r"Another thread has held this model .* copy\.deepcopy\(model\)"),
    ):
        pool.submit(model, images).result()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_is_not_held_by_a_thread_that_it_lacks():
    model = HookedCLIP.from_open_clip(random_clip())
    entered, leave = threading.Event(), threading.Event()

    def holds() -> None:
        with model.hooks(fwd_hooks=[("blocks.0.hook_mlp_out", lambda x, hook: None)]):
            entered.set()
            leave.wait()

    other = threading.Thread(target=holds)
    other.start()
    entered.wait()
    child = os.fork()
    if child == 0:
        with model.alone():
            os._exit(7)
    leave.set()
    other.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
