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

    Attributes:
        name: as shown in the config.
        rows: the token positions q where ω may differ from zero. Only they are kept for a decomposition.
    """

    @property
    def name(self) -> str: ...
    @property
    def rows(self) -> slice: ...

    def __call__(self, stream: Float[Tensor, "b n d"], ln_final: LayerNorm) -> Float[Tensor, "b d"]:
        """The pooled and normalised stream, before the projection P."""
        ...

    def pool_normalized(self, normalized: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        """The same from ``ln_final``'s output, for a cache that holds it."""
        ...

    def omega(self, scale: Float[Tensor, "b r 1"]) -> Float[Tensor, "b r"]:
        """ω at ``rows``, from ``ln_final.hook_scale`` at ``rows``."""
        ...


@dataclass(frozen=True)
class ClassTokenPooling:
    """LayerNorm, then the class token: ω is 1/σ there and zero elsewhere."""

    name: str = "class_token"

    @property
    def rows(self) -> slice:
        return slice(0, 1)

    def __call__(self, stream: Float[Tensor, "b n d"], ln_final: LayerNorm) -> Float[Tensor, "b d"]:
        return self.pool_normalized(ln_final(stream))

    def pool_normalized(self, normalized: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        return normalized[:, 0]

    def omega(self, scale: Float[Tensor, "b r 1"]) -> Float[Tensor, "b r"]:
        return scale.squeeze(-1).reciprocal()
