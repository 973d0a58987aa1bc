"""Terms of a head sum to it, and each is what the model loses without it when all else is frozen."""

from __future__ import annotations

import re

import pandas as pd
import pytest
import torch

from clip_lens_plugin import HookedCLIP, upstream
from clip_lens_plugin.decomposition.completeness import CompletenessError
from tests.conftest import random_images
from tests.higher_order.frozen import added_through
from tests.support.families import FAMILIES

pytestmark = pytest.mark.slow


@pytest.fixture(params=list(FAMILIES))
def tower(request: pytest.FixtureRequest) -> HookedCLIP:
    return HookedCLIP.from_open_clip(FAMILIES[request.param]().double())


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_terms_sum_to_the_head_and_are_what_a_frozen_run_loses_without_them(tower):
    images, layer, head = random_images(tower), 2, 1
    found = upstream(tower, images, layer, head, batch_size=2)
    heads = tower.decompose(images).heads
    assert relative(found.total(), heads[:, layer, head]) < 1e-12
    assert found.completeness_error() < 1e-12
    _, cache = tower.run_with_cache(images)
    block = tower.blocks[1]
    from_head = cache["blocks.1.attn.hook_z"][:, :, 3] @ block.attn.W_O[3]
    written = {"embed": (found.embed, cache["hook_embed"]), "head": (found.heads[:, 1, 3], from_head)}
    if block.mlp.normalises_output:
        written["mlp"] = found.mlps[:, 0], cache["blocks.0.hook_mlp_out"]
        with pytest.raises(ValueError, match="normalises"):
            found.neurons(1)
    else:
        neuron = cache["blocks.1.mlp.hook_post"][:, :, 7:8] * block.mlp.W_out[7]
        written["neuron"] = found.neurons(1)[:, 7], neuron
        written["mlp"] = found.mlps[:, 0] + found.mlp_bias[:, 0], cache["blocks.0.hook_mlp_out"]
        assert relative(found.neurons(0).sum(1), found.mlps[:, 0]) < 1e-12
    for term, stream in written.values():
        assert relative(term, added_through(tower, images, cache, layer, head, stream)) < 1e-10


