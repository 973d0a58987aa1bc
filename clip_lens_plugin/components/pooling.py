"""How the last stream becomes one embedding: with LayerNorm's statistics frozen, a linear map (see ``omega``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.components.layer_norm import LayerNorm


@runtime_checkable
class Pooling(Protocol):
    """``M(I) = Σ_q ω[b,q] (C Z[b,q] ⊙ γ) P + βP``, with C the removal of a vector's own mean.

    The q are rows: token positions, or means of them where the pooling takes the mean before anything else.

    Attributes:
        name: as shown in the config.
        positions: the token positions that the pooling reads. Only they are kept for a decomposition.
        reads_class_token_alone: whether token 0, the class token, is all it reads.
    """

    @property
    def name(self) -> str: ...
    @property
    def positions(self) -> slice: ...
    @property
    def reads_class_token_alone(self) -> bool: ...

    def __call__(self, stream: Float[Tensor, "b n d"], ln_final: LayerNorm) -> Float[Tensor, "b d"]:
        """The pooled and normalised stream, before the projection P."""
        ...

    def pool_normalized(self, normalized: Float[Tensor, "b m d"]) -> Float[Tensor, "b d"]:
        """The same from ``ln_final``'s output, for a cache that holds it."""
        ...

    def rows(self, x: Tensor, dim: int = 1) -> Tensor:
        """The rows of what lies at :attr:`positions` along ``dim``: that itself, or its mean."""
        ...

    def n_rows(self, n_ctx: int) -> int:
        """How many rows there are of ``n_ctx`` tokens."""
        ...

    def scale(self, scale: Float[Tensor, "b m 1"]) -> Float[Tensor, "b r 1"]:
        """``ln_final.hook_scale`` of the rows."""
        ...

    def omega(self, scale: Float[Tensor, "b r 1"]) -> Float[Tensor, "b r"]:
        """ω of each row, from :meth:`scale`."""
        ...


@dataclass(frozen=True)
class ClassTokenPooling:
    """LayerNorm, then the class token: ω is 1/σ there and zero elsewhere."""

    name: str = "class_token"
    reads_class_token_alone: bool = True

    @property
    def positions(self) -> slice:
        return slice(0, 1)

    def __call__(self, stream: Float[Tensor, "b n d"], ln_final: LayerNorm) -> Float[Tensor, "b d"]:
        return self.pool_normalized(ln_final(stream))

    def pool_normalized(self, normalized: Float[Tensor, "b m d"]) -> Float[Tensor, "b d"]:
        return normalized[:, 0]

    def rows(self, x: Tensor, dim: int = 1) -> Tensor:
        return x

    def n_rows(self, n_ctx: int) -> int:
        return 1

    def scale(self, scale: Float[Tensor, "b m 1"]) -> Float[Tensor, "b r 1"]:
        return scale[:, :1]

    def omega(self, scale: Float[Tensor, "b r 1"]) -> Float[Tensor, "b r"]:
        return scale.squeeze(-1).reciprocal()


@dataclass(frozen=True)
class NormThenMean:
    """LayerNorm, then the mean over the patches: ω[q] is 1 / (n σ_q).

    Args:
        first: position of the first patch.
    """

    first: int = 1
    name: str = "norm_then_mean"
    reads_class_token_alone: bool = False

    @property
    def positions(self) -> slice:
        return slice(self.first, None)

    def __call__(self, stream: Float[Tensor, "b n d"], ln_final: LayerNorm) -> Float[Tensor, "b d"]:
        return self.pool_normalized(ln_final(stream))

    def pool_normalized(self, normalized: Float[Tensor, "b m d"]) -> Float[Tensor, "b d"]:
        return normalized[:, self.positions].mean(1)

    def rows(self, x: Tensor, dim: int = 1) -> Tensor:
        return x

    def n_rows(self, n_ctx: int) -> int:
        return n_ctx - self.first

    def scale(self, scale: Float[Tensor, "b m 1"]) -> Float[Tensor, "b r 1"]:
        return scale[:, self.positions]

    def omega(self, scale: Float[Tensor, "b r 1"]) -> Float[Tensor, "b r"]:
        return scale.squeeze(-1).reciprocal() / scale.shape[1]


@dataclass(frozen=True)
class MeanThenNorm:
    """The mean over the patches, then LayerNorm, as in CLIPA: one row, whose ω is 1/σ.

    ``ln_final``'s hook points see the mean: ``hook_scale`` [b, 1, 1] and ``hook_normalized`` [b, 1, d].

    Args:
        first: position of the first patch.
    """

    first: int = 1
    name: str = "mean_then_norm"
    reads_class_token_alone: bool = False

    @property
    def positions(self) -> slice:
        return slice(self.first, None)

    def __call__(self, stream: Float[Tensor, "b n d"], ln_final: LayerNorm) -> Float[Tensor, "b d"]:
        return self.pool_normalized(ln_final(self.rows(stream[:, self.positions])))

    def pool_normalized(self, normalized: Float[Tensor, "b m d"]) -> Float[Tensor, "b d"]:
        return normalized[:, 0]

    def rows(self, x: Tensor, dim: int = 1) -> Tensor:
        return x.mean(dim, keepdim=True)

    def n_rows(self, n_ctx: int) -> int:
        return 1

    def scale(self, scale: Float[Tensor, "b m 1"]) -> Float[Tensor, "b r 1"]:
        return scale

    def omega(self, scale: Float[Tensor, "b r 1"]) -> Float[Tensor, "b r"]:
        return scale.squeeze(-1).reciprocal()
