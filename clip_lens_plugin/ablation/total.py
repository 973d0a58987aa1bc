"""Total effects: components are replaced while the model runs, at every token, and later layers react."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.ablation.component_sets import Components
from clip_lens_plugin.ablation.hooks import mean_ablation, resample_ablation, zero_ablation
from clip_lens_plugin.ablation.means import ActivationMeans
from clip_lens_plugin.ablation.self_attention import class_self_attention_hooks, class_self_attention_messages
from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.collection.reading import read_batches
from clip_lens_plugin.datasets.choose import as_source
from clip_lens_plugin.datasets.given_pictures import GivenPictures
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.analysed import Provenance
from clip_lens_plugin.images.photographs import some_of
from clip_lens_plugin.model.inputs.given import GivenImages
from clip_lens_plugin.model.inputs.pixels import look
from clip_lens_plugin.model.protocol import ImageModel
from clip_lens_plugin.numerics.precision import full_precision

Batches = Callable[[Sequence[int] | None], Iterator[Float[Tensor, "s 3 height width"]]]
"""Batches of the images at some rows, or of all in order."""


def image_batches(model: ImageModel, images: Any, batch_size: int, provenance: Provenance | None) -> Batches:
    """Batches of a tensor of preprocessed images, of pictures or of a data set; of its rows that were collected.

    Raises:
        ValueError: if the data set is not the one that the rows were collected from, a sample cannot be read, or
            ``batch_size`` is no whole number of at least 1.
        PixelError: if a tensor is none of preprocessed pixels, or holds NaN or infinity.
    """
    batch_size = checked_number("batch_size", batch_size)
    if isinstance(images, Tensor):
        look(model, images)
        return lambda rows: iter((images if rows is None else images[list(rows)]).split(batch_size))
    if isinstance(images, GivenPictures):  # Not collected, so messages do not tell how to go on with a store.
        images = GivenImages(model, None, images.photographs)
    if isinstance(images, GivenImages):
        return lambda rows: _of_pictures(images, rows, batch_size)
    source = as_source(images)
    positions = range(len(source))
    if provenance is not None:
        if source.fingerprint() != provenance.fingerprint:
            raise ValueError(
                f"The store was collected from {provenance.dataset}, and the images given are {source.description}: "
                f"other samples. Give the same data set."
            )
        positions = [int(position) for position in provenance.positions]

    def batches(rows: Sequence[int] | None) -> Iterator[Tensor]:
        chosen = positions if rows is None else [positions[row] for row in rows]
        parts = [chosen[i : i + batch_size] for i in range(0, len(chosen), batch_size)]
        for batch in read_batches(model, source, parts, workers=0, strict=True):
            assert batch.images is not None
            yield batch.images

    return batches


def _of_pictures(given: GivenImages, rows: Sequence[int] | None, size: int) -> Iterator[Tensor]:
    if rows is not None:
        given = GivenImages(given.model, None, some_of(given.photographs, rows))
    return (given.pixels(slice(start, start + size)) for start in range(0, len(given), size))


def total_logits(
    model: ImageModel,
    scored: Batches,
    classes: Float[Tensor, "t e"],
    components: Sequence[Components],
    ablation: str,
    source: Batches,
    donor_rows: Int[Tensor, " b"] | None,
) -> Iterator[tuple[range, int, Float[Tensor, "s t"]]]:
    """(rows, number of the set or -1 for nothing ablated, dot products of M(I) with the classes), batch by batch."""
    components = [each.checked_for(model) for each in components]
    points = sorted({name for each in components for name in component_points(model, each)})
    own_layers = sorted({l for each in components for l in each.self_attention})
    means, own_means = _means(model, source, points, own_layers) if ablation == "mean" else ({}, {})
    start = 0
    with torch.no_grad():
        for images in scored(None):
            rows = range(start, start + len(images))
            start = rows.stop
            values, messages = means, own_means
            if donor_rows is not None:
                picked = donor_rows[rows.start : rows.stop].tolist()
                donated = next(source(picked))
                _, values = model.run_with_cache(donated, names_filter=points, return_cache_object=False)
                messages = class_self_attention_messages(model, donated, own_layers) if own_layers else {}
            yield rows, -1, _scores(model(images), classes)
            for number, each in enumerate(components):
                with model.hooks(fwd_hooks=component_hooks(model, each, ablation, values, messages)):
                    embedding = model(images)
                yield rows, number, _scores(embedding, classes)


@full_precision()
def _scores(embedding: Float[Tensor, "s e"], classes: Float[Tensor, "t e"]) -> Float[Tensor, "s t"]:
    return equations.towards(embedding.to(classes), classes)


def component_points(model: ImageModel, components: Components) -> dict[str, list[int] | None]:
    """Hook point to the heads that are ablated there, None for all of it."""
    points: dict[str, list[int] | None] = {f"blocks.{l}.hook_mlp_out": None for l in sorted(components.mlps)}
    for l in range(model.cfg.n_layers):
        heads = sorted(h for layer, h in components.heads if layer == l)
        if l in components.biases:
            if len(heads) != model.cfg.n_heads:
                raise ValueError(
                    f"{components.name!r}: a layer's bias is ablated with all of its heads, or not at all."
                )
            points[f"blocks.{l}.hook_attn_out"] = None
        elif heads:
            points[f"blocks.{l}.attn.hook_z"] = heads
    return points


def component_hooks(model: ImageModel, components: Components, ablation: str, values: Any, messages: Any) -> list[Any]:
    """(name, hook) pairs."""
    hooks: list[Any] = []
    for name, heads in component_points(model, components).items():
        if ablation == "zero":
            hooks.append((name, zero_ablation(heads)))
        elif ablation == "mean":
            hooks.append((name, mean_ablation(values, heads)))
        else:
            hooks.append((name, resample_ablation(values, heads)))
    if components.self_attention:
        replacement = None if ablation == "zero" else messages
        hooks += class_self_attention_hooks(model, sorted(components.self_attention), replacement)
    return hooks


def _means(
    model: ImageModel, source: Batches, points: list[str], own_layers: list[int]
) -> tuple[dict[str, Tensor], dict[int, Tensor]]:
    running = ActivationMeans(model, points) if points else None
    sums: dict[int, Tensor] = {}
    n = 0
    for images in source(None):
        n += len(images)
        if running is not None:
            running.add(images)
        if own_layers:
            for l, message in class_self_attention_messages(model, images, own_layers).items():
                sums[l] = sums.get(l, 0.0) + message.double().sum(0)
    dtype = torch.promote_types(model.cfg.dtype, torch.float32)
    return running.means() if running is not None else {}, {l: (each / n).to(dtype) for l, each in sums.items()}
