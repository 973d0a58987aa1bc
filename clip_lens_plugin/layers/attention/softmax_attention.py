"""Which tokens a query attends to, the same for a layer's attention and for an attention pool."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def attention_scores(q: Float[Tensor, "b m h k"], key: Float[Tensor, "b n h k"]) -> Float[Tensor, "b h m n"]:
    """``q kᵀ / √k`` for any number of queries."""
    if q.shape[1] == 1:
        return _scores_of_one(q[:, 0] / math.sqrt(q.shape[-1]), key)
    return (q.transpose(1, 2) / math.sqrt(q.shape[-1])) @ key.permute(0, 2, 3, 1)


def _scores_of_one(q: Float[Tensor, "b h k"], key: Float[Tensor, "b n h k"]) -> Float[Tensor, "b h 1 n"]:
    # The heads' queries side by side, with zeros between: a product by head would first copy all keys.
    side_by_side = q[..., None] * torch.eye(q.shape[1], dtype=q.dtype, device=q.device)[:, None]
    return (key.flatten(2) @ side_by_side.flatten(1, 2)).transpose(1, 2)[:, :, None]


def attention_pattern(scores: Float[Tensor, "b h m n"]) -> Float[Tensor, "b h m n"]:
    """Softmax over the keys, in float32 or better."""
    wide = torch.promote_types(scores.dtype, torch.float32)
    return scores.softmax(-1, dtype=wide).to(scores.dtype)
