"""The step from the normalised stream to text labels, as TransformerLens's ``unembed``."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor


class Unembed:
    """``unembed(ln_final(stream))``: dot products of M(I) with the labels' unit embeddings, at the pooled token.

    As in TransformerLens's models whose LayerNorm is not folded, ``ln_final`` has γ and β, and they are not in ``W_U``.
    Nothing is kept: weights and labels are the model's at each use.

    Args:
        model: has ``W_U`` and ``b_U``.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    @property
    def W_U(self) -> Float[Tensor, "d t"]:
        """P Eᵀ, see the model's."""
        return self._model.W_U

    @property
    def b_U(self) -> Float[Tensor, " t"]:
        """E b_P, see the model's."""
        return self._model.b_U

    def __call__(self, normalized: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch t"]:
        """Dot products with the labels' embeddings.

        Args:
            normalized: ``ln_final``'s output.

        Raises:
            NotAvailableError: a ValueError and AttributeError, if no labels are set, or attention pools.
        """
        return normalized @ self.W_U + self.b_U
