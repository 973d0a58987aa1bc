"""References into the source model. They hold modules, not tensors, so nothing is copied and ``.to`` is followed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Weight:
    """A parameter, or a part of one, read from ``module.<name>`` at each use.

    Args:
        at: index of the part; the whole parameter if not given.
    """

    module: nn.Module
    name: str
    at: tuple[int, ...] = ()

    @property
    def is_there(self) -> bool:
        """Whether the module still has it."""
        return getattr(self.module, self.name) is not None

    def __call__(self) -> Float[Tensor, "..."]:
        """The parameter as it is now."""
        whole = getattr(self.module, self.name)
        return whole[self.at] if self.at else whole


@dataclass(frozen=True)
class Affine:
    """``y = x Wᵀ + b`` with W [out, in] and b [out] read from ``module`` at each use.

    Args:
        weight_part, bias_part: (i, n) for the i-th of n equal parts of a packed parameter.
    """

    module: nn.Module
    weight_name: str = "weight"
    bias_name: str = "bias"
    weight_part: tuple[int, int] = (0, 1)
    bias_part: tuple[int, int] = (0, 1)

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        return _part(getattr(self.module, self.weight_name), self.weight_part)

    @property
    def bias(self) -> Float[Tensor, " out"] | None:
        bias = getattr(self.module, self.bias_name)
        return None if bias is None else _part(bias, self.bias_part)

    def bias_or_zeros(self) -> Float[Tensor, " out"]:
        """The bias, or zeros where the source has none."""
        bias, weight = self.bias, self.weight
        return weight.new_zeros(weight.shape[0]) if bias is None else bias

    def __call__(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        return nn.functional.linear(x, self.weight, self.bias)


def _part(packed: Float[Tensor, "all *rest"], part: tuple[int, int]) -> Float[Tensor, "out *rest"]:
    i, n = part
    size = len(packed) // n
    return packed[i * size : (i + 1) * size] if n > 1 else packed


@dataclass(frozen=True)
class Scale:
    """LayerScale: one factor for each channel, read from ``module.<name>``; no factor where ``module`` is None."""

    module: nn.Module | None = None
    name: str = "gamma"

    def __call__(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """``x`` times the factor; weights and biases that write to the stream are folded the same way."""
        return x if self.module is None else x * getattr(self.module, self.name)


@dataclass(frozen=True)
class Norm:
    """A source LayerNorm; its module runs the fused form."""

    module: nn.LayerNorm

    def __call__(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        return self.module(x)

    def fused_and_scale(
        self, x: Float[Tensor, "*batch d"]
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch 1"]]:
        """The whole norm as one kernel computes it, and σ in float32 or better; without gradients."""
        weight, bias = self.module.weight, self.module.bias
        if x.dtype != weight.dtype or torch.finfo(x.dtype).bits < 32:
            return self(x), self.normalized_and_scale(x)[1]
        whole, _, inverse = torch.native_layer_norm(x, x.shape[-1:], weight, bias, self.module.eps)
        return whole, inverse.reciprocal()

    def normalized_and_scale(
        self, x: Float[Tensor, "*batch d"]
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch 1"]]:
        """(x − mean) / σ, and σ = √(variance + ε), in float32 or better as the fused form has them."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        if wide.requires_grad:  # the fused kernel's σ has no gradient
            centred = wide - wide.mean(-1, keepdim=True)
            scale = (centred.square().mean(-1, keepdim=True) + self.module.eps).sqrt()
            return centred / scale, scale
        normalized, _, inverse = torch.native_layer_norm(wide, wide.shape[-1:], None, None, self.module.eps)
        return normalized, inverse.reciprocal()

    def apply_affine(self, normalized: Float[Tensor, "*batch d"], dtype: torch.dtype) -> Float[Tensor, "*batch d"]:
        """``normalized`` ⊙ γ + β, cast to ``dtype``."""
        weight, bias = self.module.weight.to(normalized.dtype), self.module.bias.to(normalized.dtype)
        return torch.addcmul(bias, normalized, weight).to(dtype)
