"""The weights between the last stream and the joint space, folded once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.components.pooling import Pooling

if TYPE_CHECKING:
    from clip_lens_plugin.hooked_clip import HookedCLIP

Constants = Literal["apart", "spread"]


@dataclass(frozen=True)
class Readout:
    """Folded weights in float32, or float64 for a float64 model.

    Attributes:
        W_P: C diag(γ) P [d, e]: a component's pooled stream to its contribution.
        gamma_P: diag(γ) P [d, e], without the removal of the mean.
        beta_P: βP [e], with the projection's own bias where it has one.
        W_O: [h, k, d] of each layer; views where the dtype allows.
        b_O: [l, d].
        model_dtype: dtype of the model's weights.
        pooling: gives ω.
    """

    W_P: Float[Tensor, "d e"]
    gamma_P: Float[Tensor, "d e"]
    beta_P: Float[Tensor, " e"]
    W_O: tuple[Float[Tensor, "h k d"], ...]
    b_O: Float[Tensor, "l d"]
    model_dtype: torch.dtype
    pooling: Pooling
    model: HookedCLIP

    @classmethod
    def of(cls, model: HookedCLIP) -> Readout:
        """Reads and folds the weights of ``model`` as they are now."""
        dtype = torch.promote_types(model.cfg.dtype, torch.float32)
        with torch.no_grad():
            projection = model.W_P.to(dtype)
            gamma_P = model.ln_final.w.to(dtype)[:, None] * projection
            constant = model.ln_final.b.to(dtype) @ projection
            return cls(
                W_P=gamma_P - gamma_P.mean(0),
                gamma_P=gamma_P,
                beta_P=constant if model.b_P is None else constant + model.b_P.to(dtype),
                W_O=tuple(block.attn.W_O.detach().to(dtype) for block in model.blocks),
                b_O=model.b_O.to(dtype),
                model_dtype=model.cfg.dtype,
                pooling=model.pooling,
                model=model,
            )

    def W_fold(self, constants: Constants) -> Float[Tensor, "d e"]:
        """The map of a component: with its own mean removed ("apart") or not ("spread")."""
        return self.W_P if constants == "apart" else self.gamma_P

    def W_out(self, layer: int) -> Float[Tensor, "d_mlp d"]:
        """Output weights of a layer's neurons."""
        return self.model.blocks[layer].mlp.W_out.detach().to(self.W_P.dtype)

    def head_map(self, layer: int, head: int) -> Float[Tensor, "k e"]:
        """M_{l,h} = W_O[l,h] W_P."""
        return self.W_O[layer][head] @ self.W_P

    def checked_texts(self, text_embeddings: Float[Tensor, "t e"]) -> Float[Tensor, "t e"]:
        """The text embeddings in the readout's dtype and device.

        Raises:
            ValueError: if the width is not that of the joint space.
        """
        width = self.W_P.shape[1]
        if text_embeddings.ndim != 2 or text_embeddings.shape[1] != width:
            raise ValueError(
                f"Text embeddings must be [texts, {width}], got {list(text_embeddings.shape)}. Make them with "
                f"model.encode_text([...])."
            )
        return text_embeddings.to(self.W_P)

    def directions(self, texts: Float[Tensor, "t e"], constants: Constants = "apart") -> Float[Tensor, "l h k t"]:
        """M_{l,h} e_t for every head and text."""
        stream = self.W_fold(constants) @ texts.T
        return torch.stack([weight @ stream for weight in self.W_O])

    @property
    def n_heads(self) -> int:
        """Heads a layer."""
        return len(self.W_O[0])
