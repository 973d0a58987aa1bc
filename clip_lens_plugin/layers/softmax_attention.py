"""Which tokens a query attends to, the same for a layer's attention and for an attention pool."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def attention_scores(q: Float[Tensor, "b m h k"], key: Float[Tensor, "b n h k"]) -> Float[Tensor, "b h m n"]:
    """``q kᵀ / √k`` for any number of queries."""
    return (q.transpose(1, 2) / math.sqrt(q.shape[-1])) @ key.permute(0, 2, 3, 1)


def attention_pattern(scores: Float[Tensor, "b h m n"]) -> Float[Tensor, "b h m n"]:
    """Softmax over the keys, in float32 or better."""
    wide = torch.promote_types(scores.dtype, torch.float32)
    return scores.softmax(-1, dtype=wide).to(scores.dtype)
