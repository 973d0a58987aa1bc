"""The weights between the last stream and the joint space, folded once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.constants import Constants
from clip_lens_plugin.layers.pooling.pooling import Pooling
from clip_lens_plugin.model.bridged import refuse_texts
from clip_lens_plugin.model.protocol import Tower
from clip_lens_plugin.numerics.precision import full_precision
from clip_lens_plugin.numerics.unit_vectors import checked_finite, checked_unit_vectors


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
    model: Tower

    def __post_init__(self) -> None:
        object.__setattr__(self, "_read_at", self._versions(later=True))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        object.__setattr__(self, "_read_at", self._versions(later=True))  # A copy's tensors begin anew.

    def _versions(self, later: bool = False) -> tuple[int, ...]:
        """How often torch has counted each weight as changed in place; with those that are read when asked for."""
        read = [*self.W_O, self.P, self.gamma, self.beta]
        if later:
            read += [each for block in self.model.blocks for each in (block.attn.W_V, block.mlp.out.weight)]
        return tuple(0 if each.is_inference() else each._version for each in read)

    def refuse_changed_weights(self, later: bool = False) -> None:
        """Raises ValueError if the model's weights, of which these are views, were changed since they were read.

        Args:
            later: also those of values and of neurons, which are not held but read when they are asked for.
        """
        versions = self._versions(later)
        if versions != self._read_at[: len(versions)]:  # type: ignore[attr-defined]
            raise ValueError(
                f"The weights of {self.model.cfg.model_name} were changed since these contributions were made, so they "
                f"would be of two models at once. Decompose the images again."
            )

    @property
    def image_model(self) -> Any:
        """The model, a ``HookedCLIP``, where images are needed.

        Raises:
            TypeError: if it is a text tower.
        """
        refuse_texts(self.model)
        return self.model

    @classmethod
    @full_precision()
    def of(cls, model: Tower) -> Readout:
        """The readout of ``model``, with its weights folded as they are now."""
        dtype = torch.promote_types(model.cfg.dtype, torch.float32)
        with torch.no_grad():
            projection, pooling = model.W_P.detach().to(dtype), model.pooling
            gamma, beta = model.ln_final.w.detach().to(dtype), model.ln_final.b.detach().to(dtype)
            constant = pooling.constant(beta, projection)
            narrow = pooling.narrow_maps(projection)
            return cls(
                narrow=None if narrow is None else (narrow[0].detach(), narrow[1].detach()),
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
        return equations.fold(self.gamma, self._maps()).flatten(0, 1)

    @property
    @full_precision()
    def gamma_P(self) -> Float[Tensor, "pd e"]:
        """diag(γ) maps[p], without the removal of the mean."""
        return equations.fold(self.gamma, self._maps(), centred=False).flatten(0, 1)

    def _maps(self) -> Float[Tensor, "p d e"]:
        return self.P[None] if self.narrow is None else self.narrow[0] @ self.narrow[1]

    def W_fold(self, constants: Constants) -> Float[Tensor, "pd e"]:
        """The map of a component: with its own mean removed ("separate") or not ("shared")."""
        return self.W_P if constants == "separate" else self.gamma_P

    @full_precision()
    def to_joint(self, stream: Float[Tensor, "*batch pd"], constants: Constants) -> Float[Tensor, "*batch e"]:
        """``stream @ W_fold(constants)``: by way of an attention pool's narrow heads, where there is one."""
        self.refuse_changed_weights()
        by_pool_head = stream.unflatten(-1, (self.pooling.n_heads, -1))
        if self.narrow is None:
            return equations.to_joint(by_pool_head, self.by_pool_head(self.W_fold(constants)))
        narrowed = equations.through_own(by_pool_head, self._narrow_fold(constants))
        return equations.to_joint(narrowed, self.narrow[1])

    @full_precision()
    def through_each(self, vectors: Float[Tensor, "*batch d"], constants: Constants) -> Float[Tensor, "*batch p e"]:
        """What a vector of the stream adds through each p, with weight 1."""
        if self.narrow is None:
            return equations.through_each(vectors, self.by_pool_head(self.W_fold(constants)))
        narrowed = equations.through_each(vectors, self._narrow_fold(constants))
        return equations.through_own(narrowed, self.narrow[1])

    @full_precision()
    def text_streams(self, texts: Float[Tensor, "t e"], constants: Constants) -> Float[Tensor, "p d t"]:
        """``W_fold(constants) @ texts.T``, a part for each p."""
        if self.narrow is None:
            return equations.text_streams(self.by_pool_head(self.W_fold(constants)), texts.T)
        narrowed = equations.text_streams(self.narrow[1], texts.T)
        return equations.text_streams(self._narrow_fold(constants), narrowed)

    def _narrow_fold(self, constants: Constants) -> Float[Tensor, "p d k_pool"]:
        assert self.narrow is not None
        return equations.fold(self.gamma, self.narrow[0], centred=constants == "separate")

    # ------------------------------------------------------------------ constants that are shared out

    @cached_property
    def mean_directions(self) -> Float[Tensor, "p e"]:
        """What a mean of 1 in the stream adds through each p if nothing removes it."""
        return self.through_each(torch.ones_like(self.gamma), "shared")

    @cached_property
    def term_directions(self) -> Float[Tensor, "f e"]:
        """A term's equal part of the mean and of β: the first f of an image's weights times these."""
        with torch.no_grad():
            pool_bias = self.pooling.bias_directions(self.beta, self.P)
            return equations.term_directions(self.mean_directions, self.beta_P, pool_bias, len(self.W_O))

    @cached_property
    def share_directions(self) -> Float[Tensor, "l s e"]:
        """A head's equal part of all constants: the image's weights times these.

        The weights are those of :func:`~clip_lens_plugin.decomposition.equations.share_weights`.
        """
        biases = [self.through_each(each, "shared") for each in (self.b_O, self.b_scaled) if each is not None]
        return equations.share_directions(self.term_directions, biases, self.n_heads)

    def by_pool_head(self, joined: Float[Tensor, "pd e"]) -> Float[Tensor, "p d e"]:
        """The same with a part for each p."""
        return joined.unflatten(0, (self.pooling.n_heads, -1))

    @full_precision()
    def pool(self, omega: Float[Tensor, "b p r"], x: Float[Tensor, "b r *rest"]) -> Float[Tensor, "b *joined"]:
        """``Σ_q ω[b, p, q] x[b, q]``, the p laid end to end along the last axis."""
        return equations.pooled(omega, x.to(omega.dtype)).flatten(-2)

    @full_precision()
    def to_stream(self, coordinates: Float[Tensor, "b h pk"], layer: int) -> Float[Tensor, "b h pd"]:
        """What the heads of a layer write to the pooled stream, from their coordinates."""
        self.refuse_changed_weights()
        by_pool_head = coordinates.unflatten(-1, (self.pooling.n_heads, -1)).transpose(1, 2)
        return equations.written_by_heads(by_pool_head, self.W_O[layer]).transpose(1, 2).flatten(-2)

    @full_precision()
    def layer_stream(self, coordinates: Float[Tensor, "b h pk"], layer: int) -> Float[Tensor, "b pd"]:
        """What the heads of a layer write together."""
        self.refuse_changed_weights()
        by_pool_head = coordinates.unflatten(-1, (self.pooling.n_heads, -1)).transpose(1, 2)
        return equations.written_by_layer(by_pool_head, self.W_O[layer]).flatten(-2)

    def W_out(self, layer: int) -> Float[Tensor, "d_mlp d"]:
        """Output weights of a layer's neurons.

        Raises:
            ValueError: if what the MLP writes is normalised after them; or weights were changed since the others were
                read.
        """
        self.refuse_changed_weights(later=True)
        if self.model.blocks[layer].mlp.normalises_output:
            raise ValueError(
                f"{self.model.cfg.model_name} normalises what its MLPs write, so a neuron's part depends on the "
                f"others. Ask for whole MLPs."
            )
        return self.model.blocks[layer].mlp.W_out.detach().to(self.P.dtype)

    @full_precision()
    def head_map(self, layer: int, head: int, constants: Constants = "separate") -> Float[Tensor, "k e"]:
        """M_{l,h} = W_O[l,h] W_fold: from a head's coordinates to its contribution.

        k counts its coordinates: p · k of its own width, and s more where the constants are shared out, whose rows are
        :attr:`share_directions`.
        """
        self.refuse_changed_weights()
        own = equations.head_map(self.W_O[layer][head], self.by_pool_head(self.W_fold(constants))).flatten(0, 1)
        return own if constants == "separate" else torch.cat([own, self.share_directions[layer]])

    @full_precision()
    def heads_together(
        self, coordinates: Float[Tensor, "b h k"], layer: int, constants: Constants
    ) -> Float[Tensor, "b e"]:
        """What the heads of a layer add together: their coordinates times their maps, summed."""
        own, shares = coordinates.split([self.own_coordinates, coordinates.shape[-1] - self.own_coordinates], dim=-1)
        together = self.to_joint(self.to_stream(own, layer).sum(1), constants)
        if constants == "separate":
            return together
        return together + equations.contribution(shares.sum(1), self.share_directions[layer])

    @full_precision()
    def biases_together(
        self, omega: Float[Tensor, "b p r"], bias_weight: Float[Tensor, "b l p"] | None, constants: Constants
    ) -> Float[Tensor, "b l e"]:
        """What each layer's b_O adds; ``bias_weight`` goes with the part of it that a norm after W_O divides."""
        weight = omega.sum(2)[:, None].expand(-1, len(self.b_O), -1)
        pooled = equations.by_layer(weight, self.through_each(self.b_O, constants))
        if self.b_scaled is None or bias_weight is None:
            return pooled
        return pooled + equations.by_layer(bias_weight, self.through_each(self.b_scaled, constants))

    def checked_texts(self, text_embeddings: Float[Tensor, "t e"], of_unit_length: bool = True) -> Float[Tensor, "t e"]:
        """The text embeddings in the readout's dtype and device.

        Args:
            text_embeddings: of texts; or any directions.
            of_unit_length: whether they have to be unit vectors, as where texts are compared with each other.

        Raises:
            ValueError: if they are no tensor, the width is not that of the joint space, a value is NaN or infinite, or
                they are no unit vectors and have to be.
        """
        width = self.P.shape[1]
        if not isinstance(text_embeddings, Tensor):
            raise ValueError(
                f"Text embeddings must be a tensor [texts, {width}], got a {type(text_embeddings).__name__}. Make them "
                f"with model.encode_text([...])."
            )
        if text_embeddings.ndim != 2 or text_embeddings.shape[1] != width:
            raise ValueError(
                f"Text embeddings must be [texts, {width}], got {list(text_embeddings.shape)}. Make them with "
                f"model.encode_text([...])."
            )
        check = checked_unit_vectors if of_unit_length else checked_finite
        return check(text_embeddings).to(self.P)

    @full_precision()
    def directions(self, texts: Float[Tensor, "t e"], constants: Constants = "separate") -> Float[Tensor, "l h k t"]:
        """M_{l,h} e_t for every head and text."""
        self.refuse_changed_weights()
        streams = self.text_streams(texts, constants)
        own = torch.stack([equations.text_directions(weight, streams) for weight in self.W_O])
        if constants == "separate":
            return own
        shares = equations.towards(self.share_directions, texts)[:, None].expand(-1, self.n_heads, -1, -1)
        return torch.cat([own, shares], dim=2)

    @property
    def n_heads(self) -> int:
        """Heads per layer."""
        return len(self.W_O[0])

    @property
    def own_coordinates(self) -> int:
        """How many numbers say what a head adds by itself: p · k."""
        return self.pooling.n_heads * self.W_O[0].shape[1]

    def n_coordinates(self, constants: Constants = "separate") -> int:
        """How many numbers say what a head adds, with its part of the constants if they are shared out."""
        return self.own_coordinates + (0 if constants == "separate" else self.share_directions.shape[1])


def _scaled_biases(model: Tower, dtype: torch.dtype) -> Float[Tensor, "l d"] | None:
    biases = [block.attn.out.b_scaled for block in model.blocks]
    kept = [bias.detach().to(dtype) for bias in biases if bias is not None]
    return torch.stack(kept) if kept else None
