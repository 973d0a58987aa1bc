"""Each level of a tree sums to its parent, and its second hop is what two frozen heads pass on."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin import HookedCLIP, upstream, upstream_tree
from clip_lens_plugin.higher_order.tree import Node
from tests.conftest import random_images
from tests.support.families import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_each_level_sums_to_its_parent(family):
    model = HookedCLIP.from_open_clip(FAMILIES[family]().double())
    images = random_images(model, 1)
    directions = torch.randn(2, model.cfg.d_embed, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    tree = upstream_tree(model, images, 2, 1, directions, depth=3, widest=4)
    assert tree.error < 1e-12
    found = upstream(model, images, 2, 1).normalized().towards(directions)
    value = found.contribution[0, 0] - found.contribution[0, 1]
    assert tree.root.value == pytest.approx(float(value), rel=1e-10)
    scores = dict(zip(found.labels, (found.stack()[0][0, :, 0] - found.stack()[0][0, :, 1]).tolist(), strict=True))
    largest = sorted(scores, key=lambda label: -abs(scores[label]))[:4]
    assert [child.label for child in tree.root.children] == [*largest, f"{len(scores) - 4} others"]
    for child in tree.root.children[:4]:
        assert child.value == pytest.approx(scores[child.label], rel=1e-10)


def nodes(tree) -> dict[str, Node]:
    return {f"{parent} < {node.label}": node for _, parent, node in tree.root.walk()}


def test_the_second_hop_restates_its_formula(model):
    """``Σ_q a_q Σ_i A1[q, i] / σ1_i C(x_i) γ1 W_V1 W_O1 C γ2 W_V2 M t``: the embedding through two heads."""
    images = random_images(model, 1)
    text = model.encode_text(["a b"])
    tree = upstream_tree(model, images, 2, 1, "a b", widest=1000)
    embedding, cache = model.run_with_cache(images)
    blocks, head = model.blocks, model.decompose(images).readout.head_map(2, 1)

    def read(stream, layer, h):
        centred = (stream - stream.mean(-1, keepdim=True)) / cache[f"blocks.{layer}.ln1.hook_scale"]
        return (centred * blocks[layer].ln1.w) @ blocks[layer].attn.W_V[h]

    first = cache["pattern", 0][:, 3] @ read(cache["hook_embed"], 0, 3) @ blocks[0].attn.W_O[3]
    second = cache["pattern", 2][:, 1, :1] @ read(first, 2, 1)
    expected = (second[0, 0] / cache["ln_final.hook_scale"][0, 0, 0]) @ head @ text[0] / embedding.norm()
    assert nodes(tree)["L0H3 < embed"].value == pytest.approx(float(expected), rel=1e-9)


def test_neurons_of_an_mlp_are_its_sources(model):
    images = random_images(model, 1)
    tree = upstream_tree(model, images, 2, 0, "a b", widest=500)
    mlp = nodes(tree)["L2H0 < 1_mlp"]
    expected = upstream(model, images, 2, 0).normalized().towards(["a b"]).neurons(1)[0, :, 0]
    found = {child.label: child.value for child in mlp.children}
    assert len(found) == 192
    values = torch.tensor([found[f"1_mlp, neuron {m}"] for m in range(192)], dtype=torch.float64)
    torch.testing.assert_close(values, expected)


def test_without_a_text_values_are_shares(model):
    images = random_images(model, 1)
    tree = upstream_tree(model, images, 1, 2, depth=1, widest=3)
    assert tree.unit == "share"
    assert tree.root.value == pytest.approx(1.0)
    assert all(not child.children for child in tree.root.children)
    shares = upstream(model, images, 1, 2).shares()[0]
    assert abs(tree.root.children[0].value) == pytest.approx(float(shares.abs().max()))


def test_the_table_and_the_words_have_every_node(model):
    tree = upstream_tree(model, random_images(model, 1), 1, 2, ["a b", "c"], depth=2, widest=2)
    table = tree.to_dataframe()
    assert list(table.columns) == ["depth", "parent", "source", "value"]
    assert len(table) == len(str(tree).splitlines()) - 1
    assert "“a b” rather than “c”" in repr(tree)
    assert "patterns and statistics frozen" in repr(tree)


@pytest.mark.parametrize(
    ("n", "options", "message"),
    [
        (2, {}, "one image, got 2"),
        (1, {"depth": 0}, "depth must be"),
        (1, {"widest": 0}, "widest must be"),
        (1, {"towards": ["a", "b", "c"]}, "got 3"),
    ],
)
def test_what_no_tree_can_be_of_is_named(model, n, options, message):
    with pytest.raises(ValueError, match=message):
        upstream_tree(model, random_images(model, n), 1, 0, **options)
