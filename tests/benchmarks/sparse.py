"""Time of sparse codes over 10,000 correlated words, beside scikit-learn's lasso.

Alone: ``python -m tests.benchmarks.sparse``.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Iterator

import torch
from sklearn.linear_model import Lasso

from clip_lens_plugin.numerics.lasso import sparse_codes
from tests.benchmarks.measure import seconds

WIDTH, WORDS, IMAGES, PENALTIES = 512, 10_000, 512, (0.15, 0.25)
SHOWN = 8
"""Images that scikit-learn, which takes one at a time, is given in a round."""

ROUNDS = 3


def planted() -> tuple[torch.Tensor, torch.Tensor]:
    """Images that are sums of eight words and noise, and words in a cone with 60 common directions, centred."""
    g = torch.Generator().manual_seed(0)
    common, low = torch.randn(1, WIDTH, generator=g), torch.randn(60, WIDTH, generator=g)
    spread = torch.randn(WORDS, 60, generator=g) @ low * (4 * 0.35 / 60**0.5)
    words = torch.nn.functional.normalize(2 * common + spread + torch.randn(WORDS, WIDTH, generator=g), dim=1)
    words = torch.nn.functional.normalize(words - words.mean(0), dim=1)
    rows = []
    for _ in range(IMAGES):
        chosen = words[torch.randperm(WORDS, generator=g)[:8]]
        rows.append((torch.rand(8, generator=g) + 0.2) @ chosen + 0.05 * torch.randn(WIDTH, generator=g))
    return torch.nn.functional.normalize(torch.stack(rows), dim=1).double(), words.double()


def time_sparse() -> Iterator[tuple[str, str, str, str]]:
    """Rows of the table: time of an image, and how much faster than scikit-learn with its own tolerance and another."""
    vectors, words = planted()
    atoms = words.numpy().T.copy(order="F")
    for penalty in PENALTIES:
        found = sparse_codes(vectors, words, penalty)
        count, worst = float(found.counts.double().mean()), float(found.violation.max())
        for tolerance in (1e-4, 1e-8):
            lasso = Lasso(alpha=penalty / WIDTH, positive=True, fit_intercept=False, tol=tolerance, max_iter=100_000)
            ours, ratios, off = [], [], 0.0
            for at in range(ROUNDS):
                ours.append(seconds(lambda: sparse_codes(vectors, words, penalty)) / IMAGES)
                some = vectors[SHOWN * at : SHOWN * (at + 1)]
                theirs = seconds(lambda: [lasso.fit(atoms, each) for each in some.numpy()]) / SHOWN
                ratios.append(theirs / ours[-1])
                weights = torch.from_numpy(lasso.coef_)
                least = float((some[-1] - weights @ words).square().sum() / 2 + penalty * weights.abs().sum())
                off = max(off, float(found.objective[SHOWN * (at + 1) - 1]) - least)
            yield (
                f"sparse codes, 10,000 words, λ {penalty}, {count:.1f} words an image, KKT {worst:.0e}",
                f"{1e3 * statistics.median(ours):.2f} ms an image",
                "2 ms",
                f"objective above scikit-learn's by {off:.0e} at most",
            )
            told = f"{statistics.median(ratios):.0f} x faster"
            yield "the same", told, "10 x", f"scikit-learn's Lasso, tolerance {tolerance:.0e}"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for row in time_sparse():
        print(" | ".join(row), flush=True)
