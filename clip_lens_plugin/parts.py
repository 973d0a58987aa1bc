"""The parts of an embedding, pooled with ω: all that their sum needs, and all that a store keeps of an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.factors import Factors
from clip_lens_plugin.noise import computed_noise
from clip_lens_plugin.readout import Readout


@dataclass(frozen=True)
class Shares:
    """What the parts become if the constants are shared out over heads and MLPs, in units of the embedding.

    A part that keeps its own mean has as much more as that mean times :attr:`Readout.mean_directions`.

    Attributes:
        weights: of each head, see :func:`~clip_lens_plugin.parts.share_weights` [b, l, s].
        mlp_means, embed_mean, self_attention_means: Σ_q ω times the mean over the width of each MLP's output [b, l, p],
            of the stream that enters block 0 [b, p], and of what the class token sends to itself [b, l, p].
    """

    weights: Float[Tensor, "b l s"]
    mlp_means: Float[Tensor, "b l p"]
    embed_mean: Float[Tensor, "b p"]
    self_attention_means: Float[Tensor, "b l p"] | None


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
        noise: relative size of what rounding leaves of them.
        shares: what is needed to share the constants out; None if it was not kept.
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
    noise: float
    shares: Shares | None = None

    @classmethod
    def of(cls, readout: Readout, factors: Factors) -> Parts:
        """Pools and folds the factors."""
        pooling, dtype = readout.pooling, readout.P.dtype
        read = {name: value.to(dtype) for name, value in factors.read.items()}
        omega, bias_weights = pooling.omega(read), pooling.bias_weights(read)
        pool, to_joint = partial(readout.pool, omega), partial(readout.to_joint, constants="separate")

        def means(pooled: Float[Tensor, "*batch pd"]) -> Float[Tensor, "*batch p"]:
            return pooled.unflatten(-1, (pooling.n_heads, -1)).mean(-1)

        mlps = torch.stack([pool(out) for out in factors.mlp_out], dim=1)
        embed = pool(factors.embed)
        messages = [
            readout.to_stream(pool(message), layer).sum(1) for layer, message in enumerate(factors.self_message)
        ]
        sent = torch.stack(messages, dim=1) if messages else None
        directions = None if bias_weights is None else pooling.bias_directions(readout.beta, readout.P)
        return cls(
            embedding=factors.embedding.to(dtype),
            omega=omega,
            coordinates=torch.stack([pool(z) for z in factors.z], dim=1),
            mlps=to_joint(mlps),
            embed=to_joint(embed),
            self_attention=None if sent is None else to_joint(sent),
            pool_bias=None if bias_weights is None or directions is None else bias_weights @ directions,
            pool_mlp=pooling.mlp_part(read, readout.P),
            bias_weight=_pooled_bias_weight(readout, omega, factors),
            rounding=factors.z[0].dtype,
            noise=computed_noise(factors.z[0].dtype),
            shares=Shares(
                weights=share_weights(readout, read, omega, factors),
                mlp_means=means(mlps),
                embed_mean=means(embed),
                self_attention_means=None if sent is None else means(sent),
            ),
        )

    def select(self, rows: Int[Tensor, " s"]) -> Parts:
        """The parts of some of the images."""
        shares = None if self.shares is None else _rows_of(self.shares, rows)
        return replace(_rows_of(self, rows), shares=shares)


def share_weights(
    readout: Readout, read: Mapping[str, Tensor], omega: Float[Tensor, "b p r"], factors: Factors
) -> Float[Tensor, "b l s"]:
    """How much of each of :attr:`Readout.share_directions` an image's heads have, in units of the embedding.

    Per pooling head p the mean of the pooled last stream; 1; the weights of an attention pool's biases; per p Σ_q ω,
    and that over the scale of a norm after W_O where there is one. Without an attention pool that is three numbers, or
    four with such a norm.

    Args:
        read: ``factors.read`` in the readout's dtype.
        omega: made from it.
    """
    mean = torch.einsum("bpr,br->bp", omega, factors.final.to(omega.dtype).mean(-1))
    weights = [mean, omega.new_ones(len(omega), 1), readout.pooling.bias_weights(read), omega.sum(2)]
    per_image = torch.cat([each for each in weights if each is not None], dim=1)
    by_layer = per_image[:, None].expand(-1, len(readout.W_O), -1)
    scaled = _pooled_bias_weight(readout, omega, factors)
    return by_layer if scaled is None else torch.cat([by_layer, scaled], dim=2)


def _pooled_bias_weight(
    readout: Readout, omega: Float[Tensor, "b p r"], factors: Factors
) -> Float[Tensor, "b l p"] | None:
    pooled = [readout.pool(omega, each) for each in factors.bias_weight]
    return torch.stack(pooled, dim=1) if pooled else None


T = TypeVar("T", Parts, Shares)


def _rows_of(held: T, rows: Int[Tensor, " s"]) -> T:
    named = {each.name: getattr(held, each.name) for each in fields(held)}
    return replace(held, **{n: value[rows.to(value.device)] for n, value in named.items() if isinstance(value, Tensor)})
