"""Direct effects of mean ablation, against replacing contributions one by one."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from jaxtyping import TypeCheckError

from clip_lens_plugin import HookedCLIP, collect, mean_ablation_curve
from clip_lens_plugin.ablation import Components, paper_components
from clip_lens_plugin.ablation.data import donors
from clip_lens_plugin.scenes import ScenesDataset, draw, sample_scenes
from clip_lens_plugin.statistics.intervals import paired_interval
from clip_lens_plugin.statistics.means import ComponentSums
from tests.conftest import random_images

pytestmark = pytest.mark.slow


def plain_accuracy(embeddings: torch.Tensor, classes: torch.Tensor, labels: torch.Tensor) -> float:
    return sum(int((classes @ e).argmax() == y) for e, y in zip(embeddings, labels, strict=True)) / len(labels)


def planted(model, n: int):
    """Contributions, classes that are near some of them, and labels of which some are wrong."""
    scored = model.decompose(random_images(model, n))
    unit = scored.normalized().embedding
    classes = torch.nn.functional.normalize(unit - unit.mean(0), dim=-1)[:5]
    noise = 0.02 * torch.randn(n, 5, generator=torch.Generator().manual_seed(0))
    return scored, classes, (unit @ classes.T + noise).argmax(-1)


def replaced(own, other, kind: str, layers: int) -> torch.Tensor:
    """What a set of components becomes less what it is; ``other`` None for zero."""
    parts = {"mlps": own.mlps, "self_attention": own.self_attention, "attention": own.heads.sum(2) + own.attn_bias}
    names = kind.split(" and ")
    change = torch.zeros_like(own.embedding)
    for name in names:
        change -= parts[name][:, :layers].sum(1)
        if other is not None:
            change += {
                "mlps": other.mlps,
                "self_attention": other.self_attention,
                "attention": other.heads.sum(2) + other.attn_bias,
            }[name][:, :layers].sum(1)
    return change


class Means:
    """The mean of each part, as one image's."""

    def __init__(self, contributions) -> None:
        for name in ("mlps", "self_attention", "heads", "attn_bias"):
            setattr(self, name, getattr(contributions, name).mean(0, keepdim=True))


@pytest.mark.parametrize("ablation", ["mean", "mean of others", "zero", "resample"])
def test_curve_is_that_of_replaced_contributions(model, ablation):
    scored, classes, labels = planted(model, 30)
    others = model.decompose(random_images(model, 25, seed=1)) if ablation == "mean of others" else None
    curve = mean_ablation_curve(scored, classes, labels, others, ablation=ablation.split()[0])
    own = scored.normalized()
    if ablation == "zero":
        put = None
    elif ablation == "resample":
        chosen = donors(30, scored, same=True, seed=0)
        assert (chosen != torch.arange(30)).all()
        put = scored.select(chosen).normalized()
    else:
        put = Means((scored if others is None else others).normalized())
    assert curve["kind"].tolist() == [
        "base",
        *["attention"] * 3,
        "mlps",
        "self_attention",
        "mlps and self_attention",
    ]
    for row in curve.to_dict("records"):
        changed = own.embedding.clone()
        if row["kind"] != "base":
            changed += replaced(own, put, row["kind"], row["layers"])
        assert row["accuracy"] == pytest.approx(plain_accuracy(changed, classes, labels)), row["ablated"]
        assert row["low"] <= row["accuracy"] <= row["high"]
        before, after = ((each @ classes.T).argmax(-1) == labels for each in (own.embedding, changed))
        pairs = [np.array([int((a & ~b).sum())]) for a, b in ((after, before), (before, after))]
        assert row["difference"] == pytest.approx(float((pairs[0] - pairs[1])[0]) / 30)
        ends = ([0], [0]) if row["kind"] == "base" else paired_interval(*pairs, 30)
        assert (row["difference_low"], row["difference_high"]) == pytest.approx((ends[0][0], ends[1][0]))
    assert curve["accuracy"].nunique() > 2


@pytest.mark.parametrize("ablation", ["mean", "zero", "resample", "sums"])
def test_shared_out_constants_are_replaced_with_their_component(model, ablation):
    scored, classes, labels = planted(model, 30)
    others = model.decompose(random_images(model, 25, seed=1), constants="shared").normalized()
    own = scored.with_constants("shared").normalized()
    source = ComponentSums.from_contributions(others) if ablation == "sums" else others
    kind = "mean" if ablation == "sums" else ablation
    sets = [Components.of_heads(model, [(l, h)]) for l in range(3) for h in range(4)]
    sets += paper_components(model)
    curve = mean_ablation_curve(scored, classes, labels, source, components=sets, ablation=kind, constants="shared")
    pd.testing.assert_frame_equal(
        curve, mean_ablation_curve(own, classes, labels, source, components=sets, ablation=kind)
    )
    put = others.select(donors(30, others, same=False, seed=0)) if kind == "resample" else Means(others)
    for row, each in zip(curve.to_dict("records")[1:], sets, strict=True):
        changed = own.embedding.clone()
        if each.heads and not each.biases:
            ((l, h),) = each.heads
            changed += (0 if kind == "zero" else put.heads[:, l, h]) - own.heads[:, l, h]
        else:
            changed += replaced(own, None if kind == "zero" else put, row["kind"], row["layers"])
        assert row["accuracy"] == pytest.approx(plain_accuracy(changed, classes, labels)), row["ablated"]
    separate = mean_ablation_curve(scored, classes, labels, None, components=sets, ablation="zero")
    if kind == "zero":
        assert curve["accuracy"].tolist() != separate["accuracy"].tolist()


