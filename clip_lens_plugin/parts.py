"""The parts of an embedding, pooled with ω: all that their sum needs, and all that a store keeps of an image."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.factors import Factors
from clip_lens_plugin.readout import Constants, Readout


@dataclass(frozen=True)
class Parts:
    """Pooled parts of b images in units of the unnormalised embedding; float32, or float64 for a float64 model.

    Attributes:
        embedding: M(I) as the model gave it [b, e].
        omega: ω of each pooled position [b, r].
        coordinates: y = Σ_q ω z of each head [b, l, h, k].
        mlps: the contribution of each MLP [b, l, e].
        embed: the contribution of the stream that enters block 0 [b, e].
        self_attention: of each layer's heads together, the part that the class token sends to itself [b, l, e];
            None if it was not kept.
        rounding: the coarsest dtype that the parts went through.
    """

    embedding: Float[Tensor, "b e"]
    omega: Float[Tensor, "b r"]
    coordinates: Float[Tensor, "b l h k"]
    mlps: Float[Tensor, "b l e"]
    embed: Float[Tensor, "b e"]
    self_attention: Float[Tensor, "b l e"] | None
    rounding: torch.dtype

    @classmethod
    def of(cls, readout: Readout, factors: Factors, constants: Constants) -> Parts:
        """Pools and folds the factors; the means of the stream stay in if the constants are spread."""
        fold = readout.W_fold(constants)
        omega = readout.pooling.omega(factors.scale.to(fold.dtype))

        def pool(x: Float[Tensor, "b r *rest"]) -> Float[Tensor, "b *rest"]:
            return torch.einsum("br,br...->b...", omega, x.to(omega.dtype))

        messages = [
            torch.einsum("bhk,hkd->bd", pool(message), weight)
            for message, weight in zip(factors.self_message, readout.W_O, strict=False)
        ]
        return cls(
            embedding=factors.embedding.to(fold.dtype),
            omega=omega,
            coordinates=torch.stack([pool(z) for z in factors.z], dim=1),
            mlps=torch.stack([pool(out) for out in factors.mlp_out], dim=1) @ fold,
            embed=pool(factors.embed) @ fold,
            self_attention=torch.stack(messages, dim=1) @ fold if messages else None,
            rounding=factors.z[0].dtype,
        )

    def select(self, rows: Int[Tensor, " s"]) -> Parts:
        """The parts of some of the images."""

        tensors = {
            each.name: value[rows.to(value.device)]
            for each in fields(Parts)
            if isinstance(value := getattr(self, each.name), Tensor)
        }
        return replace(self, **tensors)
