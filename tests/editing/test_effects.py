"""Shares before, by the direct effect and after, and the card that shows them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from clip_lens_plugin.editing.card import card, in_markdown
from clip_lens_plugin.editing.effects import EditEffects, shares_of
from clip_lens_plugin.model.edits import Edit

N = 40
LABELS = np.array([0, 1] * (N // 2))
GROUPS = ["a", "a", "b", "b", None] * (N // 5)
ABOUT = {"loader": "open_clip", "dtype": "float32", "preprocessing": True, "copied": [], "context_length": None}
EDITS = (Edit(3, 6, "removed, zero in its place"), Edit(2, 1, "without its part towards “<b>|`x`\n# no”"))


def effects(lost: int = 0) -> EditEffects:
    """By the direct effect all are right; ``lost`` of them are wrong after."""
    before = LABELS == 0
    right = {"before": before, "direct": np.ones(N, dtype=bool), "after": np.arange(N) >= lost}
    return EditEffects(EDITS, N, shares_of(right, LABELS, ("cat", "dog | cow"), GROUPS), 10, 0.875)


def test_shares_and_the_worst_of_them() -> None:
    found = effects(lost=8)
    assert found.accuracy is not None
    assert [found.accuracy.before.value, found.accuracy.direct.value, found.accuracy.after.value] == [0.5, 1, 0.8]
    # All lost, none won: both tails of Binomial(8, 1/2).
    assert found.accuracy.p == pytest.approx(2 * binom.pmf(0, 8, 0.5))
    cat, dog = found.of_kind("class")
    assert (cat.n, cat.before.value, dog.before.value) == (20, 1.0, 0.0)
    assert cat.p == pytest.approx(2 * 2 * binom.pmf(0, 4, 0.5))  # Two classes are two tests.
    assert found.worst("class", "before") == dog
    groups = {group.name: group for group in found.of_kind("group")}
    assert {name: group.n for name, group in groups.items()} == {"a": 16, "b": 16}
    # Of the first eight images, 0, 1, 5 and 6 are of group a, 2, 3 and 7 of group b.
    assert {name: group.after.value for name, group in groups.items()} == {"a": 12 / 16, "b": 13 / 16}
    assert found.worst("group", "after") == groups["a"]
    table = found.to_dataframe()
    assert list(table["name"]) == ["all images", "cat", "dog | cow", "a", "b"]
    assert table.loc[0, "after_low"] < 0.8 < table.loc[0, "after_high"]
    assert "accuracy 0.500 to 0.800; worst class 0.000 to 0.800; worst group 0.500 to 0.750" in str(found)


def test_images_of_no_known_class_count_nowhere() -> None:
    labels = np.where(np.arange(N) < 10, -1, LABELS)
    right = dict.fromkeys(("before", "direct", "after"), np.arange(N) >= 10)
    found = EditEffects(EDITS, N, shares_of(right, labels, ("cat", "dog", "cow"), ["x"] * 10 + ["y"] * 30), 0, None)
    assert [(share.name, share.n, share.before.value) for share in found.shares] == [
        ("all images", 30, 1.0),
        ("cat", 15, 1.0),
        ("dog", 15, 1.0),
        ("y", 30, 1.0),
    ]


@pytest.mark.parametrize(("lost", "parts"), [(0, False), (5, False), (6, True)])
def test_the_card_warns_where_effects_part_by_more_than_chance(lost: int, parts: bool) -> None:
    found = effects(lost)  # Five of five would be p = 0.06, six of six 0.03.
    assert bool(found.parting()) == parts
    text = card("model", EDITS, found, ABOUT)
    assert ("**Warning: direct and total effect part" in text) == parts
    assert ("differ by no more than chance" in text) != parts
    assert (
        f"| Zero-shot accuracy | 50.0 % (35.2 to 64.8) | 100.0 % (91.2 to 100.0) | {100 - 2.5 * lost:.1f} % (" in text
    )
    assert "| Retrieval: 10 nearest images kept | | | 87.5 % |" in text


def test_the_card_says_what_was_not_measured() -> None:
    text = card("model", EDITS, None, ABOUT)
    assert text.count("| not measured | not measured | not measured |") == 4
    assert "Warning" not in text
    without_classifier = card("model", EDITS, EditEffects(EDITS, 4, (), 3, 0.5), ABOUT)
    assert without_classifier.count("| not measured | not measured | not measured |") == 3
    assert "Measured on 4 images" in without_classifier


def test_nothing_given_acts_in_the_card() -> None:
    text = card("a <script>`\n# name", EDITS, effects(), ABOUT)
    assert text.splitlines()[0] == "# a &lt;script&gt;\\` \\# name"
    assert "- L2H1 without its part towards “&lt;b&gt;\\|\\`x\\` \\# no”" in text.splitlines()
    # Every row of a table has as many cells as its head.
    rows = [line.replace(r"\|", "") for line in text.splitlines() if line.startswith("|")]
    assert {row.rstrip().count("|") for row in rows} == {5, 6}
    assert "dog \\| cow" in text
    assert in_markdown("\x1b[31m[x](y)") == r"\\x1b\[31m\[x\](y)"
