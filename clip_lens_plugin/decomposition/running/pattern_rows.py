"""The rows of a layer's attention that the pooling reads, taken while the model runs, or computed after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from clip_lens_plugin.layers.attention.softmax_attention import attention_pattern, attention_scores
from clip_lens_plugin.layers.block import Block

Hooks = Iterator[tuple[str, Callable[..., None]]]
Rows = Callable[[], Tensor]
"""Gives rows of a layer's pattern [b, h, r, n], over ``hook_z_scale`` if there is one."""


@dataclass(frozen=True)
class Compared:
    """Queries and keys, of which the rows of a pattern are computed at each call: to keep them takes less memory.

    Attributes:
        q: of the r tokens that are read.
        key: of all.
        scale: what the rows are divided by; None for nothing.
    """

    q: Float[Tensor, "b h r k"]
    key: Float[Tensor, "b h n k"]
    scale: Float[Tensor, "b r 1"] | None = None

    def __call__(self) -> Float[Tensor, "b h r n"]:
        pattern = attention_pattern(attention_scores(self.q.transpose(1, 2), self.key.transpose(1, 2)))
        return pattern if self.scale is None else pattern / self.scale[:, None]


def compared_hooks(block: Block, layer: int, positions: slice, take: Callable[[Compared], None]) -> Hooks:
    """Hooks that give ``take`` a layer's queries at some positions and its keys, copied; for attention without a mask.

    Called once per run. The model uses the fused kernel meanwhile, and no n × n pattern is made.
    """
    name, held = f"blocks.{layer}.attn.", {}
    scaled = block.attn.out.has_scale

    def heads_first(x: Tensor) -> Tensor:
        return x.detach().transpose(1, 2).clone(memory_format=torch.contiguous_format)

    def take_queries(q: Tensor, hook: HookPoint) -> None:
        held["q"] = heads_first(q[:, positions])

    def take_keys(key: Tensor, hook: HookPoint) -> None:
        held["key"] = heads_first(key)
        if not scaled:
            take(Compared(held.pop("q"), held.pop("key")))

    def take_scale(scale: Tensor, hook: HookPoint) -> None:
        take(Compared(held.pop("q"), held.pop("key"), scale.detach()[:, positions].clone()))

    queries, keys = block.attn.compared
    yield name + queries, take_queries
    yield name + keys, take_keys
    if scaled:
        yield name + "hook_z_scale", take_scale


def pattern_is_listened_to(block: Block) -> bool:
    """Whether somebody makes the model compute the whole pattern of a layer."""
    return block.attn.hook_pattern.has_hooks() or block.attn.hook_attn_scores.has_hooks()


def pattern_hooks(
    block: Block, layer: int, positions: slice, take: Callable[[Tensor], None], beside: bool = False
) -> Hooks:
    """Hooks that give ``take`` the layer's pattern [b, h, r, n] at some queries, over ``hook_z_scale`` if there is one.

    Called once per run, before ``hook_z``. Where few rows are read, they are computed from queries and keys beside
    the fused kernel, without the n × n pattern, unless somebody else listens to the pattern and so makes the model
    compute it.

    Args:
        positions: of the queries.
        beside: compute all rows beside the fused kernel too, so that the model computes to the last bit what it does
            without hooks; without a mask.
    """
    name, held = f"blocks.{layer}.attn.", {}
    scaled = block.attn.out.has_scale

    def done(pattern: Tensor) -> None:
        if scaled:
            held["pattern"] = pattern
        else:
            take(pattern)

    def take_queries(q: Tensor, hook: HookPoint) -> None:
        held["q"] = q.detach()[:, positions]

    def compute_pattern(key: Tensor, hook: HookPoint) -> None:
        done(attention_pattern(attention_scores(held.pop("q"), key.detach())))

    def take_pattern(pattern: Tensor, hook: HookPoint) -> None:
        done(pattern.detach()[:, :, positions])

    def divide(scale: Tensor, hook: HookPoint) -> None:
        take(held.pop("pattern") / scale.detach()[:, None, positions])

    if (positions.stop is None and not beside) or pattern_is_listened_to(block):
        yield name + "hook_pattern", take_pattern
    else:
        queries, keys = block.attn.compared
        yield name + queries, take_queries
        yield name + keys, compute_pattern
    if scaled:
        yield name + "hook_z_scale", divide
