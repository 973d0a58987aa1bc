"""The search: a plain loop finds the same heads, and it does on new images less well than on those it chose by."""

from __future__ import annotations

import numpy as np

from clip_lens_plugin.groups.four import permuted
from clip_lens_plugin.groups.spurious.control import Control, permuted_cues, random_heads, worst_without
from clip_lens_plugin.groups.spurious.search import LEAST_GAIN, HeadMargins, Limits, chosen_heads, shares_right, without

LIMITS = Limits(candidates=8, most=5)


def noise(seed: int, sizes=(20, 20, 20, 20), heads: int = 12, cue: float = 0.0, core: float = 0.5) -> HeadMargins:
    """Heads of noise; the first is the class, and the second and third answer to the cue as strongly as is said."""
    rng = np.random.default_rng(seed)
    number = np.repeat(np.arange(4), sizes)
    y, a = 2.0 * (number // 2) - 1, 2.0 * (number % 2) - 1
    found = rng.normal(size=(len(number), heads))
    found[:, 0] += core * y
    found[:, 1:3] += cue * a[:, None]
    return HeadMargins(found, found.sum(1), number)


def by_loops(seen: HeadMargins, means: np.ndarray) -> list[int]:
    """The same search as prose says it."""
    mu = [[np.mean([v[h] for v, g in zip(seen.heads, seen.number, strict=True) if g == group]) for group in range(4)]
          for h in range(seen.heads.shape[1])]  # fmt: skip
    whole = [np.mean([w for w, g in zip(seen.whole, seen.number, strict=True) if g == group]) for group in range(4)]
    sign = np.sign(whole[1] + whole[3] - whole[0] - whole[2])
    order = sorted(range(len(mu)), key=lambda h: -sign * (mu[h][1] + mu[h][3] - mu[h][0] - mu[h][2]))

    def worst_and_mean(removed: list[int]) -> tuple[float, float]:
        right: dict[int, list[bool]] = {g: [] for g in range(4)}
        for row, (margin, group) in enumerate(zip(seen.whole, seen.number, strict=True)):
            for h in removed:
                margin += means[h] - seen.heads[row, h]
            right[group].append((margin > 0) == (group >= 2))
        shares = [sum(each) / len(each) for each in right.values()]
        return min(shares), sum(shares)

    chosen: list[int] = []
    worst = [worst_and_mean([])[0]]
    for _ in range(LIMITS.most):
        tried = [(worst_and_mean([*chosen, h]), h) for h in order[: LIMITS.candidates] if h not in chosen]
        (least, _), head = max(tried, key=lambda each: each[0])
        worst.append(least)
        chosen.append(head)
    return chosen[: min(n for n in range(len(worst)) if worst[n] >= max(worst) - LEAST_GAIN)]


def test_a_plain_loop_finds_the_same_heads():
    found = []
    for seed in range(6):
        seen = noise(seed, cue=1.5 if seed % 2 else 0.2)
        means = seen.heads.mean(0)
        found.append(chosen_heads(seen, means, LIMITS))
        assert found[-1] == by_loops(seen, means)
    assert any(len(each) > 1 for each in found)


def test_the_direction_of_the_cue_does_not_matter():
    seen = noise(1, cue=1.5)
    turned = HeadMargins(seen.heads, seen.whole, 2 * (seen.number // 2) + 1 - seen.number % 2)
    means = seen.heads.mean(0)
    assert set(chosen_heads(turned, means, LIMITS)) == set(chosen_heads(seen, means, LIMITS))


def test_planted_cue_heads_are_chosen_and_neither_random_ones_nor_permuted_cues_do_as_much():
    """Most images have the cue that goes with their class, so that only the cue's labels say what is wrong."""
    few, many = (150, 30, 30, 150), (400, 200, 200, 400)
    validation, test = noise(5, few, cue=2.0, core=5.0), noise(6, many, cue=2.0, core=5.0)
    means, limits = np.zeros(12), Limits(3, 2)
    chosen = chosen_heads(validation, means, limits)
    assert set(chosen) == {1, 2}
    ours = worst_without(test, means, chosen)
    assert ours > shares_right(test.whole[:, None], test.number).min() + 0.1
    sets = random_heads(test, means, [divmod(head, 4) for head in chosen], (3, 4), 200, seed=0)
    control = Control.of(sets, ours)
    assert len(control.worst) == 200
    assert control.p == 1 / 201
    turns = Control.of(permuted_cues(validation, test, means, limits, 19, seed=0), ours)
    assert turns.p <= 0.2
    assert np.isnan(Control.of([], ours).p)
    assert random_heads(test, means, [], (3, 4), 200, seed=0) == []


def test_a_head_that_helps_only_with_another_is_found():
    number = np.repeat(np.arange(4), 10)
    y, a = 2.0 * (number // 2) - 1, 2.0 * (number % 2) - 1
    heads = np.stack([1.5 * y, a, a, 0.1 * a], axis=1)  # Without one of the two the others still mislead, to the tie.
    heads[:, 0] -= 0.5 * y
    seen = HeadMargins(heads, heads.sum(1), number)
    assert shares_right(seen.whole[:, None], number).min() == 0
    assert worst_without(seen, np.zeros(4), [1]) == 0
    assert set(chosen_heads(seen, np.zeros(4), Limits(4, 4))) == {1, 2}


def test_what_is_chosen_on_the_test_images_looks_better_than_it_is():
    """There is no cue: what the search gains is luck, which other images do not share."""
    on_itself, on_others = [], []
    for seed in range(20):
        seen, others = noise(2 * seed), noise(2 * seed + 1)
        means, before = np.zeros(12), []
        for each in (seen, others):
            before.append(shares_right(each.whole[:, None], each.number).min())
        chosen = chosen_heads(seen, means, LIMITS)
        on_itself.append(worst_without(seen, means, chosen) - before[0])
        on_others.append(worst_without(others, means, chosen) - before[1])
    assert np.mean(on_itself) > 0.05
    assert np.mean(on_others) < 0.5 * np.mean(on_itself)


def test_permuted_cues_are_calibrated():
    """Without a cue, the share of turns that do as well as the true labels is as good as uniform."""
    ps = []
    for seed in range(50):
        validation, test = noise(3 * seed, (12, 6, 6, 12)), noise(3 * seed + 1)
        ours = worst_without(test, np.zeros(12), chosen_heads(validation, np.zeros(12), LIMITS))
        turns = permuted_cues(validation, test, np.zeros(12), LIMITS, 9, seed)
        ps.append(Control.of(turns, ours).p)
    share = np.mean(np.array(ps) <= 0.2)
    assert share <= 0.2 + 2.6 * np.sqrt(0.2 * 0.8 / 50)
    assert 0.4 < np.mean(ps) < 0.75  # Ties count against us.


def test_permuted_cues_keep_groups_and_classes():
    number = np.repeat(np.arange(4), (12, 3, 5, 9))
    turned = permuted(number, np.random.default_rng(0))
    assert np.bincount(turned).tolist() == [12, 3, 5, 9]
    assert np.array_equal(turned // 2, number // 2)
    assert not np.array_equal(turned, number)


def test_replaced_heads_are_taken_from_the_sum():
    seen, means = noise(3), np.arange(12.0)
    expected = [w - row[2] - row[5] + 2 + 5 for w, row in zip(seen.whole, seen.heads, strict=True)]
    np.testing.assert_allclose(without(seen, means, [2, 5]), expected)
    np.testing.assert_array_equal(without(seen, means, []), seen.whole)