def test_all_heads_of_a_layer_come_in_one_pass(tower):
    images = random_images(tower)
    every = upstream(tower, images, -1)
    assert relative(every.contribution, tower.decompose(images).heads[:, -1]) < 1e-12
    one = upstream(tower, images, -1, 2)
    torch.testing.assert_close(every.stack()[0][:, 2], one.stack()[0], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(every.shares()[:, 2], one.shares(), rtol=1e-10, atol=1e-12)


@pytest.fixture
def wide(model: HookedCLIP) -> HookedCLIP:
    """The plain tower in float64."""
    return HookedCLIP.from_open_clip(model.clip.double(), tokenizer=model.tokenizer)


def test_terms_towards_texts_are_dot_products_with_them(wide):
    images, texts = random_images(wide), wide.encode_text(["a b", "c"])
    found = upstream(wide, images, 2, 0)
    for given in (texts, ["a b", "c"]):
        scores = found.towards(given)
        torch.testing.assert_close(scores.stack()[0], found.stack()[0] @ texts.T)
        torch.testing.assert_close(scores.neurons(0), found.neurons(0) @ texts.T)
        assert scores.texts == (("a b", "c") if isinstance(given, list) else ("text 0", "text 1"))
    cosine = found.normalized().towards(texts)
    assert cosine.unit == "cosine"
    c = wide.decompose(images).normalized()
    torch.testing.assert_close(cosine.contribution, c.towards(texts)[:, 2, 0])
    torch.testing.assert_close(cosine.total(), c.towards(texts)[:, 2, 0])


def test_shares_are_parts_of_the_heads_own_length(wide):
    found = upstream(wide, random_images(wide), 1, 3)
    terms, own = found.stack()[0], found.contribution
    expected = torch.einsum("bce,be->bc", terms, own) / own.square().sum(-1, keepdim=True)
    torch.testing.assert_close(found.shares(), expected)
    torch.testing.assert_close(found.shares().sum(-1), torch.ones(3, dtype=torch.float64))


def test_layer_0_reads_the_embedding_alone(wide):
    found = upstream(wide, random_images(wide), 0, 0)
    assert found.labels == ["embed", "constant"]
    assert found.heads.shape == (3, 0, 4, 24)
    assert found.completeness_error() < 1e-12


def test_the_table_has_a_row_for_each_image_head_and_term(wide):
    images = random_images(wide)
    table = upstream(wide, images, 1).towards(["a", "b"]).to_dataframe()
    assert list(table.columns) == ["image", "layer", "head", "term", "share", "a", "b"]
    assert len(table) == 3 * 4 * (1 + 4 + 1 + 1 + 1 + 1)
    by_head = table.groupby(["image", "head"])[["share", "a"]].sum()
    scores = wide.decompose(images).towards(wide.encode_text(["a"]))[:, 1, :, 0]
    torch.testing.assert_close(torch.from_numpy(by_head["a"].to_numpy()), scores.flatten())
    pd.testing.assert_series_equal(by_head["share"], pd.Series(1.0, by_head.index, name="share"))


def test_hooks_that_terms_follow_stay_in_force(wide):
    images = random_images(wide)

    def halve(value, hook):
        return value * 0.5

    hooks = [("blocks.0.attn.hook_z", halve), ("blocks.1.mlp.hook_post", halve), ("blocks.2.attn.hook_pattern", halve)]
    with wide.hooks(fwd_hooks=hooks):
        found = upstream(wide, images, 2, 1)
        assert relative(found.total(), wide.decompose(images).heads[:, 2, 1]) < 1e-12
    plain = upstream(wide, images, 2, 1)
    assert relative(found.total(), plain.total()) > 0.1


@pytest.mark.parametrize(
    "name", ["blocks.0.hook_mlp_out", "blocks.1.hook_resid_mid", "blocks.0.hook_attn_out", "blocks.2.attn.hook_z",
             "blocks.2.ln1.hook_normalized", "blocks.1.attn.hook_v", "ln_final.hook_normalized"],
)  # fmt: skip
def test_hooks_that_no_term_follows_are_named(wide, name):
    with (
        wide.hooks(fwd_hooks=[(name, lambda value, hook: value * 2)]),
        pytest.raises(ValueError, match=re.escape(name)),
    ):
        upstream(wide, random_images(wide), 2, 1)


def test_terms_that_do_not_sum_are_an_error(wide, monkeypatch):
    found = upstream(wide, random_images(wide), 2, 1)
    monkeypatch.setattr(type(found), "_of_length", lambda self, x: x.flatten(2).norm(dim=-1) + 1.0)
    with pytest.raises(CompletenessError, match="layer 2"):
        found.check()


def test_half_precision_sums_within_its_rounding(tokenizer):
    clip = FAMILIES["plain"]().bfloat16()
    model = HookedCLIP.from_open_clip(clip)
    found = upstream(model, random_images(model), 2)
    assert found.contribution.dtype == torch.float32
    assert found.completeness_error() < 0.1


def test_texts_feed_heads_of_the_text_tower():
    text = HookedCLIP.from_pretrained("scenes", dtype=torch.float64).text
    texts = ["a red circle", "a star"]
    found = upstream(text, texts, 1, 2)
    assert found.names == tuple(texts)
    assert relative(found.total(), text.decompose(texts).heads[:, 1, 2]) < 1e-12
    with pytest.raises(ValueError, match="text tower"):
        found.towards(["a"])


@pytest.mark.parametrize(("layer", "head", "error"), [(9, 0, IndexError), (1, 9, IndexError)])
def test_heads_that_are_not_there_are_named(wide, layer, head, error):
    with pytest.raises(error, match=r"layer|head"):
        upstream(wide, random_images(wide), layer, head)


def test_neurons_of_later_layers_are_refused(wide):
    found = upstream(wide, random_images(wide), 1, 0)
    with pytest.raises(ValueError, match="not before layer 1"):
        found.neurons(1)
    with pytest.raises(ValueError, match="24"):
        found.towards(torch.ones(2, 5))


def test_under_autocast_terms_sum_within_its_rounding():
    model = HookedCLIP.from_open_clip(FAMILIES["plain"]())
    images = random_images(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = upstream(model, images, 2)
    assert found.rounding == torch.bfloat16
    assert relative(found.total(), upstream(model, images, 2).total()) < 0.05
    assert upstream(model, images, 2).rounding == torch.float32


def test_no_text_takes_the_place_of_a_column(wide):
    found = upstream(wide, random_images(wide), 1, 0)
    plain = found.to_dataframe()
    table = found.towards(["share", "a", "a"]).to_dataframe()
    assert list(table.columns) == ["image", "layer", "head", "term", "share", "share (text 0)", "a", "a (text 2)"]
    pd.testing.assert_series_equal(table["share"], plain["share"])
