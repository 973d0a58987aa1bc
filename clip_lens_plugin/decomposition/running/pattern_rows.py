"""The rows of a layer's attention that the pooling reads, taken while the model runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor
from transformer_lens.hook_points import HookPoint

from clip_lens_plugin.layers.attention.softmax_attention import attention_pattern, attention_scores
from clip_lens_plugin.layers.block import Block

Hooks = Iterator[tuple[str, Callable[..., None]]]


def pattern_hooks(
    block: Block, layer: int, positions: slice, take: Callable[[Tensor], None], beside: bool = False
) -> Hooks:
    """Hooks that give ``take`` the layer's pattern [b, h, r, n] at some queries, over ``hook_z_scale`` if there is one.

    It is called once a run, before ``hook_z``. Where few rows are read, they are computed from queries and keys beside
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

    listened = block.attn.hook_pattern.has_hooks() or block.attn.hook_attn_scores.has_hooks()
    if (positions.stop is None and not beside) or listened:
        yield name + "hook_pattern", take_pattern
    else:
        queries, keys = block.attn.compared
        yield name + queries, take_queries
        yield name + keys, compute_pattern
    if scaled:
        yield name + "hook_z_scale", divide
