"""Every patching function of TransformerLens, as it is, on a ``HookedCLIP`` and on a bridge."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformer_lens import patching
from transformer_lens.tools.analysis import attribution_patching as attribution

from clip_lens_plugin import HookedCLIP, image_tokens
from tests.adapters.conversion import clip_model
from tests.bridge.conftest import boot
from tests.conftest import random_clip, random_images

pytestmark = pytest.mark.slow

L, H, N, WIDTH = 2, 3, 2, 24
SMALL = {"vision_cfg": {"layers": L, "patch_size": 32, "width": WIDTH, "head_width": WIDTH // H}}
EVERYWHERE = slice(None)


def at_position(layer: int, position: int) -> tuple:
    return EVERYWHERE, position


def at_head(layer: int, head: int) -> tuple:
    return EVERYWHERE, EVERYWHERE, head


def at_both(layer: int, position: int, head: int) -> tuple:
    return EVERYWHERE, position, head


def of_pattern(layer: int, *rest: int) -> tuple:
    return EVERYWHERE, *rest


BY_POSITION = ((L, N), at_position)
BY_BOTH = ((L, N, H), at_both)
BY_HEAD = ((L, H), at_head)
SWEEPS: dict[str, tuple[str, tuple[int, ...], Callable[..., tuple]]] = {
    "resid_pre": ("hook_resid_pre", *BY_POSITION),
    "resid_mid": ("hook_resid_mid", *BY_POSITION),
    "attn_out": ("hook_attn_out", *BY_POSITION),
    "mlp_out": ("hook_mlp_out", *BY_POSITION),
    "attn_head_out_by_pos": ("attn.hook_z", *BY_BOTH),
    "attn_head_q_by_pos": ("attn.hook_q", *BY_BOTH),
    "attn_head_k_by_pos": ("attn.hook_k", *BY_BOTH),
    "attn_head_v_by_pos": ("attn.hook_v", *BY_BOTH),
    "attn_head_pattern_by_pos": ("attn.hook_pattern", (L, H, N), of_pattern),
    "attn_head_pattern_dest_src_pos": ("attn.hook_pattern", (L, H, N, N), of_pattern),
    "attn_head_out_all_pos": ("attn.hook_z", *BY_HEAD),
    "attn_head_q_all_pos": ("attn.hook_q", *BY_HEAD),
    "attn_head_k_all_pos": ("attn.hook_k", *BY_HEAD),
    "attn_head_v_all_pos": ("attn.hook_v", *BY_HEAD),
    "attn_head_pattern_all_pos": ("attn.hook_pattern", (L, H), of_pattern),
}
"""A function's name to the hook point, the axes, and what it replaces there."""

TOGETHER = {
    "attn_head_all_pos_every": [f"attn_head_{each}_all_pos" for each in ("out", "q", "k", "v", "pattern")],
    "attn_head_by_pos_every": [f"attn_head_{each}_by_pos" for each in ("out", "q", "k", "v", "pattern")],
    "block_every": ["resid_pre", "attn_out", "mlp_out"],
}
"""A function's name to those that it stacks."""

PATHS = {"direct_path", "direct_path_all_sources"}


class Setting:
    """A model of either kind, a clean and a corrupted image, and their caches."""

    def __init__(self, model: Any, hooked: HookedCLIP) -> None:
        self.model, self.hooked = model, hooked
        self.clean, self.corrupted = (each[None] for each in random_images(hooked, 2))
        with torch.no_grad():
            self.cache, self.corrupted_cache = (model.run_with_cache(x)[1] for x in (self.clean, self.corrupted))
        self.direction = torch.randn(24, dtype=torch.float64, generator=torch.Generator().manual_seed(4))

    def metric(self, embedding: Tensor) -> Tensor:
        return (embedding @ self.direction).sum()

    def run(self, name: str, *args: Any, images: Any = None, **kwargs: Any) -> Tensor:
        images = image_tokens(self.model, self.corrupted) if images is None else images
        if name in PATHS:
            args, kwargs = (self.corrupted_cache, self.metric, *args), {"verbose": False, **kwargs}
        else:
            args = (self.metric, *args)
        return getattr(patching, f"get_act_patch_{name}")(self.model, images, self.cache, *args, **kwargs)


@pytest.fixture(scope="module", params=["HookedCLIP", "TransformerBridge"])
def setting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    hooked = HookedCLIP.from_open_clip(random_clip(SMALL).double())
    if request.param == "HookedCLIP":
        return Setting(hooked, hooked)
    folder: Path = tmp_path_factory.mktemp("patching") / "model"
    bridge = boot(folder, clip_model(random_clip(SMALL)))
    bridge.to(torch.float64, print_details=False)
    return Setting(bridge, hooked)


def same(found: Any, expected: Any) -> None:
    torch.testing.assert_close(
        torch.as_tensor(found).double(), torch.as_tensor(expected).double(), rtol=1e-5, atol=1e-5
    )


def test_every_function_is_tried() -> None:
    there = {name.removeprefix("get_act_patch_") for name in dir(patching) if name.startswith("get_act_patch_")}
    assert there == {*SWEEPS, *TOGETHER, *PATHS}
    assert len(there) == 20


