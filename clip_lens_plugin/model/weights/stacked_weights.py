"""The blocks' weights under TransformerLens's names, stacked over layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.utilities.matrix import composition_scores
from transformer_lens.utilities.typed_module_list import TypedModuleList

from clip_lens_plugin.arguments import checked_choice
from clip_lens_plugin.layers.attention.circuits import Circuits
from clip_lens_plugin.layers.block import Block
from clip_lens_plugin.layers.config import TowerConfig
from clip_lens_plugin.layers.layer_norm import LayerNorm
from clip_lens_plugin.model.weights.tl_parameters import NamedWeights, block_weights

if TYPE_CHECKING:
    from transformer_lens.model_bridge.composition_scores import CompositionScores


class StackedWeights(Circuits):
    """Weights of a model with ``blocks``. Each access stacks copies; ``model.blocks[l].attn.W_O`` is a view.

    l layers, h heads, k head width, d model width. A LayerScale is part of ``W_O``, ``b_O``, ``W_out`` and ``b_out``.
    """

    blocks: TypedModuleList[Block]
    cfg: TowerConfig
    ln_final: LayerNorm
    W_U: Tensor
    b_U: Tensor

    @property
    def W_Q(self) -> Float[Tensor, "l h d k"]:
        """Query weights."""
        return self._stacked("attn", "W_Q")

    @property
    def W_K(self) -> Float[Tensor, "l h d k"]:
        """Key weights."""
        return self._stacked("attn", "W_K")

    @property
    def W_V(self) -> Float[Tensor, "l h d k"]:
        """Value weights."""
        return self._stacked("attn", "W_V")

    @property
    def W_O(self) -> Float[Tensor, "l h k d"]:
        """Output weights of the heads."""
        return self._stacked("attn", "W_O")

    @property
    def b_Q(self) -> Float[Tensor, "l h k"]:
        """Query biases."""
        return self._stacked("attn", "b_Q")

    @property
    def b_K(self) -> Float[Tensor, "l h k"]:
        """Key biases."""
        return self._stacked("attn", "b_K")

    @property
    def b_V(self) -> Float[Tensor, "l h k"]:
        """Value biases."""
        return self._stacked("attn", "b_V")

    @property
    def b_O(self) -> Float[Tensor, "l d"]:
        """Output biases of the heads together."""
        return self._stacked("attn", "b_O")

    @property
    def W_in(self) -> Float[Tensor, "l d d_mlp"]:
        """Weights of the MLPs' neurons."""
        return self._stacked("mlp", "W_in")

    @property
    def b_in(self) -> Float[Tensor, "l d_mlp"]:
        """Biases of the MLPs' neurons."""
        return self._stacked("mlp", "b_in")

    @property
    def W_out(self) -> Float[Tensor, "l d_mlp d"]:
        """Output weights of the MLPs."""
        return self._stacked("mlp", "W_out")

    @property
    def b_out(self) -> Float[Tensor, "l d"]:
        """Output biases of the MLPs."""
        return self._stacked("mlp", "b_out")

    @property
    def W_gate(self) -> Float[Tensor, "l d d_mlp"] | None:
        """Weights of the gates of gated MLPs; None where they have none."""
        return None if self.blocks[0].mlp.gate is None else self._stacked("mlp", "W_gate")

    @property
    def b_gate(self) -> Float[Tensor, "l d_mlp"] | None:
        """Biases of the gates of gated MLPs; None where they have none."""
        return None if self.blocks[0].mlp.gate is None else self._stacked("mlp", "b_gate")

    @property
    def all_head_labels(self) -> list[str]:
        """ "L0H0" and so on."""
        return [f"L{layer}H{head}" for layer in range(self.cfg.n_layers) for head in range(self.cfg.n_heads)]

    def all_composition_scores(self, mode: str) -> CompositionScores:
        """How much each head reads of what each earlier one writes [l, h, l, h], as TransformerLens defines it.

        Args:
            mode: what is read with it: "Q", "K" or "V".

        Raises:
            ValueError: for another mode.
        """
        checked_choice("mode", mode, ("Q", "K", "V"))
        read = {"Q": self.QK, "K": self.QK.T, "V": self.OV}[mode]
        layer = torch.arange(self.cfg.n_layers, device=self.cfg.device)
        earlier = layer[:, None, None, None] < layer[None, None, :, None]
        scores = composition_scores(self.OV, read, broadcast_dims=True) * earlier
        from transformer_lens.model_bridge.composition_scores import CompositionScores

        return CompositionScores(scores, list(range(self.cfg.n_layers)), self.all_head_labels)

    def tl_parameters(self) -> dict[str, Tensor]:
        """The weights by TransformerLens's names, with ``unembed.W_U`` [d, t] where text labels are set.

        There are no token embeddings: an image has no vocabulary that it is made of.
        """
        named = [weight for layer, block in enumerate(self.blocks) for weight in block_weights(block, layer)]
        named += [("ln_final.w", self.ln_final.w), ("ln_final.b", self.ln_final.b)]
        try:
            named += [("unembed.W_U", self.W_U), ("unembed.b_U", self.b_U)]
        except ValueError as error:
            return NamedWeights(named, without_labels=str(error))
        return NamedWeights(named)

    def _stacked(self, part: str, name: str) -> Tensor:
        return torch.stack([getattr(getattr(block, part), name) for block in self.blocks])

    def accumulated_bias(
        self, layer: int, mlp_input: bool = False, include_mlp_biases: bool = True
    ) -> Float[Tensor, " d"]:
        """Sum of the biases that blocks before ``layer`` write to the stream, as TransformerLens defines it.

        Args:
            layer: 0 to ``n_layers``.
            mlp_input: add the attention bias of ``layer`` itself.
            include_mlp_biases: add the MLPs' biases too.

        Raises:
            IndexError: if there is no such layer.
        """
        last = self.cfg.n_layers - mlp_input
        if not 0 <= layer <= last:
            raise IndexError(f"layer must be 0 to {last} here, got {layer}: the model has {self.cfg.n_layers} layers.")
        total = torch.zeros(self.cfg.d_model, device=self.cfg.device, dtype=self.cfg.dtype)
        for block in self.blocks[:layer]:
            total = total + block.attn.b_O
            if include_mlp_biases:
                total = total + block.mlp.b_out
        return total + self.blocks[layer].attn.b_O if mlp_input else total
