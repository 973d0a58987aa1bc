"""From what the heads put out to what attention writes to the stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

from clip_lens_plugin.layers.weight_refs import Affine, Norm, Scale


def results(z: Float[Tensor, "b n h k"], W_O: Float[Tensor, "h k d"]) -> Float[Tensor, "b n h d"]:
    """``z[h] W_O[h]``: each head's output, ``hook_result``, laid out head by head in memory."""
    by_head = z.permute(2, 0, 1, 3).flatten(1, 2) @ W_O
    return by_head.unflatten(1, z.shape[:2]).permute(1, 2, 0, 3)


@dataclass(frozen=True)
class AttentionOutput:
    """``Σ_h z_h W_O[h] + b_O``, in one map all that is linear once the norms' scales are frozen.

    Two norms may stand in it: ``inner`` over the heads' outputs together (EVA-02), ``outer`` over the sum (post-norm
    blocks). With their scales s divided out of z, and of a part of the bias, what is left is linear in z; each
    head then goes without its share of the mean, as everywhere in the decomposition.

    Args:
        linear: [d, h k].
        n_heads: h.
        layer_scale: one factor for each channel of the stream.
        head_scale: gives one factor for each head [h]; None for none.
        inner, outer: the norms; None for none.
    """

    linear: Affine
    n_heads: int
    layer_scale: Scale = field(default_factory=Scale)
    head_scale: Callable[[], Tensor] | None = None
    inner: Norm | None = None
    outer: Norm | None = None

    @property
    def has_scale(self) -> bool:
        """Whether a norm's scale is divided out of z."""
        return self.inner is not None or self.outer is not None

    def __call__(self, z: Float[Tensor, "b n h k"]) -> Float[Tensor, "b n d"]:
        """As the source computes it, from z with no scale divided out."""
        joined = self._scaled_heads(z)
        out = self.linear(joined if self.inner is None else self.inner(joined))
        return self.layer_scale(out if self.outer is None else self.outer(out))

    def scales(self, z: Float[Tensor, "b n h k"]) -> tuple[Float[Tensor, "b n 1"], Float[Tensor, "b n 1"] | None]:
        """What is divided out of z, and of :attr:`b_scaled`; the second None without an outer norm."""
        joined = self._scaled_heads(z)
        inner = None
        if self.inner is not None:
            normalized, inner = self.inner.normalized_and_scale(joined)
            joined = self.inner.apply_affine(normalized, joined.dtype)
        if self.outer is None:
            assert inner is not None
            return inner, None
        outer = self.outer.normalized_and_scale(self.linear(joined))[1]
        return outer if inner is None else inner * outer, outer

    @property
    def W_O(self) -> Float[Tensor, "h k d"]:
        """From z, its scale divided out, to the stream."""
        weight = self.layer_scale(self._after(self._weight())).unflatten(0, (self.n_heads, -1))
        return weight if self.head_scale is None else weight * self._head_factors()

    @property
    def b_O(self) -> Float[Tensor, " d"]:
        """The bias, as far as no scale is divided out of it."""
        return self.layer_scale(self._bias() if self.outer is None else self.outer.module.bias)

    @property
    def b_scaled(self) -> Float[Tensor, " d"] | None:
        """The part of the bias that the outer norm's scale divides; None without one."""
        return None if self.outer is None else self.layer_scale(self._after(self._bias()))

    def _scaled_heads(self, z: Float[Tensor, "b n h k"]) -> Float[Tensor, "b n hk"]:
        return (z if self.head_scale is None else z * self._head_factors()[:, 0]).flatten(2)

    def _head_factors(self) -> Float[Tensor, "h 1 1"]:
        assert self.head_scale is not None
        return self.head_scale().reshape(-1, 1, 1)

    def _weight(self) -> Float[Tensor, "hk d"]:
        weight = self.linear.weight.T
        if self.inner is None:
            return weight
        weight = self.inner.module.weight.to(weight)[:, None] * weight
        return weight - weight.mean(0)

    def _bias(self) -> Float[Tensor, " d"]:
        bias = self.linear.bias_or_zeros()
        return bias if self.inner is None else bias + self.linear.weight @ self.inner.module.bias.to(bias)

    def _after(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """The outer norm's removal of the mean and γ."""
        if self.outer is None:
            return x
        return (x - x.mean(-1, keepdim=True)) * self.outer.module.weight.to(x)


def plain(norm: nn.Module) -> bool:
    """Whether it does nothing."""
    return isinstance(norm, nn.Identity)


def optional_norm(norm: nn.Module) -> Norm | None:
    """The norm, None for the identity."""
    return None if plain(norm) else Norm(norm)  # type: ignore[arg-type]
