"""Multi-head self-attention with TransformerLens's hook points and weight names."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from clip_lens_plugin.components.editable import editable
from clip_lens_plugin.components.source import Affine, Scale


class Attention(nn.Module):
    """``Σ_h softmax(Q_h K_hᵀ / √k) V_h W_O[h] + b_O``.

    The fused kernel runs while nobody listens to ``hook_attn_scores`` or ``hook_pattern``, and one product with
    all heads' outputs while nobody listens to ``hook_result``. Where the source has a LayerScale, it is part of
    ``W_O`` and ``b_O``, so heads are measured as they reach the stream.

    Args:
        qkv: [3 h k, d], the queries' rows first, then the keys', then the values'.
        out: [d, h k].
        scale: LayerScale after ``out``.
        n_heads: h.
    """

    def __init__(self, qkv: Affine, out: Affine, scale: Scale, n_heads: int) -> None:
        super().__init__()
        self.qkv, self.out, self.scale, self.n_heads = qkv, out, scale, n_heads
        self.hook_q = HookPoint()
        self.hook_k = HookPoint()
        self.hook_v = HookPoint()
        self.hook_attn_scores = HookPoint()
        self.hook_pattern = HookPoint()
        self.hook_z = HookPoint()
        self.hook_result = HookPoint()

    @property
    def W_Q(self) -> Float[Tensor, "h d k"]:
        return self._split_weight(0)

    @property
    def W_K(self) -> Float[Tensor, "h d k"]:
        return self._split_weight(1)

    @property
    def W_V(self) -> Float[Tensor, "h d k"]:
        return self._split_weight(2)

    @property
    def W_O(self) -> Float[Tensor, "h k d"]:
        return self.scale(self.out.weight.T).unflatten(0, (self.n_heads, -1))

    @property
    def b_Q(self) -> Float[Tensor, "h k"]:
        return self._split_bias(0)

    @property
    def b_K(self) -> Float[Tensor, "h k"]:
        return self._split_bias(1)

    @property
    def b_V(self) -> Float[Tensor, "h k"]:
        return self._split_bias(2)

    @property
    def b_O(self) -> Float[Tensor, " d"]:
        return self.scale(self.out.bias_or_zeros())

    def _split_weight(self, part: int) -> Float[Tensor, "h d k"]:
        return self.qkv.weight.unflatten(0, (3, self.n_heads, -1))[part].transpose(1, 2)

    def _split_bias(self, part: int) -> Float[Tensor, "h k"]:
        return self.qkv.bias_or_zeros().unflatten(0, (3, self.n_heads, -1))[part]

    def scores(self, q: Float[Tensor, "b m h k"], key: Float[Tensor, "b n h k"]) -> Float[Tensor, "b h m n"]:
        """``q kᵀ / √k`` for any number of queries."""
        return (q.transpose(1, 2) / math.sqrt(q.shape[-1])) @ key.permute(0, 2, 3, 1)

    def pattern(self, scores: Float[Tensor, "b h m n"]) -> Float[Tensor, "b h m n"]:
        """Softmax over the keys, in float32 or better."""
        wide = torch.promote_types(scores.dtype, torch.float32)
        return scores.softmax(-1, dtype=wide).to(scores.dtype)

    def results(self, z: Float[Tensor, "b n h k"]) -> Float[Tensor, "b n h d"]:
        """Each head's output, laid out head by head in memory."""
        by_head = z.permute(2, 0, 1, 3).flatten(1, 2) @ self.W_O
        return by_head.unflatten(1, z.shape[:2]).permute(1, 2, 0, 3)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        packed = self.qkv(x).unflatten(-1, (3, self.n_heads, -1))
        # Slices, not unbind or chunk: a hook may edit a slice in place while gradients are on.
        q, key, v = self.hook_q(packed[:, :, 0]), self.hook_k(packed[:, :, 1]), self.hook_v(packed[:, :, 2])
        if self.hook_attn_scores.has_hooks() or self.hook_pattern.has_hooks():
            pattern = self.pattern(self.hook_attn_scores(self.scores(q, key)))
            heads_first = self.hook_pattern(editable(pattern, self.hook_pattern)) @ v.transpose(1, 2)
        else:
            heads_first = nn.functional.scaled_dot_product_attention(
                q.transpose(1, 2), key.transpose(1, 2), v.transpose(1, 2)
            )
        z = self.hook_z(editable(heads_first.transpose(1, 2), self.hook_z))
        if self.hook_result.has_hooks():
            return self.hook_result(self.results(z)).sum(2) + self.b_O
        return self.scale(self.out(z.flatten(2)))
