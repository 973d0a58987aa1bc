"""The blocks' weights under TransformerLens's names, stacked over layers."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.utilities.typed_module_list import TypedModuleList

from clip_lens_plugin.components.block import Block
from clip_lens_plugin.config import HookedCLIPConfig


class StackedWeights:
    """Weights of a model with ``blocks``. Each access stacks copies; ``model.blocks[l].attn.W_O`` is a view.

    l layers, h heads, k head width, d model width. A LayerScale is part of ``W_O``, ``b_O``, ``W_out`` and ``b_out``.
    """

    blocks: TypedModuleList[Block]
    cfg: HookedCLIPConfig

    @property
    def W_Q(self) -> Float[Tensor, "l h d k"]:
        return self._stacked("attn", "W_Q")

    @property
    def W_K(self) -> Float[Tensor, "l h d k"]:
        return self._stacked("attn", "W_K")

    @property
    def W_V(self) -> Float[Tensor, "l h d k"]:
        return self._stacked("attn", "W_V")

    @property
    def W_O(self) -> Float[Tensor, "l h k d"]:
        return self._stacked("attn", "W_O")

    @property
    def b_Q(self) -> Float[Tensor, "l h k"]:
        return self._stacked("attn", "b_Q")

    @property
    def b_K(self) -> Float[Tensor, "l h k"]:
        return self._stacked("attn", "b_K")

    @property
    def b_V(self) -> Float[Tensor, "l h k"]:
        return self._stacked("attn", "b_V")

    @property
    def b_O(self) -> Float[Tensor, "l d"]:
        return self._stacked("attn", "b_O")

    @property
    def W_in(self) -> Float[Tensor, "l d d_mlp"]:
        return self._stacked("mlp", "W_in")

    @property
    def b_in(self) -> Float[Tensor, "l d_mlp"]:
        return self._stacked("mlp", "b_in")

    @property
    def W_out(self) -> Float[Tensor, "l d_mlp d"]:
        return self._stacked("mlp", "W_out")

    @property
    def b_out(self) -> Float[Tensor, "l d"]:
        return self._stacked("mlp", "b_out")

    @property
    def W_gate(self) -> Float[Tensor, "l d d_mlp"] | None:
        return None if self.blocks[0].mlp.gate is None else self._stacked("mlp", "W_gate")

    @property
    def b_gate(self) -> Float[Tensor, "l d_mlp"] | None:
        return None if self.blocks[0].mlp.gate is None else self._stacked("mlp", "b_gate")

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
        """
        total = torch.zeros(self.cfg.d_model, device=self.cfg.device, dtype=self.cfg.dtype)
        for block in self.blocks[:layer]:
            total = total + block.attn.b_O
            if include_mlp_biases:
                total = total + block.mlp.b_out
        return total + self.blocks[layer].attn.b_O if mlp_input else total
