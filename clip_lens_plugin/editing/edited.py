"""A copy of a source model with edited output weights of heads."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clip_lens_plugin.adapters.choose import tower_parts
from clip_lens_plugin.editing.changes import Change, checked_changes
from clip_lens_plugin.layers.attention.output_projection import AttentionOutput
from clip_lens_plugin.model.edits import Edit
from clip_lens_plugin.model.protocol import ImageModel


@torch.no_grad()
def edited_source(
    model: ImageModel, remove: Any, scale: Any, project_out: Any, means: Any
) -> tuple[nn.Module, list[Edit]]:
    """The source's copy with the edits in its weights, and what they are.

    Raises:
        ValueError, IndexError: see :meth:`~clip_lens_plugin.model.editable.Editable.edited`.
    """
    model.check_source()
    changes = checked_changes(model, remove, scale, project_out, means)
    by_layer: dict[int, list[Change]] = {}
    for change in changes:
        by_layer.setdefault(change.edit.layer, []).append(change)
    for layer, own in by_layer.items():
        _refuse(model, layer, own)
    clip = copy.deepcopy(model.clip)
    blocks = tower_parts(clip, model.cfg.model_name).blocks
    for layer, own in by_layer.items():
        _change(blocks[layer].attn.out, own)
    return clip, [change.edit for change in changes]


def _refuse(model: ImageModel, layer: int, changes: Sequence[Change]) -> None:
    """Raises ValueError where no weights of the layer do what the hooks do."""
    out = model.blocks[layer].attn.out
    where = f"Layer {layer} of {model.cfg.model_name}"
    for norm, name in ((out.inner, "over what its heads put out together"), (out.outer, "over what they write")):
        if norm is not None:
            raise ValueError(
                f"{where} has a norm {name}, whose scale depends on the edited head: no weights do what the hooks do. "
                f"Use hooks: model.hooks(fwd_hooks=[('blocks.{layer}.attn.hook_z', ...)])."
            )
    own = _weight(out)
    if sum(_weight(block.attn.out) is own for block in model.blocks) > 1:
        raise ValueError(f"{where} shares its output weights with another layer, which the edit would change as well.")
    needs_bias = any(change.constant is not None and bool(change.constant.any()) for change in changes)
    if needs_bias and out.linear.bias is None:
        raise ValueError(
            f"{where} has no bias of its attention's output to carry a mean, and its own library would not load one. "
            f"Remove heads without means."
        )


def _weight(out: AttentionOutput) -> Float[Tensor, "d hk"]:
    return getattr(out.linear.module, out.linear.weight_name)


def _change(out: AttentionOutput, changes: Sequence[Change]) -> None:
    """Writes the changes of a layer's heads into its output projection; the bias is rounded once."""
    weight, bias = _weight(out), out.linear.bias
    width = weight.shape[1] // out.n_heads
    factors = None if out.head_scale is None else out.head_scale().flatten().to("cpu", torch.float64)
    added = torch.zeros(len(weight), dtype=torch.float64, device="cpu")
    for change in changes:
        head = change.edit.head
        columns = slice(head * width, (head + 1) * width)
        own = weight[:, columns].to("cpu", torch.float64)
        if change.constant is not None:
            added += own @ change.constant * (1.0 if factors is None else factors[head])
        weight[:, columns] = (own @ change.matrix).to(weight)
    if bias is not None and bool(added.any()):
        bias.copy_(bias.to("cpu", torch.float64) + added)
