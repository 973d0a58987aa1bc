"""Each published formula against a plain loop over indices in float64."""

from __future__ import annotations

import numpy as np

from clip_lens_plugin.saliency import equations
from tests.support.loops import check, formulas_of, numbers

B, H, M, N, K, C = 2, 3, 2, 4, 3, 5
"""Images, heads, queries, tokens, width of a head (and the last tokens that a query attends to), channels."""


def test_each_formula_has_a_test_of_its_name() -> None:
    own = formulas_of(equations)
    assert len(own) >= 8
    assert [name for name in own if f"test_{name}" not in globals()] == []


def test_rolled_out() -> None:
    rollout, pattern = numbers(B, N, N), numbers(B, H, N, N)
    r, a = rollout.numpy(), pattern.numpy()

    def value(b: int, q: int, i: int) -> float:
        mixed = [0.5 * sum(a[b, h, q, j] for h in range(H)) / H + 0.5 * (q == j) for j in range(N)]
        return sum(mixed[j] * r[b, j, i] for j in range(N))

    check(equations.rolled_out(rollout, pattern), (B, N, N), value)


def test_relevant_attention() -> None:
    pattern, gradient = numbers(B, H, M, N), numbers(B, H, M, N, seed=1)
    a, g = pattern.numpy(), gradient.numpy()
    found = equations.relevant_attention(pattern, gradient)
    check(found, (B, M, N), lambda b, q, i: sum(max(g[b, h, q, i] * a[b, h, q, i], 0.0) for h in range(H)) / H)


def test_more_relevance() -> None:
    relevance, attention = numbers(B, N, N), numbers(B, N, N, seed=1)
    r, a = relevance.numpy(), attention.numpy()
    found = equations.more_relevance(relevance, attention)
    check(found, (B, N, N), lambda b, q, i: r[b, q, i] + sum(a[b, q, j] * r[b, j, i] for j in range(N)))


def test_relevance_to_query() -> None:
    attention, relevance = numbers(B, M, K), numbers(B, N, N).abs() + np.eye(N)
    # Of the last token of one image nothing was added: there is no sum to divide by.
    relevance[0, N - 1] = relevance.new_tensor(np.eye(N)[N - 1])
    a, r = attention.numpy(), relevance.numpy()

    def normalized(b: int, j: int, i: int) -> float:
        added = [r[b, j, n] - (j == n) for n in range(N)]
        return (added[i] / sum(added) if sum(added) > 0 else 0.0) + (j == i)

    found = equations.relevance_to_query(attention, relevance)
    check(found, (B, M, N), lambda b, q, i: sum(a[b, q, j] * normalized(b, N - K + j, i) for j in range(K)))


def test_class_activation() -> None:
    features, gradient = numbers(B, N, C), numbers(B, N, C, seed=1)
    f, g = features.numpy(), gradient.numpy()

    def value(b: int, i: int) -> float:
        return max(sum(f[b, i, c] * sum(g[b, n, c] for n in range(N)) / N for c in range(C)), 0.0)

    check(equations.class_activation(features, gradient), (B, N), value)


def test_formation_sensitivity() -> None:
    gradient = numbers(B, H, M, N)
    g = gradient.numpy()
    every = [(h, q) for h in range(H) for q in range(M)]
    found = equations.formation_sensitivity(gradient)
    check(found, (B, N), lambda b, i: sum(max(g[b, h, q, i], 0.0) for h, q in every) / len(every))


def test_loosened_attention() -> None:
    q, key = numbers(B, M, H, K), numbers(B, N, H, K, seed=1)
    a, o = q.numpy(), key.numpy()
    every = [(h, k) for h in range(H) for k in range(K)]

    def cosine(b: int, m: int, i: int) -> float:
        dot = sum(a[b, m, h, k] * o[b, i, h, k] for h, k in every)
        lengths = (sum(x[b, j, h, k] ** 2 for h, k in every) ** 0.5 for x, j in ((a, m), (o, i)))
        return dot / np.prod([*lengths])

    def value(b: int, m: int, i: int) -> float:
        row = [cosine(b, m, n) for n in range(N)]
        return (row[i] - min(row)) / (max(row) - min(row))

    check(equations.loosened_attention(q, key), (B, M, N), value)


def test_loosely_attended() -> None:
    loosened, gradient = numbers(B, M, N), numbers(B, H, M, N)
    a, g = loosened.numpy(), gradient.numpy()
    every = [(h, q) for h in range(H) for q in range(M)]
    found = equations.loosely_attended(loosened, gradient)
    check(found, (B, N), lambda b, i: max(sum(a[b, q, i] * g[b, h, q, i] for h, q in every), 0.0))
