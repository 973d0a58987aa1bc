"""Time of sparse codes over 10,000 correlated words, beside scikit-learn's lasso.

Alone: ``python -m tests.benchmarks.sparse``.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Iterator
from functools import partial

import numpy as np
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
    """Rows of the table: time of an image, and how much faster than scikit-learn."""
    vectors, words = planted()
    atoms = words.numpy().T.copy(order="F")
    for penalty in PENALTIES:
        found = sparse_codes(vectors, words, penalty)
        lasso = Lasso(alpha=penalty / WIDTH, positive=True, fit_intercept=False, tol=1e-8, max_iter=100_000)

        def of_scikit_learn(some: torch.Tensor, lasso: Lasso = lasso) -> torch.Tensor:
            return torch.from_numpy(np.stack([lasso.fit(atoms, each).coef_ for each in some.numpy()]))

        ours, ratios, above, same = [], [], [], True
        for at in range(0, ROUNDS * SHOWN, SHOWN):
            ours.append(seconds(partial(sparse_codes, vectors, words, penalty)) / IMAGES)
            some, kept = vectors[at : at + SHOWN], []
            ratios.append(seconds(lambda: kept.append(of_scikit_learn(some))) / SHOWN / ours[-1])  # noqa: B023
            theirs = kept[0]
            least = (some - theirs @ words).square().sum(1) / 2 + penalty * theirs.sum(1)
            above.append(float((found.objective[at : at + SHOWN] - least).max()))
            support = torch.zeros_like(theirs).scatter_add(
                1, found.indices[at : at + SHOWN], found.weights[at : at + SHOWN]
            )
            same = same and torch.equal(support > 0, theirs > 1e-9)
        count, worst = float(found.counts.double().mean()), float(found.violation.max())
        about = f"sparse codes, 10,000 words, λ {penalty}, {count:.1f} per image"
        yield about, f"{1e3 * statistics.median(ours):.2f} ms per image", "2 ms", f"KKT violation {worst:.0e}"
        against = f"scikit-learn: objective {max(above):+.0e}, {'same' if same else 'other'} words"
        yield "the same", f"{statistics.median(ratios):.0f} x faster", "10 x", against


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for row in time_sparse():
        print(" | ".join(row), flush=True)
