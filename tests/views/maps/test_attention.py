"""What the attention views write for the page is the pattern, within the step that they state."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from transformer_lens import ActivationCache

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.views.drawing.view import View, page
from clip_lens_plugin.views.maps.attention import attention_view, class_attention_view
from tests.conftest import TOWERS, random_clip, random_images
from tests.support.families import FAMILIES

pytestmark = pytest.mark.slow


def picture(width: int = 64, height: int = 64) -> Image.Image:
    """Noise, which compresses worst."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def written(view: View) -> dict:
    """The data that the page holds."""
    found = re.search(r'<script type="application/json">(.*?)</script>', view.html(), re.DOTALL)
    assert found
    return json.loads(found.group(1))


def read_bytes(packed: dict) -> np.ndarray:
    """Numbers of 8 bits as the format is described: a byte b of a matrix whose greatest is g stands for g b / 255."""
    raw = np.frombuffer(base64.b64decode(packed["uint8"]), np.uint8).reshape(packed["shape"])
    greatest = np.array(packed["greatest"]).reshape(packed["shape"][:-2])
    return raw / 255 * greatest[..., None, None]


def softmax(*shape: int, seed: int = 0) -> torch.Tensor:
    return (3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).softmax(-1)


def cached(model: HookedCLIP, pattern: torch.Tensor, layer: int = 0) -> ActivationCache:
    return ActivationCache({f"blocks.{layer}.attn.hook_pattern": pattern}, model)


@pytest.fixture(scope="module")
def base_model() -> HookedCLIP:
    """12 heads of 197 tokens."""
    return HookedCLIP.from_open_clip(random_clip({"vision_cfg": {"image_size": 112, "head_width": 4, "layers": 1}}))


def test_the_page_holds_the_pattern_of_the_chosen_heads_and_image_within_half_a_step(model):
    _, cache = model.run_with_cache(random_images(model), names_filter=lambda name: name.endswith("hook_pattern"))
    data = written(attention_view(model, cache, -1, picture(), heads=[3, 1], image=2))
    expected = cache["blocks.2.attn.hook_pattern"][2, [3, 1]].numpy()
    half_steps = expected.max((-2, -1), keepdims=True) / 255 / 2
    assert (abs(read_bytes(data["packed"]["attention"]) - expected) <= 1.001 * half_steps).all()
    assert data["component"] == "AttentionHeads"
    assert data["props"]["attentionHeadNames"] == ["Head 3", "Head 1"]
    assert data["props"]["maskUpperTri"] is False


def test_tokens_are_the_class_token_and_the_patches_row_by_row():
    model = HookedCLIP.from_open_clip(random_clip(TOWERS["not_square"]))
    _, cache = model.run_with_cache(random_images(model, 1), names_filter="blocks.0.attn.hook_pattern")
    tokens = written(attention_view(model, cache, 0, picture(56, 32)))["props"]["tokens"]
    assert tokens[:3] == ["CLS", "r0c0", "r0c1"]
    assert tokens[1 + 7 * 2 + 5] == "r2c5"
    assert len(tokens) == 1 + 4 * 7


def test_a_cache_without_its_batch_dimension_gives_the_same_view(model):
    _, cache = model.run_with_cache(random_images(model, 1), names_filter="blocks.1.attn.hook_pattern")
    before = attention_view(model, cache, 1).body
    assert attention_view(model, cache.remove_batch_dim(), 1).body == before


def test_the_step_that_the_small_print_states_is_that_of_the_greatest_weight(model):
    pattern = torch.full((1, 4, 17, 17), 0.01, dtype=torch.float64)
    pattern[0, 2, 5, 6] = 0.51
    assert "at most 0.002." in attention_view(model, cached(model, pattern), 0).body


def test_registers_are_named_and_a_tower_without_class_token_shows_its_mean_token():
    registers = HookedCLIP.from_open_clip(FAMILIES["registers"]())
    _, cache = registers.run_with_cache(random_images(registers, 1))
    tokens = written(attention_view(registers, cache, 1))["props"]["tokens"]
    assert tokens[: registers.cfg.n_prefix_tokens] == list(registers.cfg.prefix_names)
    assert tokens[registers.cfg.n_prefix_tokens] == "r0c0"
    assert len(tokens) == registers.cfg.n_ctx
    assert registers.cfg.prefix_names[-1].startswith("REG")
    bare = HookedCLIP.from_open_clip(FAMILIES["SigLIP"]())
    pattern = softmax(1, 4, 16, 16)
    view = attention_view(bare, cached(bare, pattern), 0, picture())
    assert written(view)["props"]["tokens"][0] == "r0c0"
    axes = [axes for axes in view.figure().axes if axes.images]
    np.testing.assert_allclose(axes[2].images[-1].get_array(), pattern[0, 2].mean(0).reshape(4, 4), rtol=1e-5)
    assert "CLS" not in axes[2].get_title()


def test_the_static_figure_shows_the_class_tokens_row_of_each_head(model):
    pattern = softmax(1, 4, 17, 17).double()
    figure = attention_view(model, cached(model, pattern), 0, picture()).figure()
    axes = [axes for axes in figure.axes if axes.get_title()]
    assert len(axes) == 4
    np.testing.assert_allclose(axes[2].images[-1].get_array(), pattern[0, 2, 0, 1:].reshape(4, 4), rtol=1e-6)
    assert axes[2].get_title().split("\n")[:2] == ["head 2", f"CLS {pattern[0, 2, 0, 0]:.2g}"]


