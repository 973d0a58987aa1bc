"""Attention patterns of an image: whole patterns of a layer by circuitsvis, the class token's rows of all layers.

A pattern is drawn over tokens named "CLS" and "REG0", where the tower has such, and "r0c0", "r0c1", ...: the patch in
row 0 from the top, column 0 from the left, and so on. Weights are not signed, so they go from clear to one colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from markupsafe import Markup
from PIL import Image
from torch import Tensor

from clip_lens_plugin.arguments import checked_index, checked_pair, whole_numbers
from clip_lens_plugin.images.pictures import upright_rgb
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.views.drawing import encoding
from clip_lens_plugin.views.drawing.colours import over_photograph
from clip_lens_plugin.views.drawing.view import View, aside, drawn
from clip_lens_plugin.views.figures.maps.attention import all_class_rows_figure, rows_figure

if TYPE_CHECKING:
    from transformer_lens import ActivationCache

COLOUR = "#b35806"
PICTURE_SIDE = 224
MOST_PATTERN_WEIGHTS = 1_100_000
"""Weights that circuitsvis draws within half a minute and 1 GB of a browser's memory: 16 heads of 257 tokens."""

QUICK_PATTERN_WEIGHTS = 100_000
"""Weights that circuitsvis draws at once; above, it takes up to half a minute and waits for a button."""

MOST_CLASS_WEIGHTS = 5_600_000
"""Weights on a page of class rows: one is a byte, written as 4/3 of a character, so that it stays under 8 MB."""

FULL_COLOUR = 0.99
"""The quantile of the weights that has the full colour; the greatest few would leave the rest white."""

GREATEST_SKEW = 0.05
"""Relative difference of the sides' ratios, picture to input, beyond which it is another picture."""


@takes_bridges
def attention_view(
    model: HookedCLIP,
    cache: ActivationCache,
    layer: int,
    picture: Image.Image | None = None,
    *,
    heads: Sequence[int] | None = None,
    image: int = 0,
) -> View:
    """Whole patterns of one layer's heads, drawn by circuitsvis, with the picture beside them.

    It takes the cache and not a pattern, because a pattern does not say whose tokens it runs over: the model knows
    the grid of patches, and so a pattern of other tokens is refused. What a hook made of the pattern is shown, as
    long as the cache holds it. Where scripts do not run, the class token's row of each head is shown as a map; in a
    tower without one, the mean over all rows.

    Weights are shown in steps of 1/255 of each head's greatest; the view says how large a step is.

    Args:
        model: what the cache was made with.
        cache: holds ``blocks.{layer}.attn.hook_pattern`` [b, h, n, n], or [h, n, n] with its batch dimension removed.
        layer: 0 is the first, −1 the last.
        picture: as the model sees it, see :func:`~clip_lens_plugin.datasets.image_folder.shown_pictures`.
        heads: which heads; all if not given.
        image: row of the batch.

    Raises:
        IndexError: if there is no such layer, head or image.
        ValueError: if one of these is no whole number, the cache does not hold the pattern, the pattern is not [b, h,
            n, n] with the model's n or holds a number that is negative or not finite, no head is chosen, the heads are
            more than a browser draws (1.1 million weights: 28 heads of 197 tokens, 16 of 257, 3 of 577), or the picture
            does not have the shape of the model's input.
    """
    layer, n_heads = model.cfg.checked_layer(layer), model.cfg.n_heads
    numbers = whole_numbers("heads", heads)
    chosen = range(n_heads) if numbers is None else [checked_index("head", head, n_heads) for head in numbers]
    if not len(chosen):
        raise ValueError("heads must hold at least one head, or be None for all of the layer.")
    n_tokens = model.cfg.n_ctx
    if len(chosen) * n_tokens**2 > MOST_PATTERN_WEIGHTS:
        raise ValueError(
            f"{len(chosen)} heads of {n_tokens} x {n_tokens} weights are more than a browser draws in reasonable time. "
            f"Choose at most {MOST_PATTERN_WEIGHTS // n_tokens**2} with heads=[...], or use class_attention_view."
        )
    pattern = _cached_pattern(model, cache, layer, image)[list(chosen)]
    rows, columns = grid_size = model.cfg.grid_size
    if picture is not None:
        picture = upright_rgb(picture)
        _check_shape(picture, model.cfg.image_size[1] / model.cfg.image_size[0])
    packed, prefix = encoding.weights(pattern), model.cfg.prefix_names
    full = max(float(pattern.flatten().sort().values[int(FULL_COLOUR * (pattern.numel() - 1))]), 1e-9)
    props = {
        "tokens": [*prefix, *(f"r{row}c{column}" for row in range(rows) for column in range(columns))],
        "attentionHeadNames": [f"Head {head}" for head in chosen],
        "maxValue": full,
        "minValue": 0,
        "positiveColor": COLOUR,
        "maskUpperTri": False,
    }
    slow = pattern.numel() > QUICK_PATTERN_WEIGHTS
    on_demand = f"Draw the {len(chosen)} patterns (takes up to half a minute)" if slow else None
    reader, shown = ("the class token", pattern[:, 0]) if "CLS" in prefix else ("the mean token", pattern.mean(1))
    figure = partial(
        rows_figure, shown, [f"head {head}" for head in chosen], prefix, picture, grid_size, f"Layer {layer}", reader
    )
    body = Markup('<div class="cl-attention-about">{}<div>{}{}</div></div>{}').format(
        _thumbnail(picture),
        aside(
            f"A row is a token that looks, a column one that is looked at{_first(prefix)}. "
            f"r0c0 is the patch in the first of {rows} rows from the top and the first of {columns} columns from the "
            "left."
        ),
        aside(
            f"White is 0, full colour {full:.2g} or more, which 1 % of the weights reach. Weights are stored in 8 "
            f"bits: in steps of 1/255 of each head's greatest, a step is at most {float(pattern.max()) / 255:.2g}."
        ),
        drawn(
            "circuitsvis",
            {"component": "AttentionHeads", "props": props, "packed": {"attention": packed}},
            figure,
            f"The attention of {reader} to each patch in layer {layer}, one map per head.",
            on_demand,
        ),
    )
    return View(f"Attention in layer {layer}", body, figure, with_circuitsvis=True)


