"""Text embeddings that are NaN or infinite, or no unit vectors where they have to be, are refused everywhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from clip_lens_plugin import HookedCLIP, Moments, ZeroShotClassifier, mean_ablation_curve, text_span
from clip_lens_plugin.ablation.completeness import text_span_completeness
from clip_lens_plugin.maps.scoring import token_scores
from clip_lens_plugin.numerics.unit_vectors import checked_unit_vectors
from clip_lens_plugin.retrieval import extreme_images
from tests.conftest import random_images

pytestmark = pytest.mark.slow

NAMES = ["a", "b", "c", "d"]


@pytest.fixture
def texts() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(4, 24, generator=generator, dtype=torch.float64), dim=-1)


def _span(model, c, e):
    return text_span(model, Moments.from_contributions(c), NAMES, 2, [(2, 1)], text_embeddings=e)


LABELS = torch.tensor([0, 1, 2, 3])

USES: dict[str, Callable] = {
    "towards": lambda model, c, e: c.towards(e),
    "towards, by token": lambda model, c, e: c.towards(e, per_token=True),
    "text_span": _span,
    "extreme_images": lambda model, c, e: extreme_images(c, NAMES, 2, text_embeddings=e),
    "labels": lambda model, c, e: model.set_labels(NAMES, e),
    "classifier": lambda model, c, e: ZeroShotClassifier(tuple(NAMES), e, 1.0),
    "curve": lambda model, c, e: mean_ablation_curve(c, e, labels=LABELS),
    "maps": lambda model, c, e: token_scores(model, random_images(model, 1), e),
    "completeness": lambda model, c, e: text_span_completeness(
        c, e, {"pool": _span(model, c, torch.eye(4, 24, dtype=torch.float64))}, LABELS, [1]
    ),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3.0])
def test_they_are_refused(model: HookedCLIP, texts: torch.Tensor, use: str, value: float) -> None:
    contributions = model.decompose(random_images(model, 4), tokens=True)
    USES[use](model, contributions, texts)
    broken = texts.clone()
    broken[2, 5] = value
    if value == 3.0 and use.startswith("towards"):
        doubled = USES[use](model, contributions, 2 * texts)  # Linear in any direction.
        assert torch.allclose(doubled, 2 * USES[use](model, contributions, texts), atol=1e-12)
        return
    must = "finite" if use.startswith("towards") else "unit vectors"
    what = "must be unit vectors, got norms from" if value == 3.0 else f"must be {must}: row 2 holds NaN or infinite"
    with pytest.raises(ValueError, match=what):
        USES[use](model, contributions, broken)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_unit_vectors_of_every_dtype_are_taken_as_they_are(dtype: torch.dtype) -> None:
    vectors = torch.nn.functional.normalize(torch.randn(50, 512, generator=torch.Generator().manual_seed(0)), dim=-1)
    given = vectors.to(dtype)
    assert checked_unit_vectors(given) is given
    with pytest.raises(ValueError, match=r"norms from 0 to 1\."):
        checked_unit_vectors(torch.cat([given, torch.zeros(1, 512, dtype=dtype)]))
