"""From the normalised stream to what attention compares and sends: queries, keys and values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.layers.weight_refs import Affine

Prepare = Callable[[Tensor], Tensor]
"""Queries or keys [b, n, h, k], made ready for their product: normalised, or turned by rotary positions."""


@runtime_checkable
class QKV(Protocol):
    """Projections to queries (0), keys (1) and values (2)."""

    def __call__(self, x: Float[Tensor, "b n d"], n_heads: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each [b, n, h, k]."""
        ...

    def part(self, number: int) -> tuple[Float[Tensor, "hk d"], Float[Tensor, " hk"]]:
        """Weight and bias of one of the three; zeros where the source has no bias."""
        ...


@dataclass(frozen=True)
class PackedQKV:
    """One product for all three.

    Args:
        affine: [3 h k, d], the queries' rows first, then the keys', then the values'.
    """

    affine: Affine

    def __call__(self, x: Float[Tensor, "b n d"], n_heads: int) -> tuple[Tensor, Tensor, Tensor]:
        packed = self.affine(x).unflatten(-1, (3, n_heads, -1))
        # Slices, not unbind or chunk: a hook may edit a slice in place while gradients are on.
        return packed[:, :, 0], packed[:, :, 1], packed[:, :, 2]

    def part(self, number: int) -> tuple[Float[Tensor, "hk d"], Float[Tensor, " hk"]]:
        return self.affine.weight.unflatten(0, (3, -1))[number], self.affine.bias_or_zeros().unflatten(0, (3, -1))[
            number
        ]


@dataclass(frozen=True)
class SplitQKV:
    """A product for each."""

    q: Affine
    key: Affine
    value: Affine

    def __call__(self, x: Float[Tensor, "b n d"], n_heads: int) -> tuple[Tensor, Tensor, Tensor]:
        heads = (n_heads, -1)
        return self.q(x).unflatten(-1, heads), self.key(x).unflatten(-1, heads), self.value(x).unflatten(-1, heads)

    def part(self, number: int) -> tuple[Float[Tensor, "hk d"], Float[Tensor, " hk"]]:
        affine = (self.q, self.key, self.value)[number]
        return affine.weight, affine.bias_or_zeros()


def by_head(qkv: QKV, number: int, x: Float[Tensor, "b n h d"]) -> Float[Tensor, "b n h k"]:
    """Queries (0), keys (1) or values (2) of what each head reads by itself."""
    weight, bias = (each.unflatten(0, (x.shape[2], -1)) for each in qkv.part(number))
    return torch.einsum("bnhd,hkd->bnhk", x, weight) + bias


@dataclass(frozen=True)
class BiasInParts(Affine):
    """A packed projection whose bias is kept in parts, as EVA's, which has none for the keys."""

    bias_names: tuple[str, ...] = ("q_bias", "k_bias", "v_bias")

    @property
    def bias(self) -> Float[Tensor, " out"] | None:
        parts = [getattr(self.module, name) for name in self.bias_names]
        return None if parts[0] is None else torch.cat(parts)


@dataclass(frozen=True)
class Rotary:
    """Rotary positions: each pair of a query's or key's numbers is turned by an angle that its position gives.

    Source: Su et al., "RoFormer", 2021; over two axes as in Fang et al., "EVA-02", 2023.

    Args:
        angles: sines, then cosines, of each patch's angles [n, 2 k], read at each use.
        n_prefix_tokens: tokens before the patches; they are not turned.
        halves: pairs are (i, i + k / 2) instead of (2 i, 2 i + 1).
        first: made ready before, by a norm; None for nothing.
    """

    angles: Callable[[], Tensor]
    n_prefix_tokens: int
    halves: bool = False
    first: Prepare | None = None

    def __call__(self, x: Float[Tensor, "b n h k"]) -> Float[Tensor, "b n h k"]:
        x = x if self.first is None else self.first(x)
        sine, cosine = self.angles().chunk(2, -1)
        patches = x[:, self.n_prefix_tokens :]
        turned = patches * cosine[:, None] + self._quarter(patches) * sine[:, None]
        return torch.cat([x[:, : self.n_prefix_tokens], turned.to(x.dtype)], dim=1)

    def _quarter(self, x: Float[Tensor, "b n h k"]) -> Float[Tensor, "b n h k"]:
        """Each pair (x, y) as (−y, x)."""
        if self.halves:
            x, y = x.chunk(2, -1)
            return torch.cat([-y, x], -1)
        return torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
