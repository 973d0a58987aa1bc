"""The gap is taken apart exactly, and what removing heads does to it is what open_clip's own model does."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin import HookedCLIP, explain
from clip_lens_plugin.scenes import ScenesDataset
from clip_lens_plugin.statistics.means import ComponentSums
from tests.conftest import random_images
from tests.decisions.conftest import AGAINST, PLANTED, classifier, planted, unit, without
from tests.support.families import FAMILIES

TOWERS = ("norm_then_mean", "coca", "SigLIP", "EVA-02")


@pytest.mark.parametrize("name", TOWERS)
def test_each_table_sums_to_the_gap_part_by_part(name) -> None:
    clip = FAMILIES[name]().double()
    model = HookedCLIP.from_open_clip(clip)
    image = random_images(model, 1)
    texts = unit(2, model.cfg.d_embed, seed=7)
    found = explain(model, image, classifier(texts, "A", "B"), random_sets=0)
    own = torch.nn.functional.normalize(clip.encode_image(image)[0].detach(), dim=0) @ texts.T
    first, second = ("AB".index(each) for each in found.texts)
    assert found.gap == pytest.approx(float(own[first] - own[second]), abs=1e-12)
    assert found.gap > 0
    for table in found.tables:
        assert table.error < 1e-12
        assert table.rows["gap"].sum() == pytest.approx(found.gap, abs=1e-12)
        assert table.rows["gap"].abs().is_monotonic_decreasing
    c, along = model.decompose(image, tokens=True).normalized(), texts[first] - texts[second]
    heads = found.heads.rows.query("part == 'head'").set_index(["layer", "head"])["gap"]
    patches = found.patches.rows.query("part == 'patch'").set_index(["row", "column"])["gap"]
    for (layer, head), gap in heads.items():
        assert gap == pytest.approx(float(c.heads[0, layer, head] @ along), abs=1e-12)
    rows, columns = model.cfg.grid_size
    assert len(patches) == rows * columns
    token = model.cfg.n_prefix_tokens + 2 * columns + 1
    through = [c.tokens(l, h)[0, token] @ along for l in range(model.cfg.n_layers) for h in range(model.cfg.n_heads)]
    assert patches[2, 1] == pytest.approx(float(sum(through)), abs=1e-12)


@pytest.mark.parametrize("kind", ["zero", "images", "sums"])
def test_the_planted_heads_flip_it_as_in_the_source_itself(clip, plain, kind) -> None:
    images = random_images(plain, 5)
    image, others = images[:1], images[1:]
    c = plain.decompose(image).normalized()
    asked = planted(c)
    held = plain.decompose(others).normalized()
    given = (
        {"zero": None, "images": others, "contributions": held}.get(kind) if kind != "sums" else ComponentSums.of(held)
    )
    found = explain(plain, image, asked, means=given, random_sets=0)
    assert found.texts == ("A", "B")
    assert found.ablation == ("zero" if kind == "zero" else "mean")

    def z_of(pictures):
        with torch.no_grad(), without(clip, [], None) as seen:
            clip.encode_image(pictures)
        return seen

    along = asked.embeddings[0] - asked.embeddings[1]
    first = found.removed[0]
    means = None
    if kind == "images":
        means = {l: z.mean(0) for l, z in z_of(others).items()}
    elif kind != "zero":
        means = {l: torch.zeros(17, 4, 12, dtype=torch.float64) for l in range(3)}
        for l, z in z_of(others).items():  # ω of a class token is one number, here over ‖M‖.
            means[l][:] = (held.omega.flatten()[:, None, None] * z[:, 0]).mean(0) / c.omega.sum()
    with without(clip, first.heads, means):
        run = clip.encode_image(image, normalize=True)[0].detach()
    assert first.total == pytest.approx(float(run @ along), abs=1e-10)
    assert first.flips == (float(run @ along) < 0)
    whole = float(c.embedding[0] @ along)
    taken = (
        sum(c.heads[0, l, h] - (0.0 if kind == "zero" else held.heads[:, l, h].mean(0)) for l, h in first.heads) @ along
    )
    assert first.direct == pytest.approx(whole - float(taken), abs=1e-12)
    assert first.direct < 0
    if kind == "zero":
        assert (first.heads, first.found) == ((PLANTED,), "table")
        rows = found.heads.rows
        assert [*rows.loc[:1, "layer"], *rows.loc[:1, "head"]] == [PLANTED[0], AGAINST[0], PLANTED[1], AGAINST[1]]
        assert first.direct == pytest.approx(-0.4 / 0.6 * found.gap, abs=1e-12)
        assert rows["gap"].abs()[2:].max() < 1e-12


def test_a_head_that_was_made_to_lie_is_found_in_the_embedded_model() -> None:
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    scenes = ScenesDataset(40, 21, "colour")
    blue = next(picture for picture, label in scenes if scenes.classes[label] == "blue shape")
    texts = ["red shape", "blue shape"]
    embedding, cache = model.run_with_cache(model.prepare(blue))
    layer, head, width = 5, 4, model.cfg.d_head
    z = cache[f"blocks.{layer}.attn.hook_z"][0, 0, head]
    red, other = model.encode_text(texts)
    assert float(embedding[0].detach() @ (red - other)) < 0
    towards = model.ln_final.w * (model.W_P @ (red - other))
    with torch.no_grad():
        weight = model.source_blocks[layer].attn.out_proj.weight
        strength = 60 / float(towards.norm() * z.norm())
        weight[:, head * width : (head + 1) * width] += strength * torch.outer(towards, z / z.norm())
    found = explain(model, blue, *texts, random_sets=5)
    assert found.answer == "red shape"
    assert found.heads.rows.loc[0, ["part", "layer", "head"]].tolist() == ["head", layer, head]
    (lying,) = found.removed
    assert lying.heads == ((layer, head),)
    assert lying.flips
    assert lying.nearest == "blue shape"
    assert lying.random_flips == 0
    assert "It flips without L5H4 (1 of 48 heads)" in repr(found)
