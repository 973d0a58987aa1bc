"""Text embeddings that users give, checked in one place: finite unit vectors of the joint space."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

UNIT_TOLERANCE = 0.02
"""A unit vector's norm in bfloat16 is this near to 1."""


def checked_unit_vectors(embeddings: Float[Tensor, "t e"], what: str = "Text embeddings") -> Float[Tensor, "t e"]:
    """The same embeddings.

    Args:
        embeddings: one row for each text.
        what: they are; the message begins with it.

    Raises:
        ValueError: if a row holds NaN or infinite values, or is no unit vector.
    """
    if embeddings.is_meta:
        return embeddings
    norms = embeddings.detach().to(torch.promote_types(embeddings.dtype, torch.float32)).norm(dim=-1)
    right = (norms - 1).abs() <= UNIT_TOLERANCE
    if bool(right.all()):
        return embeddings
    row = int((~right).nonzero()[0])
    if not bool(embeddings[row].isfinite().all()):
        raise ValueError(
            f"{what} must be unit vectors: row {row} holds NaN or infinite values. Make them with "
            f"model.encode_text([...]), for a model in float16 in float32 or bfloat16."
        )
    raise ValueError(
        f"{what} must be unit vectors, got norms from {norms.min():.4g} to {norms.max():.4g}. Use "
        f"torch.nn.functional.normalize(embeddings, dim=-1)."
    )
