"""Hooks that ablate what the class token sends to itself, in every head of a layer, while the model runs.

They return a new tensor in the activation's dtype and on its device, and let gradients through.

Source: Gandelsman, Efros and Steinhardt, ICLR 2024, table 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from clip_lens_plugin.ablation.hooks import Hook, checked_shape
from clip_lens_plugin.arguments import checked_number, whole_numbers
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.inputs.given import given_images
from clip_lens_plugin.model.protocol import ImageModel
from clip_lens_plugin.numerics.named_tensors import NamedTensors


@takes_bridges
def class_self_attention_hooks(
    model: ImageModel, layers: Iterable[int], replacement: Mapping[int, Tensor] | None = None
) -> list[tuple[str, Hook]]:
    """Hooks that replace what the class token sends to itself, ``pattern[b, h, 0, 0] · v[b, 0, h]``, in every head.

    Where there is a ``hook_z_scale``, the message is divided by it, as ``hook_z`` is.

    The pattern stays: nothing is shared out over other tokens. Pass all pairs at once, after any other hook on
    ``hook_v``, ``hook_pattern`` or ``hook_z``, whose edits then count. A message is forgotten once it is replaced.

    Args:
        layers: negative ones counted from the end.
        replacement: None for zero; or layer, negative ones counted from the end, to a mean message [h, k], or to
            messages of donors [b, h, k]: see :func:`class_self_attention_messages`.

    Returns:
        (name, hook) pairs for ``fwd_hooks``, three a layer; four where a norm's scale is divided out of ``hook_z``.

    Raises:
        IndexError: if there is no such layer.
        ValueError: if ``replacement`` lacks a layer, or has another shape, or the model does not pool the class token;
            in the run, for another batch size.
    """
    pairs: list[tuple[str, Hook]] = []
    if replacement is not None:
        replacement = {model.cfg.checked_layer(layer): message for layer, message in replacement.items()}
    for l in _checked_layers(model, layers):
        if replacement is not None:
            _check_message(model, l, replacement)
        message = _SelfMessage(model, l)
        replace = _message_replacing(message, None if replacement is None else replacement[l])
        pairs += [*message.hooks, (f"blocks.{l}.attn.hook_z", replace)]
    return pairs


@takes_bridges
def class_self_attention_messages(
    model: ImageModel, images: Any, layers: Iterable[int], batch_size: int = 32
) -> NamedTensors[int]:
    """Layer to what the class token sends to itself in each head [b, h, k]: ``pattern[b, h, 0, 0] · v[b, 0, h]``.

    In the weights' dtype, without gradients. Their mean over images is what mean ablation takes.

    Args:
        images: the path of a picture or of a folder, pictures, or preprocessed images [b, 3, height, width].
        layers: see :func:`class_self_attention_hooks`.
        batch_size: images in a run.

    Raises:
        IndexError: if there is no such layer.
        ValueError: if there is no image, ``batch_size`` is no whole number of at least 1, or the model does not pool
            the class token.
        PixelError: if the images are neither pictures nor a floating-point tensor of the model's shape, or hold NaN or
            infinity; doubtful pixels are a warning.
    """
    batch_size = checked_number("batch_size", batch_size)
    given = given_images(model, images)
    messages = {l: _SelfMessage(model, l) for l in _checked_layers(model, layers)}
    found: dict[int, list[Tensor]] = {l: [] for l in messages}
    hooks: list[Any] = [pair for each in messages.values() for pair in each.hooks]
    with torch.no_grad(), given.checked(), model.hooks(fwd_hooks=hooks):
        for start in range(0, len(given), batch_size):
            model(given.pixels(slice(start, start + batch_size)))
            for l, message in messages.items():
                found[l].append(message.take())
    return NamedTensors({l: torch.cat(parts) for l, parts in found.items()})


class _SelfMessage:
    """What the class token sends to itself in one layer of the current run, until it is taken."""

    def __init__(self, model: ImageModel, layer: int) -> None:
        self._value: Tensor | None = None
        self._message: Tensor | None = None
        self.hooks: list[tuple[str, Hook]] = [
            (f"blocks.{layer}.attn.hook_v", self._see_value),
            (f"blocks.{layer}.attn.hook_pattern", self._see_pattern),
        ]
        if model.blocks[layer].attn.out.has_scale:
            self.hooks.append((f"blocks.{layer}.attn.hook_z_scale", self._see_scale))

    def _see_value(self, v: Float[Tensor, "b n h k"], hook: HookPoint) -> None:
        self._value, self._message = v[:, :1], None

    def _see_pattern(self, pattern: Float[Tensor, "b h n n"], hook: HookPoint) -> None:
        if self._value is not None:
            own = equations.class_token_message(pattern[:, :, :1, :1], self._value)
            self._message, self._value = own[:, 0], None

    def _see_scale(self, scale: Float[Tensor, "b n 1"], hook: HookPoint) -> None:
        if self._message is not None:
            self._message = self._message / scale[:, :1]

    def take(self) -> Float[Tensor, "b h k"]:
        """The message, which is then forgotten."""
        message, self._value, self._message = self._message, None, None
        if message is None:
            raise ValueError("Pass every pair of class_self_attention_hooks, each once, to the same run.")
        return message


def _message_replacing(message: _SelfMessage, replacement: Tensor | None) -> Hook:
    def replace(z: Float[Tensor, "b n h k"], hook: HookPoint) -> Float[Tensor, "b n h k"]:
        sent = message.take()
        if replacement is None:
            change = -sent
        else:
            if replacement.ndim == 3:
                checked_shape(replacement, sent.shape, f"The messages for {hook.name}")
            change = replacement.to(sent) - sent
        changed = z.clone()
        changed[:, 0] += change
        return changed

    return replace


def _check_message(model: ImageModel, layer: int, replacement: Mapping[int, Tensor]) -> None:
    if layer not in replacement:
        raise ValueError(f"There is no replacement for layer {layer}, only for layers {sorted(replacement)}.")
    h, k, shape = model.cfg.n_heads, model.cfg.d_head, list(replacement[layer].shape)
    if shape[-2:] != [h, k] or len(shape) not in (2, 3):
        raise ValueError(
            f"The replacement for layer {layer} must have shape [{h}, {k}] or [batch, {h}, {k}], got {shape}."
        )


def _checked_layers(model: ImageModel, layers: Iterable[int]) -> list[int]:
    """The layers counted from the start, each once."""
    if not model.pooling.reads_class_token_alone:
        raise ValueError(
            f"{model.cfg.model_name} does not pool the class token ({model.cfg.pooling}): its attention to itself is "
            f"not what table 1 of the paper ablates."
        )
    numbers = whole_numbers("layers", layers) or []
    return list(dict.fromkeys(map(model.cfg.checked_layer, numbers)))
