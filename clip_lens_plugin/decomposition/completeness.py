"""That the parts of an embedding sum to it: their sum, a few images at a time, and what is taken for rounding."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.decomposition.parts.component_values import ComponentValues
from clip_lens_plugin.numerics.noise import TOLERANCE

PIECE_BYTES = 2**21
"""About how much the kept parts of the images that are summed at once take."""


class CompletenessError(ArithmeticError):
    """The parts do not sum to the embedding."""


def summed(contributions: ComponentValues) -> Float[Tensor, "b e"]:
    """All components together; those of heads in the stream already, as their maps are linear."""
    c = contributions
    streams = [c.readout.layer_stream(y, l) for l, y in enumerate(c.own_coordinates.unbind(1))]
    heads = c.readout.to_joint(torch.stack(streams).sum(0), c.constants) + c.share_of_heads().sum(1)
    beside = sum(edit.sum(1) for edit in c.head_edits.values())
    extras = sum(c.extra_components.values())
    return c.embed + heads + beside + c.attn_bias.sum(1) + c.mlps.sum(1) + c.edits.sum(1) + extras + c.ln_bias


def relative_errors(contributions: ComponentValues) -> Float[Tensor, " b"]:
    """‖sum − M(I)‖ / ‖M(I)‖ of each image."""
    embedding = contributions.embedding
    return (summed(contributions) - embedding).norm(dim=-1) / embedding.norm(dim=-1)


def images_in_piece(*kept: Float[Tensor, "b ..."]) -> int:
    """How many images to sum at once, by what is kept of each."""
    return max(1, PIECE_BYTES // max(1, sum(each[:1].nbytes for each in kept)))


def refuse_incomplete(errors: Float[Tensor, " b"], rounding: torch.dtype, model_dtype: torch.dtype) -> None:
    """Raises CompletenessError if one of the relative errors is more than rounding, or NaN."""
    error, allowed = float(errors.max()), TOLERANCE[rounding]
    if not error <= allowed:
        coarse = (
            " The model's products were rounded as coarsely as that (TF32, autocast): for exact ones call "
            "torch.set_float32_matmul_precision('highest')."
            if rounding != model_dtype
            else ""
        )
        raise CompletenessError(
            f"The contributions do not sum to the embedding: relative error {error:.2e}, expected at most "
            f"{allowed:.0e} for {rounding}. Either a hook changed what ln_final or the pooling puts out, or the cache "
            f"is not from this model, or it holds NaN.{coarse}"
        )
