"""How the heads of a layer read the stream, and what becomes of it: their weights, folded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.decomposition.equations import value_constant, value_fold
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.numerics.precision import full_precision


@dataclass(frozen=True)
class HeadMaps:
    """The maps of the heads g of one layer, in the readout's dtype.

    Attributes:
        values: C diag(γ) W_V, or W_V where the block has no first norm [g, d, k].
        constant: β W_V + b_V [g, k].
        joint: M_{l,g}, by the heads p of an attention pool [g, p, k, e].
    """

    values: Float[Tensor, "g d k"]
    constant: Float[Tensor, "g k"]
    joint: Float[Tensor, "g p k e"]

    @classmethod
    @full_precision()
    def of(cls, readout: Readout, layer: int, heads: range | None = None) -> HeadMaps:
        """The maps of some heads of a layer; of all, if none are given.

        Raises:
            ValueError: if weights were changed since the readout was made.
        """
        readout.refuse_changed_weights(later=True)
        block, dtype = readout.model.blocks[layer], readout.P.dtype
        chosen = range(readout.n_heads) if heads is None else heads
        at = slice(chosen.start, chosen.stop)
        norm = block.first_norm
        with torch.no_grad():
            gamma, beta = (None, None) if norm is None else (norm.w.detach().to(dtype), norm.b.detach().to(dtype))
            W_V, b_V = block.attn.W_V[at].detach().to(dtype), block.attn.b_V[at].detach().to(dtype)
            maps = torch.stack([readout.head_map(layer, head) for head in chosen])
        by_pool_head = maps.unflatten(1, (readout.pooling.n_heads, -1))
        return cls(value_fold(gamma, W_V), value_constant(beta, W_V, b_V), by_pool_head)
