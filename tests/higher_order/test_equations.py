"""Each formula of second order against a plain loop over indices in float64."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from clip_lens_plugin.higher_order import equations
from tests.support.loops import check, formulas_of, numbers

B, N, G, H, P, D, J, M, Q, W = 2, 4, 2, 3, 2, 5, 3, 4, 6, 3
"""Images, tokens, heads that read, earlier heads, pool heads, widths of stream and head, neurons, readers, result."""


def test_each_formula_has_a_test_of_its_name() -> None:
    own = formulas_of(equations)
    assert len(own) >= 6
    assert [name for name in own if f"test_{name}" not in globals()] == []


@pytest.mark.parametrize("has_scale", [True, False])
def test_reading(has_scale: bool) -> None:
    attended, scale = numbers(B, H, P, N), numbers(B, N).abs() + 0.5
    a, s = attended.numpy(), scale.numpy()
    found = equations.reading(attended, scale if has_scale else None)
    check(found, (B, H, P, N), lambda b, h, p, i: a[b, h, p, i] / (s[b, i] if has_scale else 1.0))


def test_read_by_heads() -> None:
    stream, values = numbers(B, H, G, P, D), numbers(G, D, J)
    x, v = stream.numpy(), values.numpy()

    def value(b: int, h: int, g: int, p: int, j: int) -> float:
        return sum(x[b, h, g, p, d] * v[g, d, j] for d in range(D))

    check(equations.read_by_heads(stream, values), (B, H, G, P, J), value)


def test_neuron_scalars() -> None:
    post, reads = numbers(B, N, M), numbers(B, N, Q)
    a, w = post.numpy(), reads.numpy()
    found = equations.neuron_scalars(post, reads)
    check(found, (B, M, Q), lambda b, m, q: sum(w[b, i, q] * a[b, i, m] for i in range(N)))


def test_neuron_effects() -> None:
    scalars, directions = numbers(B, M, Q), numbers(M, Q, W)
    s, d = scalars.numpy(), directions.numpy()
    found = equations.neuron_effects(scalars, directions)
    check(found, (B, M, W), lambda b, m, w: sum(s[b, m, q] * d[m, q, w] for q in range(Q)))


def test_written_by_neurons() -> None:
    scalars, W_out = numbers(B, M, Q), numbers(M, D)
    s, w = scalars.numpy(), W_out.numpy()
    found = equations.written_by_neurons(scalars, W_out)
    check(found, (B, Q, D), lambda b, q, d: sum(s[b, m, q] * w[m, d] for m in range(M)))


def test_neuron_directions() -> None:
    W_out, values, maps = numbers(M, D), numbers(G, D, J), numbers(G, P, J, W)
    o, v, e = W_out.numpy(), values.numpy(), maps.numpy()

    def value(m: int, g: int, p: int, w: int) -> float:
        return sum(o[m, d] * v[g, d, j] * e[g, p, j, w] for d in range(D) for j in range(J))

    check(equations.neuron_directions(W_out, values, maps), (M, G, P, W), value)


def test_through_a_head() -> None:
    reads, pattern = numbers(B, P, N), numbers(B, H, N, N)
    r, a = reads.numpy(), pattern.numpy()
    found = equations.through_a_head(reads, pattern)
    check(found, (B, H, P, N), lambda b, h, p, i: sum(r[b, p, q] * a[b, h, q, i] for q in range(N)))


def test_letters_of_shapes_are_checked() -> None:
    with pytest.raises(TypeCheckError):
        equations.neuron_scalars(torch.zeros(2, 3, 4), torch.zeros(2, 4, 3))


def test_shares_of_head() -> None:
    terms, maps = numbers(B, M, G, J), numbers(G, J, W)
    whole, forms = terms.sum(1), maps @ maps.mT
    u, m = terms.numpy(), maps.numpy()

    def value(b: int, g: int, c: int) -> float:
        written = [
            [sum(y[j] * m[g, j, w] for j in range(J)) for w in range(W)] for y in (u[b, c, g], u[b, :, g].sum(0))
        ]
        return sum(x * y for x, y in zip(*written, strict=True)) / sum(y * y for y in written[1])

    check(equations.shares_of_head(terms, whole, forms), (B, G, M), value)
