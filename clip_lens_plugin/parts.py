"""The parts of an embedding, pooled with ω: all that their sum needs, and all that a store keeps of an image."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.factors import Factors
from clip_lens_plugin.precision import full_precision, rounding
from clip_lens_plugin.readout import Constants, Readout


@dataclass(frozen=True)
class Parts:
    """Pooled parts of b images in units of the unnormalised embedding; float32, or float64 for a float64 model.

    Attributes:
        embedding: M(I) as the model gave it [b, e].
        omega: ω of each pooled position [b, p, r]; p counts an attention pool's heads, and is 1 for other poolings.
        coordinates: y = Σ_q ω z of each head, the p laid end to end [b, l, h, p · k].
        mlps: the contribution of each MLP [b, l, e].
        embed: the contribution of the stream that enters block 0 [b, e].
        self_attention: of each layer's heads together, the part that the class token sends to itself [b, l, e];
            None if it was not kept.
        pool_bias, pool_mlp: what an attention pool's constants and its MLP add [b, e]; None where it has none.
        bias_weight: Σ_q ω over the scale of a norm after W_O [b, l, p], which a part of the biases goes with; None
            without such norms.
        rounding: the coarsest dtype that the parts went through.
    """

    embedding: Float[Tensor, "b e"]
    omega: Float[Tensor, "b p r"]
    coordinates: Float[Tensor, "b l h pk"]
    mlps: Float[Tensor, "b l e"]
    embed: Float[Tensor, "b e"]
    self_attention: Float[Tensor, "b l e"] | None
    pool_bias: Float[Tensor, "b e"] | None
    pool_mlp: Float[Tensor, "b e"] | None
    bias_weight: Float[Tensor, "b l p"] | None
    rounding: torch.dtype

    @classmethod
    @full_precision()
    def of(cls, readout: Readout, factors: Factors, constants: Constants) -> Parts:
        """Pools and folds the factors; the means of the stream stay in if the constants are spread."""
        pooling, dtype = readout.pooling, readout.P.dtype
        read = {name: value.to(dtype) for name, value in factors.read.items()}
        omega = pooling.omega(read)
        pool, to_joint = partial(readout.pool, omega), partial(readout.to_joint, constants=constants)
        messages = [
            readout.to_stream(pool(message), layer).sum(1) for layer, message in enumerate(factors.self_message)
        ]
        return cls(
            embedding=factors.embedding.to(dtype),
            omega=omega,
            coordinates=torch.stack([pool(z) for z in factors.z], dim=1),
            mlps=to_joint(torch.stack([pool(out) for out in factors.mlp_out], dim=1)),
            embed=to_joint(pool(factors.embed)),
            self_attention=to_joint(torch.stack(messages, dim=1)) if messages else None,
            pool_bias=pooling.bias(read, readout.beta, readout.P),
            pool_mlp=pooling.mlp_part(read, readout.P),
            bias_weight=torch.stack([pool(each) for each in factors.bias_weight], dim=1)
            if factors.bias_weight
            else None,
            rounding=rounding(factors.z[0].dtype, factors.z[0].device),
        )

    def select(self, rows: Int[Tensor, " s"]) -> Parts:
        """The parts of some of the images."""

        tensors = {
            each.name: value[rows.to(value.device)]
            for each in fields(Parts)
            if isinstance(value := getattr(self, each.name), Tensor)
        }
        return replace(self, **tensors)
