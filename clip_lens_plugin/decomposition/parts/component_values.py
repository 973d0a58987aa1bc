"""What each component adds to an image embedding, in the unit asked for, read off the pooled parts."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.decomposition.constants import Constants, GivenConstants, checked_constants
from clip_lens_plugin.decomposition.parts.extras import BIAS_WEIGHT, COMPONENTS
from clip_lens_plugin.decomposition.parts.parts import Parts
from clip_lens_plugin.decomposition.parts.shares import SharedOut
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.decomposition.running.activations import TokensNotAvailableError
from clip_lens_plugin.numerics.precision import full_precision


class ComponentValues:
    """The components of b images; see :class:`~clip_lens_plugin.decomposition.contributions.Contributions`.

    Args:
        readout, parts: the folded weights, and what a run left.
        constants: "separate", or "shared" out over heads and MLPs.
        divisor: of each image's components; None for units of the embedding.
    """

    def __init__(
        self, readout: Readout, parts: Parts, constants: GivenConstants, divisor: Float[Tensor, " b"] | None
    ) -> None:
        self._readout, self._parts = readout, parts
        self.constants: Constants = checked_constants(constants)
        self._divisor = divisor
        self._shared = SharedOut.of(readout, parts, self.constants, divisor)

    def __len__(self) -> int:
        return len(self._parts.embedding)

    @property
    def n_layers(self) -> int:
        """l."""
        return self._parts.coordinates.shape[1]

    @property
    def readout(self) -> Readout:
        """The folded weights."""
        return self._readout

    @property
    def unit(self) -> str:
        """ "embedding" or "cosine"."""
        return "embedding" if self._divisor is None else "cosine"

    @property
    def embedding(self) -> Float[Tensor, "b e"]:
        """M(I) as the model gave it, in the current unit."""
        return self._in_unit(self._parts.embedding)

    @property
    def omega(self) -> Float[Tensor, "b p r"]:
        """ω: the weight of each pooled position, for each head p of an attention pool (1 for other poolings)."""
        return self._in_unit(self._parts.omega)

    @property
    def bias_weight(self) -> Float[Tensor, "b l p"] | None:
        """Σ_q ω over the scale of a norm after W_O, which goes with a part of each bias; None without such norms."""
        weight = self._parts.extras.get(BIAS_WEIGHT)
        return None if weight is None else self._in_unit(weight)

    @property
    def noise(self) -> float:
        """Relative size of what rounding leaves of a contribution, by the dtypes of the model and of a store."""
        return self._parts.noise

    @property
    def head_coordinates(self) -> Float[Tensor, "b l h k"]:
        """y = Σ_q ω z: each head's coordinates; its contribution is ``y M_{l,h}`` (:meth:`Readout.head_map`).

        Shared-out constants are further coordinates of a head, the same for all heads of a layer.
        """
        own = self.own_coordinates
        return own if self._shared is None else torch.cat([own, self._shared.weights_of(own.shape[2])], dim=-1)

    @property
    def own_coordinates(self) -> Float[Tensor, "b l h pk"]:
        """Each head's coordinates without those of shared-out constants."""
        return self._in_unit(self._parts.coordinates)

    @property
    def heads(self) -> Float[Tensor, "b l h e"]:
        """c[b, l, h], the contribution of each head (equation 4 summed over tokens)."""
        heads = self.embedding.new_empty(len(self), self.n_layers, self._readout.n_heads, self.embedding.shape[-1])
        for l in range(self.n_layers):
            stream = self._readout.to_stream(self._in_unit(self._parts.coordinates[:, l]), l)
            heads[:, l] = self._readout.to_joint(stream, self.constants)
        for l, edit in self.head_edits.items():
            heads[:, l] += edit
        return heads if self._shared is None else heads.add_(self._shared.head[:, :, None])

    @property
    def head_edits(self) -> dict[int, Float[Tensor, "b h e"]]:
        """Layer to what a hook on ``hook_result`` added to its heads beyond their coordinates, where one did."""
        edits = {layer: self._in_unit(edit) for layer, edit in self._parts.head_edits.items()}
        return edits if self._shared is None else {l: each + self._shared.head_edit(l) for l, each in edits.items()}

    @property
    def mlps(self) -> Float[Tensor, "b l e"]:
        """The contribution of each MLP, its output bias included."""
        mlps = self._in_unit(self._parts.mlps)
        return mlps if self._shared is None else mlps + self._shared.mlps

    @property
    def embed(self) -> Float[Tensor, "b e"]:
        """The contribution of the stream that enters block 0."""
        embed = self._in_unit(self._parts.embed)
        return embed if self._shared is None else embed + self._shared.embed

    @property
    def has_self_attention(self) -> bool:
        """Whether :attr:`self_attention` was kept."""
        return self._parts.self_attention is not None

    @property
    def self_attention(self) -> Float[Tensor, "b l e"]:
        """The part of each layer's heads that comes from the class token as a source (table 1 of the paper).

        A part of :attr:`heads`, not a component beside them; of shared-out constants it has one token's share.

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
        sent = self._in_unit(self._parts.self_attention)
        return sent if self._shared is None else sent + self._shared.self_attention

    @property
    def attn_bias(self) -> Float[Tensor, "b l e"]:
        """The contribution of each layer's b_O; zero if the constants are shared out over the heads."""
        pooled = self._readout.biases_together(self.omega, self.bias_weight, self.constants)
        return pooled if self._shared is None else torch.zeros_like(pooled)

    @property
    def ln_bias(self) -> Float[Tensor, "b e"]:
        """βP of the last LayerNorm, the same for all images; zero if the constants are shared out.

        Zero where an attention pool comes last: what ``ln_final``'s β adds through it is in :attr:`pool_bias`.
        """
        constant = self._in_unit(self._readout.beta_P.expand_as(self._parts.embedding))
        return constant if self._shared is None else torch.zeros_like(constant)

    @property
    def extra_components(self) -> dict[str, Float[Tensor, "b e"]]:
        """The contributions of components that only some families have, :attr:`pool_bias` among them, by name."""
        found = {}
        for name, about in COMPONENTS.items():
            if name in self._parts.extras:
                own = self._in_unit(self._parts.extras[name])
                found[name] = torch.zeros_like(own) if about.is_constant and self._shared is not None else own
        return found

    @property
    def pool_bias(self) -> Float[Tensor, "b e"] | None:
        """What an attention pool's biases add, and ``ln_final``'s β through it; None for other poolings.

        Zero if the constants are shared out.
        """
        return self.extra_components.get("pool_bias")

    @property
    def pool_mlp(self) -> Float[Tensor, "b e"] | None:
        """The contribution of an attention pool's own MLP, its output bias included; None where there is none."""
        return self.extra_components.get("pool_mlp")

    @property
    def has_edits(self) -> bool:
        """Whether :attr:`edits` were measured."""
        return self._parts.edits is not None

    @property
    def edits(self) -> Float[Tensor, "b l e"]:
        """What hooks added to the stream in each layer beside heads and MLPs (``hook_attn_out``, ``hook_resid_*``).

        Zero, or rounding where it was measured from a full cache, if no hook did.
        """
        if self._parts.edits is None:
            return torch.zeros_like(self._parts.mlps)
        edits = self._in_unit(self._parts.edits)
        return edits if self._shared is None else edits + self._shared.edits

    @full_precision()
    def share_of_heads(self) -> Float[Tensor, "b l e"]:
        """What each layer's heads together carry of the constants: zero if they are components of their own."""
        if self._shared is None:
            return torch.zeros_like(self._parts.mlps)
        return self._readout.n_heads * self._shared.head

    def _in_unit(self, x: Float[Tensor, "b *rest"]) -> Float[Tensor, "b *rest"]:
        return x if self._divisor is None else x / self._divisor.reshape(-1, *(1 for _ in x.shape[1:]))
