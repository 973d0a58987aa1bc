"""The formula of an interaction against a plain loop over indices in float64."""

from __future__ import annotations

from clip_lens_plugin.interactions import equations
from tests.support.loops import check, formulas_of, numbers

B, T, L, H, M, G, E = 2, 3, 2, 3, 2, 4, 5
"""Images, texts, layers and heads of the image tower, of the text tower, width."""


def test_each_formula_has_a_test_of_its_name() -> None:
    own = formulas_of(equations)
    assert len(own) >= 1
    assert [name for name in own if f"test_{name}" not in globals()] == []


def test_pair_terms() -> None:
    images, texts = numbers(B, L, H, E), numbers(T, M, G, E)
    m, t = images.numpy(), texts.numpy()

    def value(b: int, text: int, l: int, h: int, tm: int, g: int) -> float:
        return sum(m[b, l, h, e] * t[text, tm, g, e] for e in range(E))

    check(equations.pair_terms(images, texts), (B, T, L, H, M, G), value)


def test_pair_terms_of_one_axis() -> None:
    images, texts = numbers(B, L, E), numbers(T, G, E)
    m, t = images.numpy(), texts.numpy()

    def value(b: int, text: int, c: int, f: int) -> float:
        return sum(m[b, c, e] * t[text, f, e] for e in range(E))

    check(equations.pair_terms(images, texts), (B, T, L, G), value)
