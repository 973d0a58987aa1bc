"""What the parts of an image embedding are, and that they sum to it.

Source: Gandelsman, Efros and Steinhardt, "Interpreting CLIP's Image Representation via Text-Based Decomposition",
ICLR 2024, equations 1 to 4. With LayerNorm's statistics frozen, ``M(I) = Σ_q ω[b,q] (C Z_L[b,q] ⊙ γ) P + βP``
is linear in the last stream Z_L, and the stream is a sum over components. C removes a vector's own mean, so no
mean has to be shared out; β and the attention's output biases are components of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_indices
from clip_lens_plugin.factors import Factors, MissingActivationsError, same_up_to
from clip_lens_plugin.parts import Parts
from clip_lens_plugin.precision import full_precision
from clip_lens_plugin.readout import Constants, Readout

TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 1e-2,
    torch.bfloat16: 5e-2,
}
"""Greatest relative completeness error that is taken for rounding, by the coarsest dtype of the parts."""


class CompletenessError(ArithmeticError):
    """The parts do not sum to the embedding."""


class TokensNotAvailableError(ValueError):
    """The contributions of single tokens were not kept, or a hook made them meaningless."""


class Contributions:
    """What every component adds to the embedding M(I) of b images, kept as factors until it is asked for.

    Made by :func:`decompose` or :func:`decompose_images`, or read from a store; what a store does not keep (single
    tokens, neurons, edits) only a run has. l layers, h heads, n tokens, e joint width, t texts. Every
    tensor is float32, or float64 for a float64 model. The unit is that of the unnormalised embedding, or that of
    a cosine after :meth:`normalized`; see :attr:`unit`.

    Attributes:
        embedding: M(I) as the model gave it [b, e], in the current unit.
        constants: "apart", or "spread" as in the paper: see :func:`decompose`.
    """

    def __init__(
        self,
        readout: Readout,
        parts: Parts,
        factors: Factors | None = None,
        constants: Constants = "apart",
        divisor: Float[Tensor, " b"] | None = None,
    ) -> None:
        self._readout, self._parts, self._factors = readout, parts, factors
        self.constants: Constants = constants
        self._divisor = parts.embedding.new_ones(len(parts.embedding)) if divisor is None else divisor
        self._omega = parts.omega / self._divisor[:, None, None]
        self.embedding: Float[Tensor, "b e"] = parts.embedding / self._divisor[:, None]
        self._is_normalized = divisor is not None

    @classmethod
    def of_run(cls, readout: Readout, factors: Factors, constants: Constants = "apart") -> Contributions:
        """Of the model's run that left these factors."""
        return cls(readout, Parts.of(readout, factors, constants), factors, constants)

    # ------------------------------------------------------------------ components

    @property
    def unit(self) -> str:
        """ "embedding" or "cosine"."""
        return "cosine" if self._is_normalized else "embedding"

    @property
    def omega(self) -> Float[Tensor, "b p r"]:
        """ω: the weight of each pooled position, for each head p of an attention pool (1 for other poolings)."""
        return self._omega

    @property
    def bias_weight(self) -> Float[Tensor, "b l p"] | None:
        """Σ_q ω over the scale of a norm after W_O, which goes with a part of each bias; None without such norms."""
        weight = self._parts.bias_weight
        return None if weight is None else weight / self._divisor[:, None, None]

    @property
    def head_coordinates(self) -> Float[Tensor, "b l h pk"]:
        """y = Σ_q ω z: each head's coordinates; its contribution is ``y M_{l,h}``."""
        return self._parts.coordinates / self._divisor[:, None, None, None]

    @property
    def heads(self) -> Float[Tensor, "b l h e"]:
        """c[b, l, h], the contribution of each head (equation 4 summed over tokens)."""
        by_layer = [self._to_joint(self._head_streams(l)) for l in range(self.n_layers)]
        return torch.stack(by_layer, dim=1) + self._spread_head()

    @property
    def mlps(self) -> Float[Tensor, "b l e"]:
        """The contribution of each MLP, its output bias included."""
        return self._parts.mlps / self._divisor[:, None, None] + self._spread_term()[:, None]

    @property
    def embed(self) -> Float[Tensor, "b e"]:
        """The contribution of the stream that enters block 0."""
        return self._parts.embed / self._divisor[:, None] + self._spread_term()

    @property
    def has_self_attention(self) -> bool:
        """Whether :attr:`self_attention` was kept."""
        return self._parts.self_attention is not None

    @property
    def self_attention(self) -> Float[Tensor, "b l e"]:
        """The part of each layer's heads that comes from the class token as a source (table 1 of the paper).

        A part of :attr:`heads`, not a component beside them; without a share of the constants.

        Raises:
            TokensNotAvailableError: if it was not kept, a hook replaced the output of a head, or the pooling reads
                other tokens.
        """
        if not self._readout.pooling.reads_class_token_alone:
            raise TokensNotAvailableError(
                f"{self._readout.model.cfg.model_name} does not pool the class token, so what it sends to itself is no "
                f"part of the embedding: leave it out of what is ablated."
            )
        if self._parts.self_attention is None:
            raise TokensNotAvailableError(
                "What the class token sends to itself was not kept: call decompose(images), or cache attn.hook_pattern "
                "and attn.hook_v of every layer, without replacing what heads put out."
            )
        return self._parts.self_attention / self._divisor[:, None, None]

    @property
    def attn_bias(self) -> Float[Tensor, "b l e"]:
        """The contribution of each layer's b_O; zero if the constants are spread over the heads."""
        pooled = self._pooled_biases(self._readout.W_fold(self.constants))
        return pooled if self.constants == "apart" else torch.zeros_like(pooled)

    @property
    def ln_bias(self) -> Float[Tensor, "b e"]:
        """βP of the last LayerNorm, the same for all images; zero if the constants are spread.

        Zero where an attention pool comes last: what ``ln_final``'s β adds through it is in :attr:`pool_bias`.
        """
        constant = self._readout.beta_P / self._divisor[:, None]
        return constant if self.constants == "apart" else torch.zeros_like(constant)

    @property
    def pool_bias(self) -> Float[Tensor, "b e"] | None:
        """What an attention pool's biases add, and ``ln_final``'s β through it; None for other poolings.

        Zero if the constants are spread.
        """
        if self._parts.pool_bias is None:
            return None
        constant = self._parts.pool_bias / self._divisor[:, None]
        return constant if self.constants == "apart" else torch.zeros_like(constant)

    @property
    def pool_mlp(self) -> Float[Tensor, "b e"] | None:
        """The contribution of an attention pool's own MLP, its output bias included; None where there is none."""
        return None if self._parts.pool_mlp is None else self._parts.pool_mlp / self._divisor[:, None]

    @property
    def edits(self) -> Float[Tensor, "b l e"]:
        """What hooks added to the stream in each layer beside heads and MLPs (``hook_attn_out``, ``hook_resid_*``).

        Zero, or rounding where it was measured from a full cache, if no hook did.
        """
        factors = self._factors
        if factors is None or not factors.resid_pre:
            shape = (len(self.embedding), self.n_layers, self.embedding.shape[-1])
            return self.embedding.new_zeros(shape)
        stops = [*factors.resid_pre[1:], factors.final]
        starts = [factors.embed, *factors.resid_pre[1:]]
        by_layer = []
        for l, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            written = self._pool(stop) - self._pool(start) - self._pool(factors.mlp_out[l])
            by_layer.append(self._to_joint(written - self._head_streams(l).sum(1)))
        return torch.stack(by_layer, dim=1) - self._pooled_biases(self._readout.W_fold(self.constants))

    @full_precision()
    def tokens(self, layer: int, head: int) -> Float[Tensor, "b n e"]:
        """c[b, i, l, h]: the contribution of each source token through one head (equation 4).

        Raises:
            TokensNotAvailableError: if they were not kept, or a hook replaced the head's output.
            IndexError: if there is no such layer or head.
            ValueError: if one is no whole number.
        """
        layer, head = self._readout.model.cfg.checked_head(layer, head)
        weighted = self._token_coordinates(layer)[:, :, head]
        constant = self._spread_head()[:, layer, head] / weighted.shape[1]
        return weighted @ self._readout.head_map(layer, head, self.constants) + constant[:, None]

    @full_precision()
    def neurons(self, layer: int) -> Float[Tensor, "b d_mlp e"]:
        """The contribution of each neuron; they sum to the layer's MLP less its output bias.

        Raises:
            MissingActivationsError: if they were not kept.
            IndexError: if there is no such layer.
            ValueError: if it is no whole number.
        """
        layer = self._readout.model.cfg.checked_layer(layer)
        if self._factors is None or not self._factors.post:
            raise MissingActivationsError(
                "Neurons were not kept: decompose(images, neurons=True), or a cache with mlp.hook_post."
            )
        weights = self._readout.W_out(layer) @ self._readout.by_pool_head(self._readout.W_fold(self.constants))
        post = self._factors.post[layer].to(self._omega.dtype)
        return torch.einsum("bpm,pme->bme", self._omega @ post, weights)

    # ------------------------------------------------------------------ towards texts

    @full_precision()
    def towards(
        self, text_embeddings: Float[Tensor, "t e"], per_token: bool = False
    ) -> Float[Tensor, "b l h t"] | Float[Tensor, "b l h n t"]:
        """Dot products of the contributions of heads, or of tokens, with text embeddings.

        ``M_{l,h} e_t`` has k numbers, so nothing of width e is built.

        Args:
            text_embeddings: unit vectors, as ``model.encode_text`` returns them.
            per_token: split each head's score over the source tokens.

        Raises:
            TokensNotAvailableError: see :meth:`tokens`.
            ValueError: if the width is not e.
        """
        texts = self._readout.checked_texts(text_embeddings)
        directions = self._readout.directions(texts, self.constants)
        constant = self._spread_head() @ texts.T
        layers = range(self.n_layers)
        if per_token:
            split = [torch.einsum("bnhk,hkt->bhnt", self._token_coordinates(l), directions[l]) for l in layers]
            by_token = torch.stack(split, dim=1)
            return by_token + (constant / by_token.shape[3])[..., None, :]
        whole = torch.einsum("blhk,lhkt->blht", self.head_coordinates, directions)
        for l, edit in enumerate(self._result_edits()):
            if edit is not None:
                whole[:, l] += self._to_joint(self._pool(edit)) @ texts.T
        return whole + constant

    def normalized(self) -> Contributions:
        """The same divided by ‖M(I)‖, so that dot products with a unit text embedding add up to the cosine.

        ``model.logit_scale`` times their sum, plus ``model.logit_bias``, is CLIP's logit. The norm is frozen: ablations
        do not change it.
        """
        if self._is_normalized:
            return self
        norm = self.embedding.norm(dim=-1)
        return Contributions(self._readout, self._parts, self._factors, self.constants, divisor=norm)

    def select(self, rows: Any) -> Contributions:
        """The contributions of some of the images, in the given order.

        Args:
            rows: a slice or range, positions (negative ones count from the end), or a mask with a truth value an image;
                as a list, an array or a tensor.

        Raises:
            ValueError: if it is none of these.
            IndexError: if there is no such image, or the mask has another length.
        """
        rows = checked_indices("image", rows, len(self))
        factors = None if self._factors is None else self._factors.select(rows)
        divisor = self._divisor[rows.to(self._divisor.device)] if self._is_normalized else None
        return Contributions(self._readout, self._parts.select(rows), factors, self.constants, divisor)

    # ------------------------------------------------------------------ sums

    def stack(self) -> tuple[Float[Tensor, "b c e"], list[str]]:
        """Every component and its label: embed, each head, each layer's bias and MLP, edits, the pool's, ln_bias."""
        parts = [self.embed[:, None], self.heads.flatten(1, 2), self.attn_bias, self.mlps]
        layers = range(self.n_layers)
        labels = ["embed"]
        labels += [f"L{l}H{h}" for l in layers for h in range(self._readout.n_heads)]
        labels += [f"{l}_attn_bias" for l in layers] + [f"{l}_mlp" for l in layers]
        if self._factors is not None and self._factors.resid_pre:
            parts.append(self.edits)
            labels += [f"{l}_edits" for l in layers]
        for label in ("pool_bias", "pool_mlp"):
            part = getattr(self, label)
            if part is not None:
                parts.append(part[:, None])
                labels.append(label)
        return torch.cat([*parts, self.ln_bias[:, None]], dim=1), [*labels, "ln_bias"]

    def total(self) -> Float[Tensor, "b e"]:
        """The sum of all components."""
        return self.stack()[0].sum(1)

    def completeness_error(self) -> float:
        """Greatest relative difference ‖total − M(I)‖ / ‖M(I)‖ over the images."""
        difference = (self.total() - self.embedding).norm(dim=-1)
        return float((difference / self.embedding.norm(dim=-1)).max())

    def check(self) -> Contributions:
        """Returns itself.

        Raises:
            CompletenessError: if the parts do not sum to the embedding within :data:`TOLERANCE`.
        """
        error, allowed = self.completeness_error(), TOLERANCE[self._parts.rounding]
        if not error <= allowed:
            coarse = (
                ""
                if self._parts.rounding == self._readout.model_dtype
                else " The model's products were rounded as coarsely as that (TF32, autocast): for exact ones call "
                "torch.set_float32_matmul_precision('highest')."
            )
            raise CompletenessError(
                f"The contributions do not sum to the embedding: relative error {error:.2e}, expected at most "
                f"{allowed:.0e} for {self._parts.rounding}. Either a hook changed what ln_final or the pooling "
                f"puts out, or the cache is not from this model, or it holds NaN.{coarse}"
            )
        return self

    def refuse_result_edits(self) -> None:
        """Raises ValueError if a hook on ``hook_result`` moved a head out of what its coordinates can say."""
        edited = [f"layer {l}" for l, edit in enumerate(self._result_edits()) if edit is not None]
        if edited:
            raise ValueError(
                f"A hook on hook_result changed heads of {', '.join(edited)}, so their coordinates do not tell what "
                f"they write. Edit hook_z instead."
            )

    def __repr__(self) -> str:
        batch, width = self.embedding.shape
        heads = self._readout.n_heads
        return (
            f"Contributions(images={batch}, layers={self.n_layers}, heads={heads}, width={width}, unit={self.unit!r}, "
            f"constants={self.constants!r}, completeness_error={self.completeness_error():.1e})"
        )

    def __len__(self) -> int:
        return len(self.embedding)

    @property
    def n_layers(self) -> int:
        """l."""
        return self._parts.coordinates.shape[1]

    @property
    def readout(self) -> Readout:
        """The folded weights."""
        return self._readout

    # ------------------------------------------------------------------ pieces

    def _pool(self, x: Float[Tensor, "b r *rest"]) -> Float[Tensor, "b *joined"]:
        return self._readout.pool(self._omega, x)

    def _to_joint(self, stream: Float[Tensor, "*batch pd"]) -> Float[Tensor, "*batch e"]:
        return self._readout.to_joint(stream, self.constants)

    @full_precision()
    def _pooled_biases(self, fold: Float[Tensor, "pd e"]) -> Float[Tensor, "b l e"]:
        """Each layer's b_O, pooled and folded."""
        maps = self._readout.by_pool_head(fold)
        pooled = torch.einsum("bp,ple->ble", self._omega.sum(2), self._readout.b_O @ maps)
        if self._readout.b_scaled is None or self.bias_weight is None:
            return pooled
        return pooled + torch.einsum("blp,ple->ble", self.bias_weight, self._readout.b_scaled @ maps)

    def _head_streams(self, layer: int) -> Float[Tensor, "b h pd"]:
        """Pooled outputs of the heads in the stream's space."""
        coordinates, edit = self.head_coordinates[:, layer], self._result_edits()[layer]
        exact = self._readout.to_stream(coordinates, layer)
        return exact if edit is None else exact + self._pool(edit)

    def _result_edits(self) -> Sequence[Tensor | None]:
        return [None] * self.n_layers if self._factors is None else self._factors.result_edit

    @full_precision()
    def _token_coordinates(self, layer: int) -> Float[Tensor, "b n h pk"]:
        """ā ⊙ v, of which a head's coordinates are the sum over tokens; zero for a head that a hook ablated."""
        if self._factors is None or not self._factors.v:
            raise TokensNotAvailableError(
                "Single tokens were not kept: decompose(images, tokens=True), or a cache with attn.hook_pattern and "
                "attn.hook_v."
            )
        pattern = self._factors.pattern[layer].to(self._omega.dtype)
        effective = torch.einsum("bpr,bhrn->bnhp", self._omega, pattern)
        split = torch.einsum("bnhp,bnhk->bnhpk", effective, self._factors.v[layer].to(effective.dtype)).flatten(-2)
        coordinates, edit = self.head_coordinates[:, layer], self._result_edits()[layer]
        ablated = (coordinates == 0).all(-1)
        allowed = same_up_to(self._parts.rounding) * split.norm(dim=-1).sum(1)
        replaced = ((split.sum(1) - coordinates).norm(dim=-1) > allowed) & ~ablated
        if edit is not None:
            replaced |= (edit != 0).any(-1).any(1)
        if bool(replaced.any()):
            heads = [f"L{layer}H{h}" for h in replaced.any(0).nonzero().flatten().tolist()]
            raise TokensNotAvailableError(
                f"A hook replaced the output of {heads}, so it cannot be split over tokens. Edit hook_v or "
                f"hook_pattern instead, or ask for whole heads."
            )
        return split.masked_fill(ablated[:, None, :, None], 0.0)

    @full_precision()
    def _spread_constant(self) -> Float[Tensor, "b e"]:
        """βP less what the means of the stream contribute, which the paper shares out equally over terms."""
        assert self._factors is not None
        mean = self._omega @ self._factors.final.to(self._omega.dtype).mean(-1, keepdim=True)
        beta = self._readout.beta_P / self._divisor[:, None]
        if self._parts.pool_bias is not None:
            beta = beta + self._parts.pool_bias / self._divisor[:, None]
        return beta - mean[..., 0] @ self._readout.by_pool_head(self._readout.gamma_P).sum(1)

    def _spread_term(self) -> Float[Tensor, "b e"]:
        if self.constants == "apart":
            return torch.zeros_like(self.embedding)
        return self._spread_constant() / (2 * self.n_layers + 1)

    def _spread_head(self) -> Float[Tensor, "b l h e"]:
        n_heads = self._readout.n_heads
        shape = (len(self.embedding), self.n_layers, n_heads, self.embedding.shape[-1])
        if self.constants == "apart":
            return self.embedding.new_zeros(1).expand(shape)
        share = (self._pooled_biases(self._readout.gamma_P) + self._spread_term()[:, None]) / n_heads
        return share[:, :, None].expand(shape)
