"""Attention pooling: one learned query reads the tokens, as in SigLIP, CoCa and PE."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clip_lens_plugin.layers.attention.softmax_attention import attention_pattern, attention_scores
from clip_lens_plugin.layers.editable import editable
from clip_lens_plugin.layers.hook_point import HookPoint
from clip_lens_plugin.layers.layer_norm import LayerNorm
from clip_lens_plugin.layers.mlp import MLP
from clip_lens_plugin.layers.pooling.pooling import SCALE
from clip_lens_plugin.layers.weight_refs import Affine

PATTERN, Z, MLP_OUT = "pool.hook_pattern", "pool.hook_z", "pool.hook_mlp_out"
POST_SCALE, OUT = "pool.ln_post.hook_scale", "pool.hook_out"


def is_of_query(name: str) -> bool:
    """Whether a hook point of a pool is seen once for an image, and not at each position."""
    return name.startswith("pool.") and name not in ("pool.hook_in", "pool.hook_k", "pool.hook_v")


class AttentionPool(nn.Module):
    """``o = Σ_p softmax(q_p K_pᵀ / √k) V_p W_O[p] + b_O`` of the normalised stream; then its MLP or LayerNorm.

    With an MLP (SigLIP, PE) the pooled vector is ``o + mlp(ln2(o))``; with ``ln_post`` (CoCa) it is ``ln_post(o)``.
    With its pattern a frozen, ``ω[p, q]`` is ``a[p, q] / σ_q``, over ln_post's σ where there is one, and the map of
    head p is ``W_V[p] W_O[p] P``. Hook points (p heads, k their width, n tokens that are read): ``hook_q``
    [b, 1, p, k], ``hook_k`` and ``hook_v`` [b, n, p, k], ``hook_attn_scores`` and ``hook_pattern`` [b, p, 1, n],
    ``hook_z`` [b, 1, p, k], ``hook_attn_out`` and ``hook_mlp_out`` [b, 1, d], ``hook_out`` [b, 1, d].

    Args:
        query: the query before its projection [d_query], read at each use.
        q, key, value: projections; the values' output width is p · k.
        out: projection of the heads' outputs.
        n_heads: p.
        first: position of the first token that is read.
        ln2, mlp: the residual MLP; None where there is none.
        ln_post: LayerNorm after the pool; None where there is none.
    """

    name = "attention"
    reads_class_token_alone = False
    output = OUT

    def __init__(
        self,
        query: Callable[[], Tensor],
        q: Callable[[Tensor], Tensor],
        key: Affine,
        value: Affine,
        out: Affine,
        n_heads: int,
        first: int = 0,
        ln2: LayerNorm | None = None,
        mlp: MLP | None = None,
        ln_post: LayerNorm | None = None,
    ) -> None:
        super().__init__()
        self._query, self._q, self._key, self._value, self._out = query, q, key, value, out
        self.n_heads, self._first = n_heads, first
        self.hook_q = HookPoint()
        self.hook_k = HookPoint()
        self.hook_v = HookPoint()
        self.hook_attn_scores = HookPoint()
        self.hook_pattern = HookPoint()
        self.hook_z = HookPoint()
        self.hook_attn_out = HookPoint()
        if ln2 is not None and mlp is not None:
            self.ln2, self.mlp = ln2, mlp
            self.hook_mlp_out = HookPoint()
        if ln_post is not None:
            self.ln_post = ln_post
        self.hook_out = HookPoint()
        self._has_mlp, self._has_post = mlp is not None, ln_post is not None

    @property
    def W_V(self) -> Float[Tensor, "p d k"]:
        return self._value.weight.unflatten(0, (self.n_heads, -1)).transpose(1, 2)

    @property
    def b_V(self) -> Float[Tensor, "p k"]:
        return self._value.bias_or_zeros().unflatten(0, (self.n_heads, -1))

    @property
    def W_O(self) -> Float[Tensor, "p k d_pool"]:
        return self._out.weight.T.unflatten(0, (self.n_heads, -1))

    @property
    def b_O(self) -> Float[Tensor, " d_pool"]:
        return self._out.bias_or_zeros()

    # ------------------------------------------------------------------ running

    def __call__(self, stream: Float[Tensor, "b n d"], ln_final: LayerNorm) -> Float[Tensor, "b d_pool"]:
        return super().__call__(stream, ln_final)

    def forward(self, stream: Float[Tensor, "b n d"], ln_final: LayerNorm) -> Float[Tensor, "b d_pool"]:
        return self.after_norm(ln_final(stream))

    def after_norm(self, normalized: Float[Tensor, "b n d"]) -> Float[Tensor, "b d_pool"]:
        x = normalized[:, self.positions]
        heads = (self.n_heads, -1)
        q = self._q(self._query()).unflatten(-1, heads)
        q = self.hook_q(q.repeat(len(x), 1, 1, 1))  # Copies: a hook may edit them in place.
        key = self.hook_k(self._key(x).unflatten(-1, heads))
        v = self.hook_v(self._value(x).unflatten(-1, heads))
        pattern = attention_pattern(self.hook_attn_scores(attention_scores(q, key)))
        pattern = self.hook_pattern(editable(pattern, self.hook_pattern))
        z = self.hook_z(editable((pattern @ v.transpose(1, 2)).transpose(1, 2), self.hook_z))
        pooled = self.hook_attn_out(self._out(z.flatten(2)))
        if self._has_mlp:
            pooled = pooled + self.hook_mlp_out(self.mlp(self.ln2(pooled)))
        if self._has_post:
            pooled = self.ln_post(pooled)
        return self.hook_out(pooled)[:, 0]

    def pooled(
        self, output: Float[Tensor, "b 1 d_pool"], ln_final: LayerNorm, dtype: torch.dtype
    ) -> Float[Tensor, "b d_pool"]:
        return output[:, 0]

    def of_each(self, stream: Float[Tensor, "b n d"], ln_final: LayerNorm) -> Float[Tensor, "b n d_pool"]:
        # The attention to the only token is 1, whatever query and key are.
        pooled = self._out(self._value(ln_final(stream)))
        if self._has_mlp:
            pooled = pooled + self.mlp(self.ln2(pooled))
        return self.ln_post(pooled) if self._has_post else pooled

    # ------------------------------------------------------------------ as a linear map

    @property
    def positions(self) -> slice:
        return slice(self._first, None)

    @property
    def reads(self) -> tuple[str, ...]:
        return (SCALE, PATTERN, Z, *((MLP_OUT,) * self._has_mlp), *((POST_SCALE,) * self._has_post))

    @property
    def parts(self) -> tuple[str, ...]:
        return ("pool_bias", *(("pool_mlp",) * self._has_mlp))

    def bound(self, read: Mapping[str, Tensor]) -> AttentionPool:
        return self

    def rows(self, x: Tensor, dim: int = 1) -> Tensor:
        return x

    def n_rows(self, n_ctx: int) -> int:
        return n_ctx - self._first

    def kept(self, name: str, activation: Tensor) -> Tensor:
        return activation[:, self.positions] if name == SCALE else activation

    def omega(self, read: Mapping[str, Tensor]) -> Float[Tensor, "b p r"]:
        return self._attended(read) / read[SCALE].transpose(1, 2)

    def narrow_maps(self, P: Float[Tensor, "d_pool e"]) -> tuple[Float[Tensor, "p d k"], Float[Tensor, "p k e"]]:
        return self.W_V.to(P), self.W_O.to(P) @ self._tail(P)

    def bias_weights(self, read: Mapping[str, Tensor]) -> Float[Tensor, "b w"]:
        """What each head attends to in all, and that of b_O, over ``ln_post``'s scale: w is p + 1."""
        return torch.cat([self._attended(read).sum(-1), self._post_scale(read).reciprocal()], dim=1)

    def bias_directions(self, beta: Float[Tensor, " d"], P: Float[Tensor, "d_pool e"]) -> Float[Tensor, "w e"]:
        values = beta @ self.W_V.to(P) + self.b_V.to(P)
        by_head = torch.einsum("pk,pkd->pd", values, self.W_O.to(P))
        return torch.cat([by_head, self.b_O.to(P)[None]]) @ self._tail(P)

    def own_parts(
        self, read: Mapping[str, Tensor], beta: Float[Tensor, " d"], P: Float[Tensor, "d_pool e"]
    ) -> dict[str, Float[Tensor, "b e"]]:
        biases = {"pool_bias": self.bias_weights(read) @ self.bias_directions(beta, P)}
        return {**biases, "pool_mlp": read[MLP_OUT][:, 0] @ P} if self._has_mlp else biases

    def constant(self, beta: Float[Tensor, " d"], P: Float[Tensor, "d_pool e"]) -> Float[Tensor, " e"]:
        return self.ln_post.b.to(P) @ P if self._has_post else P.new_zeros(P.shape[1])

    def _tail(self, P: Float[Tensor, "d_pool e"]) -> Float[Tensor, "d_pool e"]:
        """From the pool's output to the joint space, without ln_post's scale."""
        if not self._has_post:
            return P
        scaled = self.ln_post.w.to(P)[:, None] * P
        return scaled - scaled.mean(0)

    def _post_scale(self, read: Mapping[str, Tensor]) -> Float[Tensor, "b 1"]:
        return read[POST_SCALE][:, 0] if self._has_post else read[SCALE].new_ones(len(read[SCALE]), 1)

    def _attended(self, read: Mapping[str, Tensor]) -> Float[Tensor, "b p r"]:
        """The pattern over ln_post's scale; zero for a pool head whose output a hook set to zero."""
        ablated = (read[Z] == 0).all(-1).transpose(1, 2)
        return read[PATTERN][:, :, 0].masked_fill(ablated, 0.0) / self._post_scale(read)[..., None]