def test_constants_that_do_not_belong_together_are_refused(model):
    scored, classes, labels = planted(model, 30)
    sums = ComponentSums.from_contributions(scored.normalized())
    with pytest.raises(ValueError, match=r"The means have constants='separate'.*'shared'"):
        mean_ablation_curve(scored, classes, labels, sums, constants="shared")
    with pytest.raises(ValueError, match=r"leave\s+constants out"):
        mean_ablation_curve(
            scored, classes, labels, effect="total", images=random_images(model, 30), constants="shared"
        )


def test_a_store_keeps_too_little_to_share_constants_out(scenes_model, tmp_path):
    store = collect(scenes_model, ScenesDataset(6, 11), tmp_path / "s", "contributions", progress=False)
    classes = torch.nn.functional.normalize(torch.randn(3, 128, generator=torch.Generator().manual_seed(0)), dim=-1)
    labels = torch.arange(6) % 3
    with pytest.raises(ValueError, match=r"decompose\(images, constants='shared'\)"):
        mean_ablation_curve(store, classes, labels, constants="shared")
    held = scenes_model.decompose(scenes_model.prepare([ScenesDataset(6, 11)[i] for i in range(6)]))
    with pytest.raises(ValueError, match=r"The means have constants='separate'"):
        mean_ablation_curve(held, classes, labels, store, constants="shared")
    with pytest.raises(ValueError, match=r"decompose\(images, constants='shared'\)"):
        mean_ablation_curve(held, classes, labels, store, constants="shared", ablation="resample")


@pytest.mark.parametrize("ablation", ["mean", "zero", "resample"])
@pytest.mark.parametrize("effect", ["direct", "total"])
def test_images_that_are_not_finite_are_refused(model, ablation, effect):
    images = random_images(model, 6)
    images[4] = float("nan")
    with pytest.warns(UserWarning, match="NaN"):
        broken = model.decompose(images)
    classes = torch.nn.functional.normalize(torch.randn(2, 24, dtype=torch.float64), dim=-1)
    given = {"images": images} if effect == "total" else {}
    with pytest.raises(ValueError, match=r"\[4\].*NaN|NaN.*(\[4\]|image 4 of)|images has NaN|rows \[4\]"):
        mean_ablation_curve(
            broken, classes, torch.arange(6) % 2, ablation=ablation, effect=effect, batch_size=6, **given
        )


def test_unknown_words_are_refused(model):
    scored, classes, labels = planted(model, 6)
    for words in ({"ablation": "median"}, {"effect": "Direct"}, {"constants": "smeared"}):
        (word,) = words.values()
        # Where signatures are checked, as in these tests, the wrong word does not even reach the function.
        with pytest.raises((ValueError, TypeCheckError), match=word):
            mean_ablation_curve(scored, classes, labels, **words)


def test_single_heads_and_unknown_labels(model):
    scored, classes, labels = planted(model, 30)
    labels[::3] = -1
    known, own = labels >= 0, scored.normalized()
    sets = [Components.of_heads(model, [(l, h)]) for l in range(3) for h in range(4)]
    curve = mean_ablation_curve(scored, classes, labels, components=sets, ablation="zero")
    for (l, h), accuracy in zip(((l, h) for l in range(3) for h in range(4)), curve["accuracy"][1:], strict=True):
        without = own.embedding - own.heads[:, l, h]
        assert accuracy == pytest.approx(plain_accuracy(without[known], classes, labels[known]))
    assert set(curve["n"]) == {20}


def test_total_effects_are_those_of_weights_set_to_zero(model):
    scored, classes, labels = planted(model, 12)
    images = random_images(model, 12)
    sets = [Components.of_attention(model, [1]), Components.of_mlps(model, [0, 2])]
    curve = mean_ablation_curve(
        scored, classes, labels, components=sets, ablation="zero", effect="total", images=images, batch_size=5
    )
    for row, paths in zip(
        curve.to_dict("records")[1:], (["1.attn.out_proj"], ["0.mlp.c_proj", "2.mlp.c_proj"]), strict=True
    ):
        broken = copy.deepcopy(model.clip)
        for path in paths:
            linear = broken.visual.transformer.resblocks.get_submodule(path)
            torch.nn.init.zeros_(linear.weight)
            torch.nn.init.zeros_(linear.bias)
        with torch.no_grad():
            expected = plain_accuracy(broken.encode_image(images), classes, labels)
        assert row["accuracy"] == pytest.approx(expected)


