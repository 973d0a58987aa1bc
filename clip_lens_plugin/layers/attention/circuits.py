"""What heads read and write, as TransformerLens's factored matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformer_lens import FactoredMatrix


class Circuits:
    """Of what has ``W_Q``, ``W_K`` and ``W_V`` [..., d, k] and ``W_O`` [..., k, d]: one attention, or all layers'."""

    if TYPE_CHECKING:
        W_Q: Any
        W_K: Any
        W_V: Any
        W_O: Any

    @property
    def QK(self) -> FactoredMatrix:
        """W_Q W_Kᵀ [..., d, d], as TransformerLens's factored matrix."""
        return FactoredMatrix(self.W_Q, self.W_K.transpose(-2, -1))

    @property
    def OV(self) -> FactoredMatrix:
        """W_V W_O [..., d, d], as TransformerLens's factored matrix."""
        return FactoredMatrix(self.W_V, self.W_O)
