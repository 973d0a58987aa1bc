"""What users give is checked by the same functions everywhere: each bad value of each argument gives one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jaxtyping
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from clip_lens_plugin import collect, decompose, patch_text_map
from clip_lens_plugin.ablation import (
    activation_means,
    class_self_attention_hooks,
    class_self_attention_messages,
    mean_ablation,
    random_directions,
    text_span_completeness,
    zero_ablation,
)
from clip_lens_plugin.ablation.component_sets import Components
from clip_lens_plugin.datasets import FolderSource, TorchSource
from clip_lens_plugin.datasets.image_folder import find_images
from clip_lens_plugin.datasets.part import PartOfSource
from clip_lens_plugin.describe.spans import text_span
from clip_lens_plugin.maps.crop_geometry import Placement
from clip_lens_plugin.maps.patch_text import head_text_scores
from clip_lens_plugin.retrieval import extreme_images, nearest_images
from clip_lens_plugin.scenes import ScenesDataset, prompts, sample_scenes
from clip_lens_plugin.scenes.accuracy import zero_shot_accuracy
from clip_lens_plugin.scenes.batches import DrawnScenes
from clip_lens_plugin.statistics.moments import Moments
from clip_lens_plugin.views import attention_view, class_attention_view, head_text_view, patch_text_view, text_span_view
from tests.support.worlds import NOT_COUNTS, NOT_WHOLE, TEXTS, World, same

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("arguments"))


@pytest.fixture(autouse=True)
def as_outside_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


# ---------------------------------------------------------------------- names out of a list


CHOICES: dict[str, tuple[Callable[[World, Any], object], tuple[str, ...]]] = {
    "interpolation of a placement": (
        lambda w, x: w.placement.to_photo(torch.zeros(7, 7), x),
        ("nearest", "bilinear"),
    ),
    "interpolation of a head's view": (
        lambda w, x: head_text_view(
            head_text_scores(w.model, w.images[0], TEXTS), Image.new("RGB", (56, 56)), interpolation=x
        ),
        ("nearest", "bilinear"),
    ),
    "interpolation of maps": (
        lambda w, x: patch_text_view(w.maps, [Image.new("RGB", (56, 56))] * 5, interpolation=x),
        ("nearest", "bilinear"),
    ),
    "mark": (
        lambda w, x: patch_text_view(w.maps, [Image.new("RGB", (56, 56))] * 5, marks=[x, "", ""]),
        ("most similar", "least similar"),
    ),
    "what": (lambda w, x: collect(w.model, w.dataset, w.folder / "no", x), ("moments", "contributions")),
    "dtype": (lambda w, x: collect(w.model, w.dataset, w.folder / "no", dtype=x), ("float16", "float32")),
    "autocast": (
        lambda w, x: collect(w.model, w.dataset, w.folder / "no", autocast=x if x is not None else "none"),
        ("torch.bfloat16", "torch.float16"),
    ),
    "heads of a store": (
        lambda w, x: collect(w.model, w.dataset, w.folder / "no", heads="first" if x is None else x),
        ("late", "all"),
    ),
    "attribute": (lambda w, x: prompts(x), ("colour", "shape")),
    "constants of a cache": (lambda w, x: decompose(w.model, w.cache, constants=x), ()),
    "constants of images": (lambda w, x: w.model.decompose(w.images, constants=x), ()),
    "heads of TextSpan": (
        lambda w, x: text_span(w.model, Moments.from_contributions(w.held), TEXTS, heads="first" if x is None else x),
        ("late", "all"),
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_name_that_is_none_is_refused_with_those_that_are(world: World, name: str) -> None:
    call, allowed = CHOICES[name]
    for wrong in ("median", "Nearest", None):
        with pytest.raises(ValueError, match=r"must be .*(got|given)|got ") as refusal:
            call(world, wrong)
        assert "\n" not in str(refusal.value)
        assert all(each in str(refusal.value) for each in allowed), refusal.value
    assert not (world.folder / "no").exists()


# ---------------------------------------------------------------------- counts

COUNTS: dict[str, tuple[Callable[[World, Any], object], int]] = {
    "decompose batch_size": (lambda w, x: w.model.decompose(w.images, batch_size=x), 1),
    "patch_text_map batch_size": (lambda w, x: patch_text_map(w.model, w.images, TEXTS, batch_size=x), 1),
    "activation_means batch_size": (lambda w, x: activation_means(w.model, w.images, "hook_embed", batch_size=x), 1),
    "messages batch_size": (lambda w, x: class_self_attention_messages(w.model, w.images, [0], batch_size=x), 1),
    "curve batch_size": (lambda w, x: w.curve(effect="total", images=w.images, batch_size=x), 1),
    "collect batch_size": (lambda w, x: collect(w.model, w.dataset, w.folder / "no", batch_size=x), 1),
    "collect workers": (lambda w, x: collect(w.model, w.dataset, w.folder / "no", workers=x), 0),
    "scenes batch_size": (lambda w, x: zero_shot_accuracy(len, len, DrawnScenes.of(sample_scenes(1, 0)), x), 1),
    "extreme_images k": (lambda w, x: extreme_images(w.held, TEXTS, x, text_embeddings=w.texts), 1),
    "extreme_images n_texts": (
        lambda w, x: extreme_images(w.held, TEXTS, 1, n_texts=x, text_embeddings=w.texts),
        1,
    ),
    "nearest_images k": (lambda w, x: nearest_images(w.held, 0, 0, 0, x), 1),
    "text_span_view n_texts": (lambda w, x: text_span_view(w.span, x), 1),
    "completeness n_texts": (
        lambda w, x: text_span_completeness(w.held, w.texts, {"a": w.span}, w.labels, n_texts=(x, 2)),
        1,
    ),
    "random_directions n": (lambda w, x: random_directions(w.model, x), 1),
    "random_directions seed": (lambda w, x: random_directions(w.model, 2, x), 0),
    "find_images limit": (lambda w, x: find_images(w.pictures, x), 1),
    "FolderSource limit": (lambda w, x: FolderSource(w.pictures, x), 1),
    "PartOfSource limit": (lambda w, x: PartOfSource(w.shards, x), 1),
    "ScenesDataset n": (lambda w, x: ScenesDataset(x, 0), 0),
    "ScenesDataset seed": (lambda w, x: ScenesDataset(1, x), 0),
    "sample_scenes n": (lambda w, x: sample_scenes(x, 0), 0),
    "sample_scenes seed": (lambda w, x: sample_scenes(1, x), 0),
    "photo_size": (lambda w, x: Placement.of(w.model.preprocess, (x, 9), (56, 56)), 1),
    "input_size": (lambda w, x: Placement.of(w.model.preprocess, (9, 9), (56, x)), 1),
    "grid_size of a placement": (lambda w, x: w.placement.patch_boxes((7, x)), 1),
    "grid_size of a view": (
        lambda w, x: class_attention_view(torch.ones(2, 2, 50), Image.new("RGB", (56, 56)), (x, 7)),
        1,
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_a_number_that_is_none_is_refused(world: World, name: str) -> None:
    call, least = COUNTS[name]
    for wrong in (*NOT_COUNTS, least - 1):
        if wrong == 0 and least == 0 and not isinstance(wrong, bool):
            continue
        argument = name.split()[-1] if "grid_size" not in name else "grid_size"
        with pytest.raises(
            ValueError, match=rf"{argument}.* must be (a )?whole number.* of at least {least}.* got|list"
        ):
            call(world, wrong)
    assert not (world.folder / "no").exists()


def test_numbers_of_numpy_and_torch_are_whole(world: World) -> None:
    found = nearest_images(world.held, 0, 0, 0, 2)
    for k in (np.int64(2), np.uint8(2), torch.tensor(2)):
        pd.testing.assert_frame_equal(nearest_images(world.held, 0, 0, 0, k), found)


# ---------------------------------------------------------------------- positions

POSITIONS: dict[str, tuple[Callable[[World, Any], object], int]] = {
    "head": (lambda w, x: w.model.cfg.checked_head(0, x)[1], 8),
    "layer": (lambda w, x: w.model.cfg.checked_head(x, 0)[0], 6),
    "layer alone": (lambda w, x: w.model.cfg.checked_layer(x), 6),
    "layer of tokens": (lambda w, x: w.held.tokens(x, 0), 6),
    "head of tokens": (lambda w, x: w.held.tokens(0, x), 8),
    "layer of neurons": (lambda w, x: w.held.neurons(x), 6),
    "layer of a neighbour": (lambda w, x: nearest_images(w.held, 0, x, 0, 2), 6),
    "head of a neighbour": (lambda w, x: nearest_images(w.held, 0, 0, x, 2), 8),
    "row of a neighbour": (lambda w, x: nearest_images(w.held, x, 5, 0, 2), 5),
    "row of a store's neighbour": (lambda w, x: nearest_images(w.store, x, 5, 0, 2), 5),
    "layer of a pattern": (lambda w, x: attention_view(w.model, w.cache, x, heads=[0]).html(), 6),
    "head of a pattern": (lambda w, x: attention_view(w.model, w.cache, 0, heads=[x]).html(), 8),
    "image of a pattern": (lambda w, x: attention_view(w.model, w.cache, 0, heads=[0], image=x).html(), 5),
    "layer of extremes": (lambda w, x: extreme_images(w.held, TEXTS, 1, heads=[(x, 0)], text_embeddings=w.texts), 6),
    "head of extremes": (lambda w, x: extreme_images(w.held, TEXTS, 1, heads=[(0, x)], text_embeddings=w.texts), 8),
    "layer of maps": (lambda w, x: patch_text_map(w.model, w.images, TEXTS, heads=[(x, 1)]).values, 6),
    "head of maps": (lambda w, x: patch_text_map(w.model, w.images, TEXTS, heads=[(1, x)]).values, 8),
    "layer of a map": (lambda w, x: head_text_scores(w.model, w.images[0], TEXTS).map([(x, 1)]).values, 6),
    "head of a map": (lambda w, x: head_text_scores(w.model, w.images[0], TEXTS).map([(1, x)]).values, 8),
    "layer of components": (lambda w, x: Components.of_heads(w.model, [(x, 0)]), 6),
    "head of components": (lambda w, x: Components.of_heads(w.model, [(0, x)]), 8),
    "layer of attention": (lambda w, x: Components.of_attention(w.model, [x]), 6),
    "layer of mlps": (lambda w, x: Components.of_mlps(w.model, [x]), 6),
    "layer of self-attention": (lambda w, x: Components.of_self_attention(w.model, [x]), 6),
    "layer of components made by hand": (
        lambda w, x: Components("a", "mlps", mlps=frozenset([x])).checked_for(w.model),
        6,
    ),
    "layer of messages": (lambda w, x: class_self_attention_messages(w.model, w.images, [x]), 6),
    "layer of message hooks": (
        lambda w, x: w.model.run_with_hooks(w.images, fwd_hooks=class_self_attention_hooks(w.model, [x])),
        6,
    ),
    "layer of a replacement": (
        lambda w, x: w.model.run_with_hooks(
            w.images, fwd_hooks=class_self_attention_hooks(w.model, [3], {3: torch.ones(8, 16), x: torch.ones(8, 16)})
        ),
        6,
    ),
    "head of a hook": (lambda w, x: w.run(zero_ablation([x])), 8),
    "position of a hook": (lambda w, x: w.run(zero_ablation(positions=[x])), 50),
    "head of a mean": (
        lambda w, x: w.run(mean_ablation({"blocks.1.attn.hook_z": torch.ones(50, 8, 16)}, heads=[x])),
        8,
    ),
    "scene": (lambda w, x: np.asarray(w.dataset[x][0]).tolist(), 5),
    "sample of shards": (lambda w, x: (w.shards.name(x), w.shards.read(x).label), 5),
    "sample of torch": (lambda w, x: (TorchSource(w.dataset).name(x), TorchSource(w.dataset).read(x).label), 5),
}


HASHED = ("layer of components made by hand", "layer of a replacement")
"""Where a list cannot stand."""


@pytest.mark.parametrize("name", POSITIONS)
def test_a_position_counts_from_either_end_or_is_refused(world: World, name: str) -> None:
    call, n = POSITIONS[name]
    for given in {n - 1, 1 % n} if name != "layer of a replacement" else {n - 1}:
        assert same(call(world, given - n), call(world, given))
        assert same(call(world, np.int64(given)), call(world, given))
    for wrong in (n, -n - 1):
        with pytest.raises(IndexError, match=rf"There is no .*{wrong}"):
            call(world, wrong)
    for wrong in NOT_WHOLE[: 4 if name in HASHED else 5]:
        # A string may be the path of a query.
        message = "There is no picture" if name.startswith("row of a") and isinstance(wrong, str) else "whole number"
        with pytest.raises(ValueError, match=message) as refusal:
            call(world, wrong)
        assert not isinstance(refusal.value, TypeError)


# ---------------------------------------------------------------------- lists of heads, layers and rows

HEADS: dict[str, Callable[[World, Any], object]] = {
    "patch_text_map": lambda w, x: patch_text_map(w.model, w.images, TEXTS, heads=x).values,
    "map": lambda w, x: head_text_scores(w.model, w.images[0], TEXTS).map(x).values,
    "extreme_images": lambda w, x: extreme_images(w.held, TEXTS, 1, heads=x, text_embeddings=w.texts),
    "of_heads": lambda w, x: Components.of_heads(w.model, x),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_are_pairs_or_a_layer(world: World, name: str) -> None:
    call = HEADS[name]
    expected = call(world, [(5, 7), (0, 1)])
    for alike in (
        [(-1, -1), (0, 1), (5, 7)],
        np.array([[5, 7], [0, 1]]),
        torch.tensor([[-1, 7], [0, -7]]),
        ((5, 7), (0, 1)),
    ):
        assert same(call(world, alike), expected)
    whole = call(world, [(5, head) for head in range(8)])
    for layer in (5, -1, np.int64(5), torch.tensor(5)):
        assert same(call(world, layer), whole)
    for wrong in ((5, 7), "late", [5], [(1, 2, 3)], [(0.0, 1)], [(True, 1)], [("0", 1)], True, 5.0, []):
        with pytest.raises(ValueError, match=r"heads must|whole number"):
            call(world, wrong)
    for wrong in ([(6, 0)], [(0, 8)], [(-7, 0)], 6, -7):
        with pytest.raises(IndexError, match="There is no layer"):
            call(world, wrong)


LISTS: dict[str, Callable[[World, Any], object]] = {
    "heads of a pattern": lambda w, x: attention_view(w.model, w.cache, 0, heads=x),
    "heads of a hook": lambda w, x: zero_ablation(x),
    "positions of a hook": lambda w, x: mean_ablation({}, positions=x),
    "layers of attention": lambda w, x: Components.of_attention(w.model, x),
    "layers of messages": lambda w, x: class_self_attention_messages(w.model, w.images, x),
    "n_texts": lambda w, x: text_span_completeness(w.held, w.texts, {"a": w.span}, w.labels, n_texts=x),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_numbers_is_a_list_of_whole_numbers(world: World, name: str) -> None:
    for wrong in (3, 1.0, "12", [1.0], [True, False], np.array([0.5]), torch.tensor([True])):
        with pytest.raises(ValueError, match=r"must be whole numbers in a list"):
            LISTS[name](world, wrong)
