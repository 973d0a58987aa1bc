"""Each formula of TextSpan's steps, against a plain loop in float64."""

from __future__ import annotations

from itertools import product

import torch

from clip_lens_plugin.describe import equations
from tests.decomposition.test_equations import B, E, K, T
from tests.support.loops import check, formulas_of, numbers

M = 2


def test_each_formula_has_a_test_of_its_name() -> None:
    own = formulas_of(equations)
    assert len(own) > 3
    assert [name for name in own if f"test_{name}" not in globals()] == []


def test_without_directions() -> None:
    texts, direction = numbers(T, K), torch.nn.functional.normalize(numbers(K), dim=0)
    r, u = texts.numpy(), direction.numpy()
    found = equations.without_directions(texts, direction[None])
    check(found, (T, K), lambda t, k: r[t, k] - sum(r[t, j] * u[j] for j in range(K)) * u[k])
    check(found @ direction, (T,), lambda t: 0.0)
    each, directions = numbers(B, T, K), torch.linalg.qr(numbers(B, K, M)).Q.mT.contiguous()
    a, d = each.numpy(), directions.numpy()

    def value(b: int, t: int, k: int) -> float:
        return a[b, t, k] - sum(sum(a[b, t, j] * d[b, m, j] for j in range(K)) * d[b, m, k] for m in range(M))

    check(equations.without_directions(each, directions), (B, T, K), value)
    assert torch.equal(equations.without_directions(texts, texts[:0]), texts)


def test_covariance_left() -> None:
    covariance, along, earlier = numbers(B, T), numbers(B, M, T), numbers(B, M)
    s, a, c = covariance.numpy(), along.numpy(), earlier.numpy()
    found = equations.covariance_left(covariance, along, earlier)
    check(found, (B, T), lambda b, t: s[b, t] - sum(a[b, m, t] * c[b, m] for m in range(M)))
    torch.testing.assert_close(equations.covariance_left(covariance[0], along[0], earlier[0]), found[0])


def test_variance_left() -> None:
    variance, along, covariance, gained = numbers(B, T), numbers(B, T, seed=1), numbers(B, T, seed=2), numbers(B)
    v, a, s, g = variance.numpy(), along.numpy(), covariance.numpy(), gained.numpy()
    found = equations.variance_left(variance, along, covariance, gained)
    check(found, (B, T), lambda b, t: v[b, t] - 2 * a[b, t] * s[b, t] + a[b, t] ** 2 * g[b])


def test_steps_without_residuals_have_the_variances_of_residuals() -> None:
    texts, spread = numbers(T, K), numbers(K, K)
    form, directions = spread @ spread.T, torch.linalg.qr(numbers(K, M)).Q.T
    f, u = form.numpy(), directions.numpy()
    residual, every = texts.numpy().copy(), [*product(range(K), range(K))]
    along = texts.new_empty(M, T)
    variance = ((texts @ form) * texts).sum(1)
    for m in range(M):
        along[m] = texts @ directions[m]
        weighed = form @ directions[m]
        covariance = equations.covariance_left(texts @ weighed, along[:m], directions[:m] @ weighed)
        variance = equations.variance_left(variance, along[m], covariance, directions[m] @ weighed)
        for t in range(T):
            residual[t] -= sum(residual[t, k] * u[m, k] for k in range(K)) * u[m]
        check(variance, (T,), lambda t: sum(residual[t, i] * f[i, j] * residual[t, j] for i, j in every))


def test_projected() -> None:
    y, head_map = numbers(B, K), numbers(K, E)
    directions = torch.linalg.qr(numbers(E, 2)).Q.T
    c, u = (y @ head_map).numpy(), directions.numpy()

    def value(b: int, e: int) -> float:
        return sum(sum(c[b, f] * u[m, f] for f in range(E)) * u[m, e] for m in range(2))

    check(equations.projected(y, head_map, directions), (B, E), value)
