"""Each formula of what contributions say, in texts, shares and moments, against a plain loop in float64."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from clip_lens_plugin.decomposition import equations
from tests.decomposition import test_equations as of_the_sum
from tests.decomposition.test_equations import B, D, E, H, K, L, N, P, S, T
from tests.support.loops import check, formulas_of, numbers


def test_each_formula_has_a_test_of_its_name() -> None:
    own = formulas_of(equations)
    assert len(own) > 30
    assert [name for name in own if f"test_{name}" not in {*vars(of_the_sum), *globals()}] == []


# ---------------------------------------------------------------------- towards texts


def test_towards() -> None:
    vectors, texts = numbers(B, L, E), numbers(T, E)
    c, x = vectors.numpy(), texts.numpy()
    found = equations.towards(vectors, texts)
    check(found, (B, L, T), lambda b, l, t: sum(c[b, l, e] * x[t, e] for e in range(E)))


def test_cosines() -> None:
    embeddings, texts = numbers(B, E), torch.nn.functional.normalize(numbers(T, E), dim=-1)
    m, x = embeddings.numpy(), texts.numpy()

    def value(b: int, t: int) -> float:
        return sum(m[b, e] * x[t, e] for e in range(E)) / sum(m[b, e] ** 2 for e in range(E)) ** 0.5

    check(equations.cosines(embeddings, texts), (B, T), value)


def test_text_streams() -> None:
    maps, texts = numbers(P, D, E), numbers(E, T)
    m, x = maps.numpy(), texts.numpy()
    found = equations.text_streams(maps, texts)
    check(found, (P, D, T), lambda p, d, t: sum(m[p, d, e] * x[e, t] for e in range(E)))
    each = numbers(P, E, T)
    y = each.numpy()
    found = equations.text_streams(maps, each)
    check(found, (P, D, T), lambda p, d, t: sum(m[p, d, e] * y[p, e, t] for e in range(E)))


def test_text_directions() -> None:
    weight, streams = numbers(H, K, D), numbers(P, D, T)
    w, m = weight.numpy(), streams.numpy()
    found = equations.text_directions(weight, streams)
    check(found, (H, P * K, T), lambda h, j, t: sum(w[h, j % K, d] * m[j // K, d, t] for d in range(D)))


def test_head_scores() -> None:
    y, directions = numbers(B, L, H, K), numbers(L, H, K, T)
    a, m = y.numpy(), directions.numpy()
    found = equations.head_scores(y, directions)
    check(found, (B, L, H, T), lambda b, l, h, t: sum(a[b, l, h, k] * m[l, h, k, t] for k in range(K)))


def test_heads_along() -> None:
    y, directions = numbers(B, L, H, K), numbers(L, H, K, B)
    a, m = y.numpy(), directions.numpy()
    found = equations.heads_along(y, directions)
    check(found, (B, L, H), lambda b, l, h: sum(a[b, l, h, k] * m[l, h, k, b] for k in range(K)))


def test_heads_along_is_along_of_the_heads() -> None:
    y, maps, wanted = numbers(B, L, H, K), numbers(L, H, K, E), numbers(B, E)
    heads = torch.einsum("blhk,lhke->blhe", y, maps)
    torch.testing.assert_close(equations.heads_along(y, maps @ wanted.T), equations.along(heads, wanted))


def test_score_of_heads() -> None:
    y, directions = numbers(B, H, K), numbers(H, K, T)
    a, m = y.numpy(), directions.numpy()
    every = [*product(range(H), range(K))]
    found = equations.score_of_heads(y, directions)
    check(found, (B, T), lambda b, t: sum(a[b, h, k] * m[h, k, t] for h, k in every))


def test_token_scores() -> None:
    y, directions = numbers(B, N, H, K), numbers(H, K, T)
    a, m = y.numpy(), directions.numpy()
    found = equations.token_scores(y, directions)
    check(found, (B, H, N, T), lambda b, h, i, t: sum(a[b, i, h, k] * m[h, k, t] for k in range(K)))


def test_values_towards() -> None:
    values, directions = numbers(B, N, H, K), numbers(H, P * K, T)
    v, m = values.numpy(), directions.numpy()
    found = equations.values_towards(values, directions)
    check(found, (B, N, H, P, T), lambda b, i, h, p, t: sum(v[b, i, h, k] * m[h, p * K + k, t] for k in range(K)))
    assert equations.values_towards(values.half(), directions.float()).dtype == torch.float32


def test_attended_towards() -> None:
    attended, values = numbers(B, H, P, N), numbers(B, N, H, P, T)
    a, v = attended.numpy(), values.numpy()
    found = equations.attended_towards(attended, values)
    check(found, (B, H, N, T), lambda b, h, i, t: sum(a[b, h, p, i] * v[b, i, h, p, t] for p in range(P)))


def test_both_orders_give_the_same_token_scores() -> None:
    """Directions before ω, as while a model runs, and ω before directions."""
    attended, values, directions = numbers(B, H, P, N), numbers(B, N, H, K), numbers(H, P * K, T)
    coordinates = equations.token_coordinates(attended.permute(0, 3, 1, 2), values)
    found = equations.attended_towards(attended, equations.values_towards(values, directions))
    torch.testing.assert_close(found, equations.token_scores(coordinates, directions))


@pytest.mark.parametrize("batch", [(), (B,)])
def test_over_heads(batch: tuple[int, ...]) -> None:
    scores, chosen = numbers(*batch, L, H, N, T), numbers(L, H)
    s, w = scores.numpy(), chosen.numpy()
    every = [*product(range(L), range(H))]

    def value(*index: int) -> float:
        *at, i, t = index
        return sum(w[l, h] * s[(*at, l, h, i, t)] for l, h in every)

    check(equations.over_heads(scores, chosen), (*batch, N, T), value)


# ---------------------------------------------------------------------- shares and moments


def test_along() -> None:
    contributions, embedding = numbers(B, L, E), numbers(B, E)
    c, m = contributions.numpy(), embedding.numpy()
    found = equations.along(contributions, embedding)
    check(found, (B, L), lambda b, l: sum(c[b, l, e] * m[b, e] for e in range(E)))
    rest = torch.cat([contributions, (embedding - contributions.sum(1))[:, None]], dim=1)
    shares = equations.along(rest, embedding / embedding.square().sum(-1, keepdim=True))
    torch.testing.assert_close(shares.sum(1), torch.ones(B, dtype=torch.float64))


def test_own_direction() -> None:
    embedding, contributions = numbers(B, E), numbers(B, L, E)
    m, c = embedding.numpy(), contributions.numpy()
    found = equations.own_direction(embedding)
    check(found, (B, E), lambda b, e: m[b, e] / sum(m[b, f] ** 2 for f in range(E)))
    torch.testing.assert_close(equations.own_direction(embedding[1]), found[1], rtol=1e-12, atol=1e-12)

    def share(b: int, l: int) -> float:
        return sum(c[b, l, e] * m[b, e] for e in range(E)) / sum(m[b, e] ** 2 for e in range(E))

    check(equations.along(contributions, found), (B, L), share)


def test_second_moments() -> None:
    y = numbers(B, H, K)
    a = y.numpy()
    found = equations.second_moments(y)
    check(found, (H, K, K), lambda h, i, j: sum(a[b, h, i] * a[b, h, j] for b in range(B)))
    parts = numbers(S, B, H, K)
    a_p = parts.numpy()
    found = equations.second_moments(parts)
    check(found, (S, H, K, K), lambda s, h, i, j: sum(a_p[s, b, h, i] * a_p[s, b, h, j] for b in range(B)))


def test_moment_in() -> None:
    frame, moment = numbers(K, E), numbers(K, K)
    f, m = frame.numpy(), moment.numpy()
    every = [*product(range(K), range(K))]
    found = equations.moment_in(frame, moment)
    check(found, (E, E), lambda i, j: sum(f[a, i] * m[a, c] * f[c, j] for a, c in every))


def test_orthonormal_frame() -> None:
    head_map = numbers(K, E)
    to_span, axes = equations.orthonormal_frame(head_map)
    u, v, m = to_span.numpy(), axes.numpy(), head_map.numpy()
    check(axes.T @ axes, (K, K), lambda i, j: float(i == j))
    check(head_map, (K, E), lambda k, e: sum(u[k, i] * v[e, i] for i in range(K)))  # y M = (y F) Qᵀ
    check(to_span, (K, K), lambda k, i: sum(m[k, e] * v[e, i] for e in range(E)))


def test_quadratic() -> None:
    x, form = numbers(B, K), numbers(K, K)
    a, f = x.numpy(), form.numpy()
    every = [*product(range(K), range(K))]
    found = equations.quadratic(x, form)
    check(found, (B,), lambda b: sum(a[b, i] * f[i, j] * a[b, j] for i, j in every))
    torch.testing.assert_close(equations.quadratic(x[1], form), found[1])
    groups, forms = numbers(H, B, K), numbers(H, K, K)
    g, of = groups.numpy(), forms.numpy()
    found = equations.quadratic(groups, forms)
    check(found, (H, B), lambda h, b: sum(g[h, b, i] * of[h, i, j] * g[h, b, j] for i, j in every))


def test_gram() -> None:
    head_map, y = numbers(K, E), numbers(B, K)
    m, c = head_map.numpy(), (y @ head_map).numpy()
    found = equations.gram(head_map)
    check(found, (K, K), lambda i, j: sum(m[i, e] * m[j, e] for e in range(E)))
    check(equations.quadratic(y, found), (B,), lambda b: sum(c[b, e] ** 2 for e in range(E)))
    of_heads = numbers(H, K, E)
    torch.testing.assert_close(equations.gram(of_heads)[1], equations.gram(of_heads[1]), rtol=1e-12, atol=1e-12)