def test_twelve_heads_of_197_tokens_make_a_page_under_two_megabytes(base_model):
    view = attention_view(base_model, cached(base_model, softmax(1, 12, 197, 197)), 0, picture(224, 224))
    assert len(page("attention", [view]).encode()) < 2_000_000


def test_more_heads_than_a_browser_draws_are_refused_with_how_many_it_does():
    model = HookedCLIP.from_open_clip(random_clip({"vision_cfg": {"image_size": 192, "layers": 1}}))
    cache = cached(model, torch.zeros(1, 4, 577, 577))
    with pytest.raises(ValueError, match=r"at most 3 with heads=\[\.\.\.\]"):
        attention_view(model, cache, 0)
    attention_view(model, cache, 0, heads=[0, 1, 2])


def test_a_cache_without_the_pattern_is_refused_with_the_filter_to_use(model):
    _, cache = model.run_with_cache(random_images(model), names_filter="hook_embed")
    with pytest.raises(ValueError, match=r'names_filter="blocks\.1\.attn\.hook_pattern"'):
        attention_view(model, cache, 1)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (torch.zeros(1, 4, 1, 17), r"\[1, 4, 1, 17\].*pos_slice"),
        (torch.zeros(1, 4, 26, 26), r"must be \[batch, 4, 17, 17\], got \[1, 4, 26, 26\]"),
        (torch.zeros(1, 5, 17, 17), r"same model"),
        (torch.full((1, 4, 17, 17), torch.nan), r"1156 that are not, such as nan"),
        (torch.full((1, 4, 17, 17), -0.5), r"such as -0\.5"),
        (torch.full((1, 4, 17, 17), torch.inf), r"such as inf"),
    ],
)
def test_what_is_no_pattern_of_the_model_is_refused(model, pattern, message):
    with pytest.raises(ValueError, match=message):
        attention_view(model, cached(model, pattern), 0)


def test_absent_layers_heads_and_images_are_refused(model):
    cache = cached(model, softmax(1, 4, 17, 17))
    with pytest.raises(IndexError, match="no layer 3"):
        attention_view(model, cache, 3)
    with pytest.raises(IndexError, match="head 4"):
        attention_view(model, cache, 0, heads=[4])
    with pytest.raises(IndexError, match="no image 1: there are 1"):
        attention_view(model, cache, 0, image=1)
    with pytest.raises(ValueError, match="at least one head"):
        attention_view(model, cache, 0, heads=[])


def test_a_picture_that_was_not_cropped_as_the_input_is_refused(model):
    with pytest.raises(ValueError, match=r"96 x 64 .* shown_pictures"):
        attention_view(model, cached(model, softmax(1, 4, 17, 17)), 0, picture(96, 64))
    with pytest.raises(ValueError, match=r"96 x 64 .* shown_pictures"):
        class_attention_view(softmax(2, 3, 17), picture(96, 64), (4, 4))


def test_class_rows_are_written_head_by_head_whatever_the_class_token_keeps():
    patterns = softmax(2, 3, 15) * 1e-4
    patterns[..., 0] = 0.999
    data = written(class_attention_view(patterns, picture(56, 16), (2, 7)))
    expected = patterns[..., 1:].reshape(2, 3, 2, 7).numpy()
    half_steps = expected.max((-2, -1), keepdims=True) / 255 / 2
    assert data["patches"]["shape"] == [2, 3, 2, 7]
    assert (abs(read_bytes(data["patches"]) - expected) <= 1.001 * half_steps).all()
    itself = np.frombuffer(base64.b64decode(data["itself"]["float32"]), "<f4")
    np.testing.assert_array_equal(itself, np.float32(0.999))


def test_class_rows_of_24_layers_of_16_heads_make_a_page_under_two_megabytes():
    view = class_attention_view(softmax(24, 16, 257), picture(224, 224), (16, 16))
    assert len(page("attention", [view]).encode()) < 2_000_000


def test_the_figure_of_class_rows_has_each_head_in_its_place():
    patterns = torch.zeros(2, 3, 5)
    patterns[1, 2] = torch.tensor([0.5, 0.1, 0.2, 0.05, 0.15])
    figure = class_attention_view(patterns, picture(), (2, 2)).figure()
    mosaic = next(
        np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.get_title().startswith("weight on each")
    )
    np.testing.assert_allclose(mosaic[3:5, 6:8], [[0.5, 1], [0.25, 0.75]], rtol=1e-6)
    assert np.nansum(mosaic) == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (torch.zeros(2, 3, 16), r"\[layers, heads, 17\].*4 x 4 patches, got \[2, 3, 16\]"),
        (torch.zeros(0, 3, 17), r"got \[0, 3, 17\]"),
        (torch.full((1, 1, 17), torch.nan), "17 that are not, such as nan"),
        (-torch.ones(1, 1, 17), "such as -1"),
        (torch.zeros(400, 1000, 17), "more than 8 MB"),
    ],
)
def test_what_are_no_class_rows_is_refused(patterns, message):
    with pytest.raises(ValueError, match=message):
        class_attention_view(patterns, picture(), (4, 4))