@pytest.mark.parametrize("name", SWEEPS)
@torch.no_grad()
def test_a_sweep_replaces_the_activation_at_every_index(setting: Setting, name: str) -> None:
    """The images' activations put in by hand, at a few of the indices and the last."""
    point, shape, chosen = SWEEPS[name]
    clean = setting.hooked.run_with_cache(setting.clean)[1]
    effects = setting.run(name)
    assert effects.shape == shape
    indices = list(itertools.product(*map(range, shape)))
    for index in [indices[len(indices) // 3], indices[-1]]:
        full, where = f"blocks.{index[0]}.{point}", chosen(*index)

        def put(x: Tensor, hook: Any, full: str = full, where: tuple = where) -> Tensor:
            x = x.clone()
            x[where] = clean[full][where]
            return x

        same(effects[index], setting.metric(setting.hooked.run_with_hooks(setting.corrupted, fwd_hooks=[(full, put)])))


@pytest.mark.parametrize("name", TOGETHER)
@torch.no_grad()
def test_a_function_for_all_kinds_stacks_the_sweeps(setting: Setting, name: str) -> None:
    found = setting.run(name)
    assert found.shape == (len(TOGETHER[name]), *SWEEPS[TOGETHER[name][0]][1])
    expected = setting.run(TOGETHER[name][-1])
    same(found[-1], expected.transpose(1, 2) if expected.shape == (L, H, N) else expected)


def encoded_with_path(setting: Setting, head: int, to: int, letter: str) -> Tensor:
    """One head's difference added to what one head of the last block makes its queries, keys or values of."""
    clip: Any = setting.hooked.clip
    first, last = clip.visual.transformer.resblocks
    z = [cache["z", 0][:, :, head] for cache in (setting.cache, setting.corrupted_cache)]
    width = WIDTH // H
    change = (z[0] - z[1]) @ first.attn.out_proj.weight[:, head * width : (head + 1) * width].T
    stream = setting.corrupted_cache["resid_pre", 1] + change
    rows = "qkv".index(letter) * WIDTH + to * width + torch.arange(width)
    made = last.ln_1(stream) @ last.attn.in_proj_weight[rows].T + last.attn.in_proj_bias[rows]

    def put(x: Tensor, hook: Any) -> Tensor:
        x = x.clone()
        x[:, :, to] = made
        return x

    return setting.hooked.run_with_hooks(setting.corrupted, fwd_hooks=[(f"blocks.1.attn.hook_{letter}", put)])


@pytest.mark.parametrize("letter", "qkv")
@torch.no_grad()
def test_a_path_from_one_head_to_another_is_patched(setting: Setting, letter: str) -> None:
    effects = setting.run("direct_path", 0, 1, component=letter)
    assert effects.shape == (L, H)
    for to in range(H):
        same(effects[1, to], setting.metric(encoded_with_path(setting, 1, to, letter)))
    assert len(set(effects[1].tolist())) == H
    if letter == "v":
        of_all = setting.run("direct_path_all_sources", component=letter)
        assert of_all.shape == (L, H, L, H)
        same(of_all[0, 1], effects)
        same(of_all[0, 2, 1, 0], setting.metric(encoded_with_path(setting, 2, 0, letter)))
    assert not setting.model.cfg.use_split_qkv_input, "the switch is as it was"


def test_attribution_patching_of_nodes_and_edges(setting: Setting) -> None:
    """Nodes' scores are gradients times differences; edges' of a writer sum to its node's, as TransformerLens says."""
    clean, corrupted = (image_tokens(setting.model, each) for each in (setting.clean, setting.corrupted))
    nodes = attribution.attribution_patch(setting.model, clean, corrupted, setting.metric)
    edges = attribution.attribution_patch(
        setting.model, clean, corrupted, setting.metric, attribution.EdgeAttributionConfig(granularity="edge")
    )
    assert len(nodes.node_scores) == N * (1 + L * (H + 1))
    for node, score in nodes.node_scores.items():
        same(edges.node_scores[node], score)
    kept: dict[str, Tensor] = {}
    with setting.hooked.hooks(bwd_hooks=[("blocks.0.hook_mlp_out", lambda x, hook: kept.__setitem__("g", x.clone()))]):
        setting.metric(setting.hooked(setting.corrupted)).backward()
    moved = setting.cache["mlp_out", 0] - setting.corrupted_cache["mlp_out", 0]
    expected = (moved * kept["g"]).sum(-1)[0]
    for node, score in nodes.node_scores.items():
        if node.kind == "mlp_out" and node.layer == 0:
            same(score, expected[node.position])
    top = edges.top_edges(5)
    whole = attribution.faithfulness(setting.model, clean, corrupted, setting.metric, list(edges.edge_scores))
    part = attribution.faithfulness(setting.model, clean, corrupted, setting.metric, top)
    same(whole.recovered, 1.0)
    assert abs(part.recovered - 1.0) > 1e-3


# ---------------------------------------------------------------------- images given as they are


@pytest.mark.parametrize("name", ["resid_pre", "attn_head_pattern_by_pos"])
@torch.no_grad()
def test_images_in_place_of_their_tokens_are_refused(setting: Setting, name: str) -> None:
    with pytest.raises(
        ValueError, match=r"width of the images, 32 pixels.*has 2 tokens.*image_tokens\(model, images\)"
    ):
        setting.run(name, images=setting.corrupted)
    same(setting.run("attn_head_out_all_pos", images=setting.corrupted), setting.run("attn_head_out_all_pos"))


@torch.no_grad()
def test_more_tokens_than_pixels_are_refused_and_not_cut_short(setting: Setting) -> None:
    many = HookedCLIP.from_open_clip(random_clip({"vision_cfg": {"layers": 1, "image_size": 8, "patch_size": 2}}))
    images = random_images(many, 2)
    assert many.cfg.n_ctx == 17
    cache = many.run_with_cache(images[:1])[1]
    args = (cache, lambda embedding: embedding.sum())
    with pytest.raises(ValueError, match=r"8 pixels, where the model has 17 tokens"):
        patching.get_act_patch_mlp_out(many, images[1:], *args)
    assert patching.get_act_patch_mlp_out(many, image_tokens(many, images[1:]), *args).shape == (1, 17)
