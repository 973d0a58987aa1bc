"""Text embeddings that users give, checked in one place: finite, and unit vectors where texts are compared."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

UNIT_TOLERANCE = 0.02
"""A unit vector's norm in bfloat16 is this near to 1."""


def checked_finite(
    embeddings: Float[Tensor, "t e"], what: str = "Text embeddings", expected: str = "finite"
) -> Float[Tensor, "t e"]:
    """The same embeddings.

    Args:
        embeddings: one row for each text.
        what, expected: they are, and have to be; for the message.

    Raises:
        ValueError: if a row holds NaN or infinite values.
    """
    if not isinstance(embeddings, Tensor):
        raise ValueError(
            f"{what} must be a tensor, got a {type(embeddings).__name__}: use torch.as_tensor(embeddings)."
        )
    if embeddings.is_meta:
        return embeddings
    finite = embeddings.detach().isfinite().all(-1)
    if not bool(finite.all()):
        raise ValueError(
            f"{what} must be {expected}: row {int((~finite).nonzero()[0])} holds NaN or infinite values. Make them "
            f"with model.encode_text([...]), for a model in float16 in float32 or bfloat16."
        )
    return embeddings


def checked_unit_vectors(embeddings: Float[Tensor, "t e"], what: str = "Text embeddings") -> Float[Tensor, "t e"]:
    """The same embeddings.

    Args:
        embeddings: one row for each text.
        what: they are; the message begins with it.

    Raises:
        ValueError: if a row holds NaN or infinite values, or is no unit vector.
    """
    checked_finite(embeddings, what, "unit vectors")
    if embeddings.is_meta:
        return embeddings
    norms = embeddings.detach().to(torch.promote_types(embeddings.dtype, torch.float32)).norm(dim=-1)
    right = (norms - 1).abs() <= UNIT_TOLERANCE
    if bool(right.all()):
        return embeddings
    raise ValueError(
        f"{what} must be unit vectors, got norms from {norms.min():.4g} to {norms.max():.4g}. Use "
        f"torch.nn.functional.normalize(embeddings, dim=-1)."
    )
