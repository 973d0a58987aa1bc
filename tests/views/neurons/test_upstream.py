"""Pages and figures of what feeds a head."""

from __future__ import annotations

import re
from html import unescape

import pytest

from clip_lens_plugin import HookedCLIP, upstream, upstream_tree
from clip_lens_plugin.higher_order.tree import Node, UpstreamTree
from clip_lens_plugin.scenes import draw, sample_scenes
from clip_lens_plugin.views import tree_view, upstream_view
from clip_lens_plugin.views.words.upstream import in_words, level_limits


def words_of(html: str) -> str:
    """What a page says, without its tags."""
    return unescape(re.sub(r"<[^>]*>", " ", html))


@pytest.fixture(scope="module")
def model() -> HookedCLIP:
    return HookedCLIP.from_pretrained("scenes")


PICTURES = [draw(scene) for scene in sample_scenes(3, seed=2)]


def test_the_table_has_the_greatest_terms_and_their_mean_share(model):
    found = upstream(model, PICTURES, 4, 3)
    page = words_of(upstream_view(found).html())
    shares = dict(zip(found.labels, found.shares().mean(0).tolist(), strict=True))
    largest = max(shares, key=lambda label: abs(shares[label]))
    assert in_words(largest) in page
    assert f"{100 * shares[largest]:+.2f}".replace("-", "−") in page
    assert "patterns and statistics frozen" in page
    assert "20 greatest of 46 terms" in page


def test_scores_towards_a_text_are_those_of_the_terms(model):
    found = upstream(model, PICTURES, 4, 3).normalized().towards(["red shape", "<b>blue</b>"])
    view = upstream_view(found, 1)
    assert "“<b>blue</b>”" in view.title
    assert "<b>blue" not in view.html()
    scores = found.stack()[0][:, :, 1].mean(0)
    assert f"{float(scores.abs().max()):.4f}"[:6] in words_of(view.html())
    with pytest.raises(IndexError, match="text"):
        upstream_view(found, 2)


def test_a_view_is_of_one_head(model):
    with pytest.raises(ValueError, match=r"upstream\(model, images, 2, head\)"):
        upstream_view(upstream(model, PICTURES[:1], 2))


@pytest.mark.parametrize("layer", [0, 1, 5])
def test_figures_of_any_layer_are_drawn(model, layer):
    found = upstream(model, PICTURES[:1], layer, 0)
    figure = upstream_view(found).figure()
    grids = [axes.images[0].get_array() for axes in figure.axes if axes.get_ylabel()]
    assert [grid.shape for grid in grids] == ([(layer, 11)] if layer else [])
    if layer:
        shares = dict(zip(found.labels, (100 * found.shares()[0]).tolist(), strict=True))
        assert float(grids[0][0, 3]) == pytest.approx(shares["L0H3"])
        assert float(grids[0][0, 8]) == pytest.approx(shares["0_mlp"])


def test_every_node_of_a_tree_is_on_the_page_and_in_the_figure(model):
    tree = upstream_tree(model, PICTURES[0], 5, 4, ["red shape", "blue shape"])
    page, figure = words_of(tree_view(tree).html()), tree_view(tree).figure()
    letters = " ".join(text.get_text() for text in figure.texts)
    for _, _, node in tree.root.walk():
        assert in_words(node.label) in page
        assert in_words(node.label) in letters
    bars = [bar.get_width() for bar in figure.axes[0].patches]
    nodes = list(tree.root.walk())
    assert len(bars) == len(nodes)
    for bar, (depth, _, node) in zip(bars, nodes, strict=True):
        assert bar == pytest.approx(node.value / level_limits(tree)[depth])


def test_names_are_escaped_and_a_tree_of_zeros_is_drawn():
    root = Node("L1H0", 0.0, (Node("embed", 0.0), Node("constant", 0.0)))
    tree = UpstreamTree(root, "<script>alert(1)</script>", "towards “<i>”", "cosine", 0.0)
    html = tree_view(tree).html()
    assert "<script>" not in html
    assert "<i>”" not in html
    assert tree_view(tree).png[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("L3H7", "head 7 of layer 3"),
        ("2_mlp", "MLP of layer 2"),
        ("2_mlp, neuron 41", "neuron 41"),
        ("0_mlp_bias", "MLP bias of layer 0"),
        ("11_attn_bias", "attention bias of layer 11"),
        ("12 others", "12 others"),
    ],
)
def test_labels_are_said_in_words(label, words):
    assert in_words(label) == words
