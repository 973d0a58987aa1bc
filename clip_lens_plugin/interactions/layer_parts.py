"""An embedding as a sum over layers: what enters block 0, each layer's attention and MLP, and what is added after."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.decomposition.contributions import Contributions
from clip_lens_plugin.statistics.means import rest_of


def part_names(n_layers: int) -> tuple[str, ...]:
    """The c = 2 l + 2 parts in the order of the model: "embed", "L0 attn", "L0 mlp", ..., "rest"."""
    return ("embed", *(f"L{layer} {part}" for layer in range(n_layers) for part in ("attn", "mlp")), "rest")


def layer_parts(c: Contributions, heads: Float[Tensor, "b l h e"]) -> Float[Tensor, "b c e"]:
    """The parts of each image or text.

    Args:
        c: contributions.
        heads: ``c.heads``, which take long to make.
    """
    return joined_parts(c.embed, heads.sum(-2), c.attn_bias, c.mlps, rest_of(c))


def joined_parts(
    embed: Float[Tensor, "*b e"],
    heads: Float[Tensor, "*b l e"],
    attn_bias: Float[Tensor, "*b l e"],
    mlps: Float[Tensor, "*b l e"],
    rest: Float[Tensor, "*b e"],
) -> Float[Tensor, "*b c e"]:
    """The parts from their pieces; a layer's attention is its heads and its bias."""
    layers = torch.stack([heads + attn_bias, mlps], dim=-2).flatten(-3, -2)
    return torch.cat([embed.unsqueeze(-2), layers, rest.unsqueeze(-2)], dim=-2)
