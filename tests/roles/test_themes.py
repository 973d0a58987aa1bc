"""The mass of a theme and how often dealing out themes gives as much, against loops."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch

from clip_lens_plugin.roles.themes import leading_theme, masses_by_chance, theme_codes

THEMES = ["red", "blue", "", "red", "green", "blue", "", "red"]
GAINS = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)


def plain_mass(themes: list[str], gains: list[float]) -> tuple[str, float]:
    mass: dict[str, float] = defaultdict(float)
    for theme, gain in zip(themes, gains, strict=True):
        if theme:
            mass[theme] += gain
    best = max(mass, key=lambda theme: mass[theme], default="")
    return best, mass[best] / sum(gains) if best else 0.0


@pytest.mark.parametrize("picks", [[0, 3, 1, 5], [2, 1, 5, 0], [6, 2, 4, 0], [4, 5, 0, 2]])
def test_the_leading_theme_is_that_of_the_greatest_mass(picks):
    codes, names = theme_codes(THEMES)
    assert names == ["red", "blue", "green"]
    found = leading_theme(codes[picks], GAINS, names)
    themes = [THEMES[pick] for pick in picks]
    theme, mass = plain_mass(themes, GAINS.tolist())
    assert (found.theme, found.consistency) == (theme, themes.count(theme))
    assert found.mass == pytest.approx(mass)


def test_texts_without_a_theme_lead_nothing():
    codes, names = theme_codes(THEMES)
    assert leading_theme(codes[[2, 6]], GAINS[:2], names) == ("", 0.0, 0)
    with pytest.raises(ValueError, match=r"No text of the pool has a theme.*TextPool\(texts, themes\)"):
        theme_codes(["", ""])


def test_masses_by_chance_are_those_of_themes_that_were_dealt_out():
    codes, _ = theme_codes(THEMES)
    g = torch.Generator().manual_seed(0)
    permutations = torch.stack([torch.randperm(len(THEMES), generator=g) for _ in range(40)])
    picks = [5, 0, 2, 7]
    found = masses_by_chance(codes, picks, GAINS, permutations)
    for value, order in zip(found.tolist(), permutations.tolist(), strict=True):
        dealt = [THEMES[order[text]] for text in range(len(THEMES))]
        assert value == pytest.approx(plain_mass([dealt[pick] for pick in picks], GAINS.tolist())[1])