def test_total_mean_ablation_is_that_of_hooks_by_hand(model):
    scored, classes, labels = planted(model, 12)
    images = random_images(model, 12)
    sets = [Components.of_heads(model, [(1, 2)])]
    curve = mean_ablation_curve(scored, classes, labels, components=sets, effect="total", images=images)
    _, cache = model.run_with_cache(images)
    mean = cache["blocks.1.attn.hook_z"][:, :, 2].mean(0)

    def put(z, hook):
        z = z.clone()
        z[:, :, 2] = mean
        return z

    with torch.no_grad():
        embedding = model.run_with_hooks(images, fwd_hooks=[("blocks.1.attn.hook_z", put)])
    assert curve["accuracy"][1] == pytest.approx(plain_accuracy(embedding, classes, labels))


@pytest.fixture(scope="module")
def scenes_model():
    return HookedCLIP.from_pretrained("scenes", device="cpu")


@pytest.mark.parametrize("ablation", ["zero", "resample"])
def test_total_effects_run_the_pictures_that_were_decomposed(scenes_model, ablation):
    """Batches and donors of them as of their pixels."""
    pictures = [draw(scene) for scene in sample_scenes(5, 3)]
    classes = torch.nn.functional.normalize(torch.randn(3, 128, generator=torch.Generator().manual_seed(0)), dim=-1)
    more = {"components": [Components.of_attention(scenes_model, [4])], "ablation": ablation, "effect": "total"}
    given = classes, torch.tensor([0, 1, 2, 0, 1])
    found = mean_ablation_curve(scenes_model.decompose(pictures), *given, batch_size=2, **more)
    pixels = scenes_model.prepare(pictures)
    expected = mean_ablation_curve(scenes_model.decompose(pixels), *given, images=pixels, batch_size=2, **more)
    pd.testing.assert_frame_equal(pd.DataFrame(found), pd.DataFrame(expected))


def test_a_store_gives_what_its_contributions_give(scenes_model, tmp_path):
    data = ScenesDataset(40, 11, "background")
    store = collect(scenes_model, data, tmp_path / "s", "contributions", dtype="float32", batch_size=8, progress=False)
    images = scenes_model.prepare([data[i][0] for i in range(40)])
    held = scenes_model.decompose(images)
    generator = torch.Generator().manual_seed(0)
    classes = torch.nn.functional.normalize(torch.randn(6, 128, generator=generator), dim=-1)
    for ablation in ("mean", "zero"):
        for effect in ("direct", "total"):
            mine = {"images": data} if effect == "total" else {}
            theirs = {"images": images} if effect == "total" else {}
            one = mean_ablation_curve(store, classes, ablation=ablation, effect=effect, **mine)
            other = mean_ablation_curve(held, classes, store.labels, ablation=ablation, effect=effect, **theirs)
            torch.testing.assert_close(
                torch.tensor(one["accuracy"].tolist()), torch.tensor(other["accuracy"].tolist()), atol=0.026, rtol=0
            )
    with pytest.raises(ValueError, match="same data set"):
        mean_ablation_curve(store, classes, effect="total", images=ScenesDataset(39, 11, "background"))


def test_bad_arguments_are_refused(model):
    scored = model.decompose(random_images(model))
    classes = torch.nn.functional.normalize(torch.randn(2, 24, dtype=torch.float64), dim=-1)
    known = torch.tensor([0, 1, 1])
    with pytest.raises(ValueError, match="3 images need as many labels"):
        mean_ablation_curve(scored, classes, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="positions of the 2 classes"):
        mean_ablation_curve(scored, classes, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="give labels"):
        mean_ablation_curve(scored, classes)
    with pytest.raises(ValueError, match="known label"):
        mean_ablation_curve(scored, classes, torch.tensor([-1, -1, -1]))
    with pytest.raises(ValueError, match="mean of one image"):
        mean_ablation_curve(model.decompose(random_images(model, 1)), classes, torch.tensor([0]))
    with pytest.raises(ValueError, match="give images"):
        mean_ablation_curve(scored, classes, known, effect="total")
    with pytest.raises(ValueError, match="give images as means_from"):
        mean_ablation_curve(scored, classes, known, scored, effect="total", images=random_images(model))
    sums = ComponentSums.from_contributions(scored.normalized())
    with pytest.raises(ValueError, match="single images"):
        mean_ablation_curve(scored, classes, known, sums, ablation="resample")
