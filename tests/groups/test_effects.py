"""Effects of class and cue: a plain loop gives the same, they add up to the whole, and planted heads are found."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clip_lens_plugin import Groups, group_effects
from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier
from tests.conftest import random_images
from tests.groups.conftest import CORE, CUES


@pytest.mark.parametrize("tower", ["plain", "norm_then_mean", "coca", "custom"], indirect=True)
def test_every_component_by_a_plain_loop(tower):
    images = random_images(tower, 8, seed=4)
    c = tower.decompose(images)
    texts = torch.nn.functional.normalize(random_images(tower, 1).new_ones(2, c.embedding.shape[1]).cumsum(-1), dim=-1)
    texts[1] = torch.nn.functional.normalize(texts[1].flip(0) - 0.3, dim=0)
    number = np.array([0, 1, 2, 3, 3, 1, 0, -1])
    groups = Groups.of(np.where(number < 0, -1, number // 2), np.where(number < 0, -1, number % 2))
    found = group_effects(c, texts, groups)
    direction, norm = texts[1] - texts[0], c.embedding.norm(dim=-1)
    parts = {
        "embed": c.embed, "attn_bias": c.attn_bias, "mlp": c.mlps, "head": c.heads, "ln_bias": c.ln_bias,
        "pool_bias": c.pool_bias, "pool_mlp": c.pool_mlp, "edits": c.edits,
    }  # fmt: skip
    total = np.zeros(4)
    for at, (part, layer, head) in enumerate(found.components):
        vectors = parts[part]
        for place in (layer, head):
            vectors = vectors if place is None else vectors[:, place]
        for group in range(4):
            rows = np.flatnonzero(number == group).tolist()
            expected = sum(float(vectors[row] @ direction) / float(norm[row]) for row in rows) / len(rows)
            assert found.means[group, at] == pytest.approx(expected, abs=1e-11)
            total[group] += expected
    assert found.error < 1e-10
    np.testing.assert_allclose(found.whole, total, atol=1e-10)
    mean = found.whole
    whole = {
        "core": (mean[2] + mean[3] - mean[0] - mean[1]) / 2,
        "cue": (mean[1] + mean[3] - mean[0] - mean[2]) / 2,
        "core_by_cue": (mean[3] - mean[2] - mean[1] + mean[0]) / 2,
    }
    table = found.to_dataframe()
    for name, value in whole.items():
        assert found.of_whole()[name] == pytest.approx(value)
        assert table[name].sum() == pytest.approx(value, abs=1e-10)


def test_planted_heads_have_the_effects(spurious, texts, grouped):
    found = group_effects(spurious, texts, grouped)
    cue, core = found.heads("cue"), found.heads("core")
    order = [tuple(map(int, np.unravel_index(at, cue.shape))) for at in np.argsort(-cue, axis=None)]
    assert order[:2] == list(CUES)
    assert cue[CUES[1]] > 5 * np.abs(np.delete(cue.flatten(), [order[i][0] * 4 + order[i][1] for i in (0, 1)])).max()
    assert np.unravel_index(core.argmax(), core.shape) == CORE
    assert "Greatest cue: L1H1" in repr(found)
    assert "40 of (bird, air)" in found.about
    pairs = group_effects(spurious, texts, grouped, (("fish", "bird"), ("water", "air")))
    other = group_effects(spurious, texts.flip(0), Groups.of(1 - grouped.labels, 1 - grouped.values))
    for turned in (pairs, other):  # Towards the other text, of the other class and cue.
        np.testing.assert_allclose(turned.core, found.core, atol=1e-15)
        np.testing.assert_allclose(turned.cue, found.cue, atol=1e-15)
    with pytest.raises(ValueError, match="An effect is one of core, cue, core_by_cue"):
        found.heads("class")


def test_classifiers_of_other_classes_are_refused(spurious, texts, grouped):
    def named(*names: str) -> ZeroShotClassifier:
        return ZeroShotClassifier(names, texts[[0] * (len(names) - 2) + [0, 1]], 1.0)

    found = group_effects(spurious, named("a bird", "a fish"), grouped)
    np.testing.assert_array_equal(found.means, group_effects(spurious, texts, grouped).means)
    with pytest.raises(ValueError, match="another order than the groups'"):
        group_effects(spurious, named("fish", "bird"), grouped)
    with pytest.raises(ValueError, match=r"has 3 classes, and the groups 2 \(bird, fish\)"):
        group_effects(spurious, texts[[0, 0, 1]], grouped)
    three = Groups.of(grouped.labels + 1, grouped.values, classes=["cat", "bird", "fish"])
    by_all = group_effects(spurious, named("cat", "bird", "fish"), three, ((1, 2), (0, 1)))
    np.testing.assert_array_equal(by_all.means, found.means)
    with pytest.raises(ValueError, match="there are 3 classes"):
        group_effects(spurious, named("cat", "bird", "fish"), three)
