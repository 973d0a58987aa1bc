"""How the last stream becomes one vector, which with frozen statistics is a linear map (see ``omega``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.layers.layer_norm import LayerNorm

Own = TypeVar("Own", bound="LinearPooling")
SCALE, NORMALIZED = "ln_final.hook_scale", "ln_final.hook_normalized"


@runtime_checkable
class Pooling(Protocol):
    """``M(I) = Σ_p Σ_q ω[b,p,q] (C Z[b,q] ⊙ γ) maps[p] + constants``, with C the removal of a vector's own mean.

    The q are rows: token positions, or means of them where the pooling takes the mean before anything else. There is
    one p, and its map is the projection P, except where attention pools: then p is its heads.

    Attributes:
        name: as shown in the config.
        positions: the token positions that the pooling reads. Only they are kept for a decomposition.
        n_heads: how many p there are.
        reads_class_token_alone: whether token 0, the class token, is all it reads.
        reads: the hook points that ω and the constants are made from.
        parts: names of the components that it adds by itself; how they are shown is declared in
            :mod:`clip_lens_plugin.decomposition.parts.extras`.
        output: the hook point that :meth:`pooled` is made from.
    """

    @property
    def name(self) -> str: ...
    @property
    def positions(self) -> slice: ...
    @property
    def n_heads(self) -> int: ...
    @property
    def reads_class_token_alone(self) -> bool: ...
    @property
    def reads(self) -> tuple[str, ...]: ...
    @property
    def parts(self) -> tuple[str, ...]: ...
    @property
    def output(self) -> str: ...

    def __call__(self, stream: Float[Tensor, "b n d"], ln_final: LayerNorm) -> Float[Tensor, "b d_pool"]:
        """The pooled stream, before the projection P."""
        ...

    def after_norm(self, normalized: Float[Tensor, "b m d"]) -> Float[Tensor, "b d_pool"]:
        """The same from what ``ln_final`` makes of the stream; of its mean, where that is normalised."""
        ...

    def of_each(self, stream: Float[Tensor, "b n d"], ln_final: LayerNorm) -> Float[Tensor, "b n d_pool"]:
        """What the pooling makes of each token by itself, as if it read no other one."""
        ...

    def pooled(self, output: Tensor, ln_final: LayerNorm, dtype: torch.dtype) -> Float[Tensor, "b d_pool"]:
        """The same as the pooled stream, in ``dtype``, from the activation at :attr:`output`."""
        ...

    def bound(self, read: Mapping[str, Tensor]) -> Pooling:
        """That of one run, from activations at :attr:`reads`: itself, where it reads the same of all inputs."""
        ...

    def rows(self, x: Tensor, dim: int = 1) -> Tensor:
        """The rows of what lies at :attr:`positions` along ``dim``: that itself, or its mean."""
        ...

    def n_rows(self, n_ctx: int) -> int:
        """How many rows there are of ``n_ctx`` tokens."""
        ...

    def kept(self, name: str, activation: Tensor) -> Tensor:
        """What is needed of the activation at ``name``, one of :attr:`reads`."""
        ...

    def omega(self, read: Mapping[str, Tensor]) -> Float[Tensor, "b p r"]:
        """ω of each row, from :meth:`kept` of each of :attr:`reads`."""
        ...

    def narrow_maps(self, P: Float[Tensor, "d_pool e"]) -> tuple[Float[Tensor, "p d k"], Float[Tensor, "p k e"]] | None:
        """The maps from the normalised stream to the joint space, as two factors; None where there is one map, P."""
        ...

    def bias_weights(self, read: Mapping[str, Tensor]) -> Float[Tensor, "b w"] | None:
        """How much of each of :meth:`bias_directions` an image has; None without attention."""
        ...

    def bias_directions(self, beta: Float[Tensor, " d"], P: Float[Tensor, "d_pool e"]) -> Float[Tensor, "w e"]:
        """What the pooling's own constants and ``ln_final``'s β add through attention, a unit of each."""
        ...

    def own_parts(
        self, read: Mapping[str, Tensor], beta: Float[Tensor, " d"], P: Float[Tensor, "d_pool e"]
    ) -> dict[str, Float[Tensor, "b e"]]:
        """What each of :attr:`parts` adds."""
        ...

    def constant(self, beta: Float[Tensor, " d"], P: Float[Tensor, "d_pool e"]) -> Float[Tensor, " e"]:
        """What the last LayerNorm's β adds, the same for all images."""
        ...