def class_attention_view(patterns: Float[Tensor, "l h n"], picture: Image.Image, grid_size: tuple[int, int]) -> View:
    """What the class token attends to in every head: choose a layer, then a head, then a patch.

    Only the class token's row of each pattern is needed, so that a tower of 24 layers and 16 heads fits in a small
    page. Only the chosen layer is drawn; registers are left out. Each map has a scale of its own, from clear at 0 to
    full colour at its greatest patch, in steps of 1/255 of that; the greatest and the class token's weight on itself
    stand under it.

    Args:
        patterns: rows of the class token, on itself first, then on the patches;
            ``torch.stack([cache["pattern", l][image, :, 0] for l in range(l)])``. A tower without class token has none.
        picture: as the model sees it, see :func:`~clip_lens_plugin.datasets.image_folder.shown_pictures`.
        grid_size: (rows, columns) of patches, ``model.cfg.grid_size``.

    Raises:
        ValueError: if there is no layer or head, n is not 1 + rows · columns, a weight is negative or not finite, the
            page would exceed 8 MB, or the picture does not have the shape of the grid.
    """
    rows, columns = checked_pair("grid_size", grid_size)
    found = patterns.detach().to("cpu", torch.float32)
    if found.ndim != 3 or not found.numel() or found.shape[-1] != 1 + rows * columns:
        raise ValueError(
            f"patterns must be [layers, heads, {1 + rows * columns}], the class token and {rows} x {columns} patches, "
            f"got {list(found.shape)}."
        )
    if found.numel() > MOST_CLASS_WEIGHTS:
        raise ValueError(f"{found.numel():,} weights make a page of more than 8 MB. Choose some layers or heads.")
    _check_weights(found, "patterns")
    picture = upright_rgb(picture)
    _check_shape(picture, columns / rows)
    n_layers, n_heads, _ = found.shape
    data = {
        "picture": encoding.picture_uri(picture, 2 * PICTURE_SIDE),
        # Apart from the class token, whose own weight is often so great that no step would be left for patches.
        "patches": encoding.weights(found[..., 1:].unflatten(-1, (rows, columns))),
        "itself": encoding.floats(found[..., 0]),
        "colours": over_photograph(),
    }
    figure = partial(all_class_rows_figure, found, picture, (rows, columns))
    about = aside(
        f"The class token's weights on {rows} x {columns} patches. Each map goes from clear at 0 to full colour at its "
        "own greatest patch, in 256 steps; the picture is in grey beneath. CLS is the weight on the class token itself."
    )
    description = (
        f"The class token's attention to each patch in {n_layers} layers of {n_heads} heads, one map per head."
    )
    return View("Attention of the class token", about + drawn("attention", data, figure, description), figure)


def _cached_pattern(model: HookedCLIP, cache: ActivationCache, layer: int, image: int) -> Float[Tensor, "h n n"]:
    name = f"blocks.{layer}.attn.hook_pattern"
    if name not in cache.cache_dict:
        raise ValueError(
            f'The cache holds no {name}. Make it with model.run_with_cache(images, names_filter="{name}").'
        )
    found = cache.cache_dict[name].detach().to("cpu", torch.float32)
    found = found if cache.has_batch_dim else found[None]
    expected = (model.cfg.n_heads, model.cfg.n_ctx, model.cfg.n_ctx)
    if found.ndim != 4 or tuple(found.shape[1:]) != expected:
        raise ValueError(
            f"{name} must be [batch, {expected[0]}, {expected[1]}, {expected[2]}], got {list(found.shape)}. Cache it "
            f"from the same model, without pos_slice."
        )
    image = checked_index("image", image, len(found))
    _check_weights(found[image], name)
    return found[image]


def _first(prefix: Sequence[str]) -> str:
    registers = [name for name in prefix if name != "CLS"]
    first = "; the class token's row (CLS) is the first" if "CLS" in prefix else ""
    return first + (f"; registers ({registers[0]} to {registers[-1]}) come before the patches" if registers else "")


def _check_weights(values: Float[Tensor, "..."], name: str) -> None:
    wrong = ~(values.isfinite() & (values >= 0))
    if wrong.any():
        raise ValueError(
            f"{name} must hold finite weights from 0 up, got {int(wrong.sum())} that are not, such as "
            f"{float(values[wrong][0]):.3g}."
        )


def _check_shape(picture: Image.Image, aspect: float) -> None:
    """Refuses a photograph that was not cropped as the model's input is: maps over it would be shifted."""
    width, height = picture.size
    if not 1 - GREATEST_SKEW < width / height / aspect < 1 + GREATEST_SKEW:
        raise ValueError(
            f"The picture is {width} x {height} pixels, but what the model sees is {aspect:.3g} times as wide as "
            f"high. Give it as the model sees it: shown_pictures(images, model.preprocess)[image]."
        )


def _thumbnail(picture: Image.Image | None) -> Markup:
    if picture is None:
        return Markup()
    uri = encoding.picture_uri(picture, PICTURE_SIDE)
    return Markup('<img class="cl-attention-picture" alt="The image as the model sees it" src="{}">').format(uri)
