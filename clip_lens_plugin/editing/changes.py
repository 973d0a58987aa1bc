"""Edits of heads as they were asked for, each as an affine map of what the head puts out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_heads, checked_texts
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.model.edits import Edit
from clip_lens_plugin.model.protocol import ImageModel
from clip_lens_plugin.plain_text import one_line

Head = tuple[int, int]

MOST_SHOWN = 60
"""Characters of a text in the description of an edit."""


@dataclass(frozen=True)
class Change:
    """A head's output z becomes ``z A + m``; float64 on the CPU.

    Attributes:
        edit: in words.
        matrix: A, which is symmetric.
        constant: m; None for zero.
    """

    edit: Edit
    matrix: Float[Tensor, "k k"]
    constant: Float[Tensor, " k"] | None = None


def checked_changes(model: ImageModel, remove: Any, scale: Any, project_out: Any, means: Any) -> list[Change]:
    """What was asked for, in the order of the arguments.

    Raises:
        ValueError, IndexError: see :meth:`~clip_lens_plugin.model.editable.Editable.edited`.
    """
    nothing = isinstance(remove, list | tuple | set | frozenset) and len(remove) == 0
    removed = [] if nothing or remove is None else checked_heads(remove, model.cfg.n_layers, model.cfg.n_heads)
    factors = _by_head(model, "scale", scale)
    directions = _by_head(model, "project_out", project_out)
    if not (removed or factors or directions):
        raise ValueError("There is nothing to edit: give remove, scale or project_out.")
    for head in removed:
        if head in factors or head in directions:
            other = "scale" if head in factors else "project_out"
            raise ValueError(f"Layer {head[0]}, head {head[1]} stands in remove and in {other}: give it in one.")
    changes = _removals(model, removed, means)
    changes += [_scaling(model, head, factor) for head, factor in factors.items()]
    if directions:
        readout = Readout.of(model)
        changes += [_projection(model, readout, head, given) for head, given in directions.items()]
    return changes


def _by_head(model: ImageModel, name: str, given: Any) -> dict[Head, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ValueError(f"{name} is a dictionary with (layer, head) pairs as keys, got {type(given).__name__}.")
    found: dict[Head, Any] = {}
    for key, value in given.items():
        if not isinstance(key, tuple):
            raise ValueError(f"Each key of {name} must be a (layer, head) pair, got {key!r:.60}.")
        [head] = checked_heads([key], model.cfg.n_layers, model.cfg.n_heads)
        if head in found:
            raise ValueError(f"Layer {head[0]}, head {head[1]} stands in {name} twice.")
        found[head] = value
    return found


def _removals(model: ImageModel, heads: list[Head], means: Any) -> list[Change]:
    width = model.cfg.d_head
    shape = (model.cfg.n_layers, model.cfg.n_heads, width)
    if means is not None and not heads:
        raise ValueError("means stand in for what is removed: give remove as well, or leave means out.")
    if isinstance(means, Mapping) or (isinstance(means, Tensor) and means.ndim == 4):
        raise ValueError(
            "A mean for each position, as activation_means gives and mean_ablation takes, cannot be put into weights: "
            "the bias that would carry it is the same at every token. Give one vector for each head, as "
            "head_means(model, images) makes them."
        )
    if means is not None and not (isinstance(means, Tensor) and means.is_floating_point() and means.shape == shape):
        got = list(means.shape) if isinstance(means, Tensor) else type(means).__name__
        raise ValueError(f"means must be a floating-point tensor {list(shape)} (layers, heads, width), got {got}.")
    zeros = torch.zeros(width, width, dtype=torch.float64, device="cpu")
    changes = []
    for layer, head in heads:
        constant = None if means is None else means[layer, head].detach().to("cpu", torch.float64)
        if constant is not None and not bool(constant.isfinite().all()):
            raise ValueError(f"The mean of layer {layer}, head {head} is NaN or infinite.")
        what = "removed, zero in its place" if constant is None else "removed, its mean in its place"
        changes.append(Change(Edit(layer, head, what), zeros, constant))
    return changes


def _scaling(model: ImageModel, head: Head, factor: Any) -> Change:
    value = factor.item() if isinstance(factor, Tensor) and factor.ndim == 0 else factor
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"The factor of layer {head[0]}, head {head[1]} must be a finite number, got {factor!r:.60}.")
    matrix = float(value) * torch.eye(model.cfg.d_head, dtype=torch.float64, device="cpu")
    return Change(Edit(*head, f"scaled by {float(value):g}"), matrix)


def _projection(model: ImageModel, readout: Readout, head: Head, given: Any) -> Change:
    where = f"Layer {head[0]}, head {head[1]}"
    texts, embeddings = _directions(model, where, given)
    pools, width = readout.pooling.n_heads, model.cfg.d_head
    count = len(embeddings) * pools
    if count >= width:
        each = "" if pools == 1 else f" ({pools} each, one for every head of its attention pool)"
        raise ValueError(
            f"{where} has {width} dimensions, and {len(embeddings)} directions take up to {count} of them{each}, so "
            f"that nothing would be left. Give fewer, or remove the head."
        )
    # A head's score towards t is y · M t, a part for each head of the pool: z must be orthogonal to every part.
    seen = equations.towards(readout.head_map(*head), readout.checked_texts(embeddings, of_unit_length=False)).T
    seen = seen.reshape(count, width).to("cpu", torch.float64).T
    left, sizes, _ = torch.linalg.svd(seen, full_matrices=False)
    if not bool(sizes[0] > 0):
        raise ValueError(f"{where} says nothing about what is to be projected out: the direction is zero for it.")
    smallest = sizes[0] * width * torch.finfo(readout.P.dtype).eps
    basis = left * (sizes > smallest)
    matrix = torch.eye(width, dtype=torch.float64, device="cpu") - basis @ basis.T
    return Change(Edit(*head, f"without its part towards {texts}"), matrix)


def _directions(model: ImageModel, where: str, given: Any) -> tuple[str, Float[Tensor, "t e"]]:
    """What was given in words, and the directions."""
    if isinstance(given, Tensor):
        directions = given.detach()[None] if given.ndim == 1 else given.detach()
        width = model.cfg.d_embed
        if directions.ndim != 2 or directions.shape[1] != width or not len(directions):
            raise ValueError(
                f"{where}: directions to project out must be [{width}] or [directions, {width}], got "
                f"{list(given.shape)}."
            )
        if not directions.is_floating_point():
            raise ValueError(f"{where}: directions to project out must be floating-point, got {given.dtype}.")
        return ("one direction" if len(directions) == 1 else f"{len(directions)} directions"), directions
    texts = checked_texts("project_out", [given] if isinstance(given, str) else given)
    said: Any = model
    return ", ".join(f"“{one_line(text, MOST_SHOWN)}”" for text in texts), said.encode_text(texts)