class LinearPooling(ABC):
    """What the poolings without attention share: one map, and no constant but βP."""

    n_heads = 1
    reads = (SCALE,)
    parts = ()
    output = NORMALIZED

    def __call__(self, stream: Float[Tensor, "b n d"], ln_final: LayerNorm) -> Float[Tensor, "b d"]:
        return self.after_norm(ln_final(stream))

    def of_each(self, stream: Float[Tensor, "b n d"], ln_final: LayerNorm) -> Float[Tensor, "b n d"]:
        return ln_final(stream)

    def bound(self: Own, read: Mapping[str, Tensor]) -> Own:
        return self

    def narrow_maps(self, P: Float[Tensor, "d e"]) -> tuple[Float[Tensor, "p d k"], Float[Tensor, "p k e"]] | None:
        return None

    def bias_weights(self, read: Mapping[str, Tensor]) -> Float[Tensor, "b w"] | None:
        return None

    def bias_directions(self, beta: Float[Tensor, " d"], P: Float[Tensor, "d e"]) -> Float[Tensor, "w e"]:
        return P[:0]

    def own_parts(
        self, read: Mapping[str, Tensor], beta: Float[Tensor, " d"], P: Float[Tensor, "d e"]
    ) -> dict[str, Float[Tensor, "b e"]]:
        return {}

    def constant(self, beta: Float[Tensor, " d"], P: Float[Tensor, "d e"]) -> Float[Tensor, " e"]:
        return beta @ P

    def pooled(self, output: Float[Tensor, "b m d"], ln_final: LayerNorm, dtype: torch.dtype) -> Float[Tensor, "b d"]:
        return self.after_norm(ln_final.norm.apply_affine(output, dtype))

    @abstractmethod
    def after_norm(self, normalized: Float[Tensor, "b m d"]) -> Float[Tensor, "b d"]: ...


@dataclass(frozen=True)
class ClassTokenPooling(LinearPooling):
    """LayerNorm, then the class token: ω is 1/σ there and zero elsewhere."""

    name: str = "class_token"
    reads_class_token_alone: bool = True

    @property
    def positions(self) -> slice:
        return slice(0, 1)

    def after_norm(self, normalized: Float[Tensor, "b m d"]) -> Float[Tensor, "b d"]:
        return normalized[:, 0]

    def rows(self, x: Tensor, dim: int = 1) -> Tensor:
        return x

    def n_rows(self, n_ctx: int) -> int:
        return 1

    def kept(self, name: str, activation: Float[Tensor, "b n 1"]) -> Float[Tensor, "b 1 1"]:
        return activation[:, :1]

    def omega(self, read: Mapping[str, Tensor]) -> Float[Tensor, "b 1 1"]:
        return read[SCALE].reciprocal()


@dataclass(frozen=True)
class NormThenMean(LinearPooling):
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

    def after_norm(self, normalized: Float[Tensor, "b m d"]) -> Float[Tensor, "b d"]:
        return normalized[:, self.positions].mean(1)

    def rows(self, x: Tensor, dim: int = 1) -> Tensor:
        return x

    def n_rows(self, n_ctx: int) -> int:
        return n_ctx - self.first

    def kept(self, name: str, activation: Float[Tensor, "b n 1"]) -> Float[Tensor, "b r 1"]:
        return activation[:, self.positions]

    def omega(self, read: Mapping[str, Tensor]) -> Float[Tensor, "b 1 r"]:
        scale = read[SCALE].transpose(1, 2)
        return scale.reciprocal() / scale.shape[-1]


@dataclass(frozen=True)
class MeanThenNorm(LinearPooling):
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
        return self.after_norm(ln_final(self.rows(stream[:, self.positions])))

    def after_norm(self, normalized: Float[Tensor, "b m d"]) -> Float[Tensor, "b d"]:
        return normalized[:, 0]

    def rows(self, x: Tensor, dim: int = 1) -> Tensor:
        return x.mean(dim, keepdim=True)

    def n_rows(self, n_ctx: int) -> int:
        return 1

    def kept(self, name: str, activation: Float[Tensor, "b 1 1"]) -> Float[Tensor, "b 1 1"]:
        return activation

    def omega(self, read: Mapping[str, Tensor]) -> Float[Tensor, "b 1 1"]:
        return read[SCALE].reciprocal()
