"""Sets of components: what is in them, how they are named and joined, and what is refused."""

from __future__ import annotations

import pytest

from clip_lens_plugin.ablation import Components, paper_components


def test_sets_hold_what_they_name(model):
    attention = Components.of_attention(model, [0, -1])
    assert attention.heads == {(l, h) for l in (0, 2) for h in range(4)}
    assert (attention.biases, attention.n_layers, attention.name) == ({0, 2}, 2, "attention 0, 2")
    assert Components.of_heads(model, [(-1, 1), (0, 3)]).name == "L0H3, L2H1"
    assert Components.of_mlps(model, range(3)).name == "MLPs 0-2"
    both = Components.of_mlps(model, [0]) | Components.of_self_attention(model, [1, 2])
    assert (both.kind, both.mlps, both.self_attention, both.n_layers) == ("mlps and self_attention", {0}, {1, 2}, 3)


def test_what_does_not_exist_or_counts_twice_is_refused(model):
    for make in (Components.of_attention, Components.of_mlps, Components.of_self_attention):
        with pytest.raises(IndexError, match="layer 3"):
            make(model, [3])
    with pytest.raises(IndexError, match="head 4"):
        Components.of_heads(model, [(0, 4)])
    with pytest.raises(ValueError, match=r"layers \[1\]"):
        Components.of_attention(model, [0, 1]) | Components.of_self_attention(model, [1])


def test_the_papers_sets(model):
    assert [each.kind for each in paper_components(model)] == [
        *["attention"] * 3,
        "mlps",
        "self_attention",
        "mlps and self_attention",
    ]
    assert [each.n_layers for each in paper_components(model, self_attention=False)] == [1, 2, 3, 3]
