"""Under TF32 the model runs as its user set it, our own products are exact, and no hook is blamed for what TF32 does.

On the fake GPU, whose products round as TF32's do; on a real one in :mod:`tests.cuda.test_real`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from clip_lens_plugin import decompose, patch_text_map
from clip_lens_plugin.decomposition.contributions import CompletenessError
from tests.cuda.fake import CUDA, FakeGPU, fake_cuda
from tests.cuda.test_fake import TOWERS, given_on

pytestmark = pytest.mark.slow


@pytest.fixture
def gpu() -> Iterator[FakeGPU]:
    with fake_cuda() as found:
        yield found


@pytest.fixture
def tf32() -> Iterator[None]:
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision("highest")


def test_the_fake_gpu_rounds_as_tf32(gpu: FakeGPU, tf32: None) -> None:
    a, b = torch.randn(2, 64, 64)
    error = ((a.to("cuda") @ b.to("cuda")).cpu() - a @ b).norm() / (a @ b).norm()
    assert 1e-4 < error < 1e-3
    torch.set_float32_matmul_precision("highest")
    assert ((a.to("cuda") @ b.to("cuda")).cpu() - a @ b).norm() < 1e-5


@pytest.mark.parametrize("tower", TOWERS)
def test_a_run_in_tf32_is_complete(tower: str, gpu: FakeGPU, tf32: None, tmp_path: Path) -> None:
    """By either way to it, with all that compares an activation with what it should be."""
    with given_on(tower, CUDA, tmp_path) as given, torch.no_grad():
        model = given.model
        exact = given.parts.embedding.cpu()
        runs = [model.decompose(given.images, tokens=True, neurons=True, strict=True)]
        runs.append(decompose(model, model.run_with_cache(given.images)[1], strict=True))
        for parts in runs:
            assert 1e-5 < parts.completeness_error() < 1e-2  # The run was TF32's indeed.
            parts.tokens(0, 1)
            assert parts.has_self_attention == given.by_class_token
            assert not parts.head_edits
        assert model.verify(given.images).relative_difference < 1e-5
        assert torch.get_float32_matmul_precision() == "high"
        assert exact.isfinite().all()


def test_our_own_products_are_exact(gpu: FakeGPU, tf32: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same activations, folded under TF32 and on a GPU that has none."""
    with given_on("class token", CUDA, tmp_path) as given, torch.no_grad():
        model, texts = given.model, given.model.encode_text(["a dog", "a cat"])
        cache = model.run_with_cache(given.images)[1]

        def folded() -> list[torch.Tensor]:
            parts = decompose(model, cache)
            found = [parts.heads, parts.mlps, parts.embed, parts.attn_bias, parts.edits, parts.neurons(1)]
            found += [parts.towards(texts), parts.towards(texts, per_token=True), parts.tokens(2, 0)]
            return [each.cpu() for each in (*found, parts.self_attention, given.classes.cosines(parts.embed))]

        given.classes.embeddings.sum()  # made once, by the text tower
        under = folded()
        monkeypatch.setattr("tests.cuda.fake.tf32_is_on", lambda: False)
        for name, (mine, exact) in enumerate(zip(under, folded(), strict=True)):
            assert torch.equal(mine, exact), name


def test_an_error_names_tf32_only_where_it_may_be_the_reason(gpu: FakeGPU, tmp_path: Path) -> None:
    with given_on("class token", CUDA, tmp_path) as given, torch.no_grad():
        shifted = [("ln_final.hook_normalized", lambda x, hook: x + 0.5)]
        for precision in ("high", "highest"):
            torch.set_float32_matmul_precision(precision)
            try:
                with given.model.hooks(fwd_hooks=shifted), pytest.raises(CompletenessError) as refusal:
                    given.model.decompose(given.images, strict=True)
            finally:
                torch.set_float32_matmul_precision("highest")
            assert ("TF32" in str(refusal.value)) == (precision == "high")


def test_maps_are_exact_in_what_is_summed(gpu: FakeGPU, tf32: None, tmp_path: Path) -> None:
    with given_on("class token", CUDA, tmp_path) as given:
        maps = patch_text_map(given.model, given.images, ["a dog"])
        under = given.model.decompose(given.images).normalized().towards(given.model.encode_text(["a dog"]))
        torch.testing.assert_close(maps.scores[:, 0], under.sum((1, 2))[:, 0], rtol=1e-2, atol=1e-3)
