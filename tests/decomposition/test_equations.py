"""Each formula of the sum, from activations to contributions, against a plain loop over indices in float64."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from clip_lens_plugin.decomposition import equations
from tests.support.loops import check, numbers

B, R, N, L, H, P, D, K, E, T, S = 2, 3, 4, 3, 2, 2, 5, 3, 6, 4, 7
"""Images, pooled rows, tokens, layers, heads, pool heads, widths of stream, head and joint space, texts, constants."""


# ---------------------------------------------------------------------- pooling


@pytest.mark.parametrize("rest", [(), (H,), (L, H)])
def test_pooled(rest: tuple[int, ...]) -> None:
    omega, x = numbers(B, P, R), numbers(B, R, *rest, D)
    w, a = omega.numpy(), x.numpy()

    def value(b: int, *index: int) -> float:
        *at, p, d = index
        return sum(w[b, p, q] * a[(b, q, *at, d)] for q in range(R))

    check(equations.pooled(omega, x), (B, *rest, P, D), value)


def test_head_coordinates() -> None:
    omega, z = numbers(B, P, R), numbers(B, R, H, K)
    w, a = omega.numpy(), z.numpy()
    found = equations.head_coordinates(omega, z)
    check(found, (B, H, P * K), lambda b, h, j: sum(w[b, j // K, q] * a[b, q, h, j % K] for q in range(R)))


def test_attended_values() -> None:
    pattern, v = numbers(B, H, R, N), numbers(B, N, H, K)
    a, x = pattern.numpy(), v.numpy()
    found = equations.attended_values(pattern, v)
    check(found, (B, R, H, K), lambda b, q, h, k: sum(a[b, h, q, i] * x[b, i, h, k] for i in range(N)))


def test_class_token_message() -> None:
    pattern, v = numbers(B, H, R, N), numbers(B, N, H, K)
    a, x = pattern.numpy(), v.numpy()
    found = equations.class_token_message(pattern, v)
    check(found, (B, R, H, K), lambda b, q, h, k: a[b, h, q, 0] * x[b, 0, h, k])


def test_effective_attention() -> None:
    omega, pattern = numbers(B, P, R), numbers(B, H, R, N)
    w, a = omega.numpy(), pattern.numpy()
    found = equations.effective_attention(omega, pattern)
    check(found, (B, H, P, N), lambda b, h, p, i: sum(w[b, p, q] * a[b, h, q, i] for q in range(R)))


def test_token_coordinates() -> None:
    attended, values = numbers(B, N, H, P), numbers(B, N, H, K)
    a, v = attended.numpy(), values.numpy()
    found = equations.token_coordinates(attended, values)
    check(found, (B, N, H, P * K), lambda b, i, h, j: a[b, i, h, j // K] * v[b, i, h, j % K])


def test_tokens_sum_to_heads() -> None:
    """Equation 4: the sum over tokens and the sum over rows may be taken in either order."""
    omega, pattern, v = numbers(B, P, R), numbers(B, H, R, N), numbers(B, N, H, K)
    attended = equations.effective_attention(omega, pattern).permute(0, 3, 1, 2)
    heads = equations.head_coordinates(omega, equations.attended_values(pattern, v))
    torch.testing.assert_close(equations.token_coordinates(attended, v).sum(1), heads)


# ---------------------------------------------------------------------- weights


@pytest.mark.parametrize("centred", [True, False])
def test_fold(centred: bool) -> None:
    gamma, maps = numbers(D), numbers(P, D, E)
    g, m = gamma.numpy(), maps.numpy()

    def value(p: int, d: int, e: int) -> float:
        mean = sum(g[c] * m[p, c, e] for c in range(D)) / D
        return g[d] * m[p, d, e] - (mean if centred else 0.0)

    check(equations.fold(gamma, maps, centred), (P, D, E), value)
    check(equations.fold(gamma, maps[1], centred), (D, E), lambda d, e: value(1, d, e))


def test_the_fold_removes_a_vectors_own_mean() -> None:
    x, gamma, maps = numbers(B, D), numbers(D), numbers(D, E)
    centred = (x - x.mean(-1, keepdim=True)) * gamma @ maps
    torch.testing.assert_close(x @ equations.fold(gamma, maps), centred)


def test_head_map() -> None:
    weight, maps = numbers(K, D), numbers(P, D, E)
    w, m = weight.numpy(), maps.numpy()
    found = equations.head_map(weight, maps)
    check(found, (P, K, E), lambda p, k, e: sum(w[k, d] * m[p, d, e] for d in range(D)))


def test_contribution() -> None:
    y, weights = numbers(B, N, K), numbers(K, E)
    a, m = y.numpy(), weights.numpy()
    found = equations.contribution(y, weights)
    check(found, (B, N, E), lambda b, i, e: sum(a[b, i, k] * m[k, e] for k in range(K)))


def test_by_layer() -> None:
    weights, directions = numbers(B, L, S), numbers(L, S, E)
    w, m = weights.numpy(), directions.numpy()
    found = equations.by_layer(weights, directions)
    check(found, (B, L, E), lambda b, l, e: sum(w[b, l, s] * m[l, s, e] for s in range(S)))


@pytest.mark.parametrize("normed", [True, False])
def test_value_fold(normed: bool) -> None:
    gamma, W_V = numbers(D), numbers(H, D, K)
    g, w = gamma.numpy(), W_V.numpy()

    def value(h: int, d: int, k: int) -> float:
        if not normed:
            return w[h, d, k]
        return g[d] * w[h, d, k] - sum(g[c] * w[h, c, k] for c in range(D)) / D

    check(equations.value_fold(gamma if normed else None, W_V), (H, D, K), value)


@pytest.mark.parametrize("normed", [True, False])
def test_value_constant(normed: bool) -> None:
    beta, W_V, b_V = numbers(D), numbers(H, D, K), numbers(H, K)
    b, w, v = beta.numpy(), W_V.numpy(), b_V.numpy()

    def value(h: int, k: int) -> float:
        return v[h, k] + (sum(b[d] * w[h, d, k] for d in range(D)) if normed else 0.0)

    check(equations.value_constant(beta if normed else None, W_V, b_V), (H, K), value)


# ---------------------------------------------------------------------- to the joint space


def test_written_by_heads() -> None:
    y, weight = numbers(B, P, H, K), numbers(H, K, D)
    a, w = y.numpy(), weight.numpy()
    found = equations.written_by_heads(y, weight)
    check(found, (B, P, H, D), lambda b, p, h, d: sum(a[b, p, h, k] * w[h, k, d] for k in range(K)))


def test_written_by_layer() -> None:
    y, weight = numbers(B, P, H, K), numbers(H, K, D)
    a, w = y.numpy(), weight.numpy()
    found = equations.written_by_layer(y, weight)
    every = [*product(range(H), range(K))]
    check(found, (B, P, D), lambda b, p, d: sum(a[b, p, h, k] * w[h, k, d] for h, k in every))


def test_pooled_constant() -> None:
    weights, vector = numbers(B, P), numbers(D)
    w, x = weights.numpy(), vector.numpy()
    check(equations.pooled_constant(weights, vector), (B, P, D), lambda b, p, d: w[b, p] * x[d])


def test_to_joint() -> None:
    stream, maps = numbers(B, H, P, D), numbers(P, D, E)
    x, m = stream.numpy(), maps.numpy()
    every = [*product(range(P), range(D))]
    found = equations.to_joint(stream, maps)
    check(found, (B, H, E), lambda b, h, e: sum(x[b, h, p, d] * m[p, d, e] for p, d in every))


def test_through_own() -> None:
    stream, maps = numbers(B, H, P, D), numbers(P, D, K)
    x, m = stream.numpy(), maps.numpy()
    found = equations.through_own(stream, maps)
    check(found, (B, H, P, K), lambda b, h, p, k: sum(x[b, h, p, d] * m[p, d, k] for d in range(D)))


def test_through_each() -> None:
    vectors, maps = numbers(L, D), numbers(P, D, E)
    x, m = vectors.numpy(), maps.numpy()
    found = equations.through_each(vectors, maps)
    check(found, (L, P, E), lambda l, p, e: sum(x[l, d] * m[p, d, e] for d in range(D)))


def test_neuron_contributions() -> None:
    neurons, weights = numbers(B, P, S), numbers(S, P, E)
    w, m = neurons.numpy(), weights.numpy()
    found = equations.neuron_contributions(neurons, weights)
    check(found, (B, S, E), lambda b, s, e: sum(w[b, p, s] * m[s, p, e] for p in range(P)))


# ---------------------------------------------------------------------- constants that are shared out


@pytest.mark.parametrize("with_pool", [True, False])
@pytest.mark.parametrize("with_scale", [True, False])
def test_share_weights(with_pool: bool, with_scale: bool) -> None:
    mean, omega_sum = numbers(B, P, seed=1), numbers(B, P, seed=2)
    pool_bias = numbers(B, P + 1) if with_pool else None
    scaled = numbers(B, L, P) if with_scale else None

    def value(b: int, l: int, s: int) -> float:
        row = [*mean[b].tolist(), 1.0]
        row += [] if pool_bias is None else pool_bias[b].tolist()
        row += omega_sum[b].tolist()
        return (row + ([] if scaled is None else scaled[b, l].tolist()))[s]

    n = 2 * P + 1 + (P + 1) * with_pool + P * with_scale
    check(equations.share_weights(mean, omega_sum, pool_bias, scaled, L), (B, L, n), value)


@pytest.mark.parametrize("n_pool_biases", [0, 3])
def test_term_directions(n_pool_biases: int) -> None:
    means, beta_P, pool_bias = numbers(P, E), numbers(E), numbers(n_pool_biases, E)
    rows = [*(-means).tolist(), beta_P.tolist(), *pool_bias.tolist()]
    found = equations.term_directions(means, beta_P, pool_bias, n_layers=L)
    check(found, (P + 1 + n_pool_biases, E), lambda f, e: rows[f][e] / (L + L + 1))


def test_share_directions() -> None:
    terms, biases = numbers(S, E), [numbers(L, P, E, seed=1), numbers(L, P, E, seed=2)]
    rows = [[*terms.tolist(), *biases[0][l].tolist(), *biases[1][l].tolist()] for l in range(L)]
    found = equations.share_directions(terms, biases, n_heads=H)
    check(found, (L, S + 2 * P, E), lambda l, s, e: rows[l][s][e] / H)


def test_shared_constants_are_all_of_them() -> None:
    """What 2 l + 1 terms have sums to −mean and βP, and what a layer's heads have to its bias."""
    means, beta_P, bias = numbers(1, E), numbers(E), numbers(L, 1, E)
    terms = equations.term_directions(means, beta_P, numbers(0, E), L)
    directions = equations.share_directions(terms, [bias], H)
    mean, omega_sum = numbers(B, 1, seed=1), numbers(B, 1, seed=2)
    weights = equations.share_weights(mean, omega_sum, None, None, L)
    heads = H * equations.by_layer(weights, directions).sum(1)
    others = (L + 1) * equations.contribution(weights[:, 0, : len(terms)], terms)
    torch.testing.assert_close(heads + others, beta_P - mean * means + omega_sum * bias.sum(0))
