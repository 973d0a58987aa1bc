"""The weights between the last stream and the joint space, folded once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.components.pooling import Pooling
from clip_lens_plugin.precision import full_precision
from clip_lens_plugin.unit_vectors import checked_unit_vectors

if TYPE_CHECKING:
    from clip_lens_plugin.hooked_clip import HookedCLIP

Constants = Literal["apart", "spread"]


@dataclass(frozen=True)
class Readout:
    """Folded weights in float32, or float64 for a float64 model.

    p counts the heads of an attention pool; it is 1 for every other pooling. A pooled stream has one part for each p,
    laid end to end: [p · d], as a head's coordinates are [p · k].

    Attributes:
        narrow: an attention pool's W_V [p, d, k_pool] and W_O[p] P [p, k_pool, e], whose product are its maps; None for
            other poolings, whose map is P.
        beta_P: βP [e] of the last LayerNorm, with the projection's own bias where it has one.
        P: the projection alone [d_pool, e].
        gamma, beta: of ``ln_final`` [d].
        W_O: [h, k, d] of each layer; views where the dtype allows.
        b_O: [l, d].
        b_scaled: [l, d], the part of each layer's bias that a norm after W_O divides; None without such norms.
        model_dtype: dtype of the model's weights.
        pooling: gives ω.
    """

    narrow: tuple[Float[Tensor, "p d k_pool"], Float[Tensor, "p k_pool e"]] | None
    beta_P: Float[Tensor, " e"]
    P: Float[Tensor, "d_pool e"]
    gamma: Float[Tensor, " d"]
    beta: Float[Tensor, " d"]
    W_O: tuple[Float[Tensor, "h k d"], ...]
    b_O: Float[Tensor, "l d"]
    b_scaled: Float[Tensor, "l d"] | None
    model_dtype: torch.dtype
    pooling: Pooling
    model: HookedCLIP

    @classmethod
    @full_precision()
    def of(cls, model: HookedCLIP) -> Readout:
        """Reads and folds the weights of ``model`` as they are now."""
        dtype = torch.promote_types(model.cfg.dtype, torch.float32)
        with torch.no_grad():
            projection, pooling = model.W_P.detach().to(dtype), model.pooling
            gamma, beta = model.ln_final.w.detach().to(dtype), model.ln_final.b.detach().to(dtype)
            constant = pooling.constant(beta, projection)
            return cls(
                narrow=pooling.narrow_maps(projection),
                beta_P=constant if model.b_P is None else constant + model.b_P.to(dtype),
                P=projection,
                gamma=gamma,
                beta=beta,
                W_O=tuple(block.attn.W_O.detach().to(dtype) for block in model.blocks),
                b_O=model.b_O.to(dtype),
                b_scaled=_scaled_biases(model, dtype),
                model_dtype=model.cfg.dtype,
                pooling=pooling,
                model=model,
            )

    @cached_property
    @full_precision()
    def W_P(self) -> Float[Tensor, "pd e"]:
        """C diag(γ) maps[p]: from a component's pooled stream to its contribution."""
        by_pool_head = self.by_pool_head(self.gamma_P)
        return (by_pool_head - by_pool_head.mean(1, keepdim=True)).flatten(0, 1)

    @property
    @full_precision()
    def gamma_P(self) -> Float[Tensor, "pd e"]:
        """diag(γ) maps[p], without the removal of the mean."""
        with torch.no_grad():
            maps = self.P[None] if self.narrow is None else self.narrow[0] @ self.narrow[1]
            return (self.gamma[:, None] * maps).flatten(0, 1)

    def W_fold(self, constants: Constants) -> Float[Tensor, "pd e"]:
        """The map of a component: with its own mean removed ("apart") or not ("spread")."""
        return self.W_P if constants == "apart" else self.gamma_P

    @full_precision()
    def to_joint(self, stream: Float[Tensor, "*batch pd"], constants: Constants) -> Float[Tensor, "*batch e"]:
        """``stream @ W_fold(constants)``: by way of an attention pool's narrow heads, where there is one."""
        if self.narrow is None:
            return stream @ self.W_fold(constants)
        values, written = self.narrow
        folded = self.gamma[:, None] * values
        if constants == "apart":
            folded = folded - folded.mean(1, keepdim=True)
        by_pool_head = stream.unflatten(-1, (self.pooling.n_heads, -1))
        return torch.einsum("...pd,pdk->...pk", by_pool_head, folded).flatten(-2) @ written.flatten(0, 1)

    def by_pool_head(self, joined: Float[Tensor, "pd e"]) -> Float[Tensor, "p d e"]:
        """The same with a part for each p."""
        return joined.unflatten(0, (self.pooling.n_heads, -1))

    @full_precision()
    def pool(self, omega: Float[Tensor, "b p r"], x: Float[Tensor, "b r *rest"]) -> Float[Tensor, "b *joined"]:
        """``Σ_q ω[b, p, q] x[b, q]``, the p laid end to end along the last axis."""
        return torch.einsum("bpr,br...d->b...pd", omega, x.to(omega.dtype)).flatten(-2)

    @full_precision()
    def to_stream(self, coordinates: Float[Tensor, "b h pk"], layer: int) -> Float[Tensor, "b h pd"]:
        """What the heads of a layer write to the pooled stream, from their coordinates."""
        by_pool_head = coordinates.unflatten(-1, (self.pooling.n_heads, -1))
        return torch.einsum("bhpk,hkd->bhpd", by_pool_head, self.W_O[layer]).flatten(-2)

    def W_out(self, layer: int) -> Float[Tensor, "d_mlp d"]:
        """Output weights of a layer's neurons.

        Raises:
            ValueError: if what the MLP writes is normalised after them.
        """
        if self.model.blocks[layer].mlp.normalises_output:
            raise ValueError(
                f"{self.model.cfg.model_name} normalises what its MLPs write, so a neuron's part depends on the "
                f"others. Ask for whole MLPs."
            )
        return self.model.blocks[layer].mlp.W_out.detach().to(self.P.dtype)

    @full_precision()
    def head_map(self, layer: int, head: int, constants: Constants = "apart") -> Float[Tensor, "pk e"]:
        """M_{l,h} = W_O[l,h] W_fold: from a head's coordinates to its contribution."""
        return (self.W_O[layer][head] @ self.by_pool_head(self.W_fold(constants))).flatten(0, 1)

    def checked_texts(self, text_embeddings: Float[Tensor, "t e"]) -> Float[Tensor, "t e"]:
        """The text embeddings in the readout's dtype and device.

        Raises:
            ValueError: if the width is not that of the joint space, or they are not finite unit vectors.
        """
        width = self.P.shape[1]
        if text_embeddings.ndim != 2 or text_embeddings.shape[1] != width:
            raise ValueError(
                f"Text embeddings must be [texts, {width}], got {list(text_embeddings.shape)}. Make them with "
                f"model.encode_text([...])."
            )
        return checked_unit_vectors(text_embeddings).to(self.P)

    @full_precision()
    def directions(self, texts: Float[Tensor, "t e"], constants: Constants = "apart") -> Float[Tensor, "l h pk t"]:
        """M_{l,h} e_t for every head and text."""
        stream = self.by_pool_head(self.W_fold(constants) @ texts.T)
        return torch.stack([(weight[:, None] @ stream).flatten(1, 2) for weight in self.W_O])

    @property
    def n_heads(self) -> int:
        """Heads a layer."""
        return len(self.W_O[0])

    @property
    def n_coordinates(self) -> int:
        """How many numbers say what a head adds: p · k."""
        return self.pooling.n_heads * self.W_O[0].shape[1]


def _scaled_biases(model: HookedCLIP, dtype: torch.dtype) -> Float[Tensor, "l d"] | None:
    biases = [block.attn.out.b_scaled for block in model.blocks]
    kept = [bias.detach().to(dtype) for bias in biases if bias is not None]
    return torch.stack(kept) if kept else None
