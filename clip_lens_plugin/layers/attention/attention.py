"""Multi-head self-attention with TransformerLens's hook points and weight names."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from clip_lens_plugin.layers.attention.circuits import Circuits
from clip_lens_plugin.layers.attention.output_projection import AttentionOutput, results
from clip_lens_plugin.layers.attention.qkv import QKV, Prepare, Rotary, by_head
from clip_lens_plugin.layers.attention.softmax_attention import attention_pattern, attention_scores
from clip_lens_plugin.layers.editable import editable
from clip_lens_plugin.layers.hook_point import HookPoint
from clip_lens_plugin.layers.inputs import Inputs


class Attention(Circuits, nn.Module):
    """``Σ_h softmax(Q_h K_hᵀ / √k) V_h W_O[h] + b_O``.

    Scores of a token that a query must not see are minus infinity, by a mask that is added to them: a text tower's.
    The fused kernel runs while nobody listens to ``hook_attn_scores`` or ``hook_pattern``, and one product with
    all heads' outputs while nobody listens to ``hook_result``. Where the source has a LayerScale, it is part of
    ``W_O`` and ``b_O``, so heads are measured as they reach the stream.

    Where the source turns or normalises queries and keys, ``hook_rot_q`` and ``hook_rot_k`` follow ``hook_q`` and
    ``hook_k``. Where it normalises what heads put out, ``hook_z_scale`` [b, n, 1] is the norm's scale, and ``hook_z``
    is divided by it, so that ``W_O`` maps it to the stream; a norm after ``W_O`` divides a part of the bias as well,
    by ``hook_bias_scale`` [b, n, 1]. As with every LayerNorm, an edit of what was divided leaves the scale as it was.

    Args:
        qkv: projections of the stream.
        out: from the heads' outputs to the stream.
        n_heads: h.
        prepare_q, prepare_k: what is done to queries and keys before their product; None for nothing.
    """

    def __init__(
        self,
        qkv: QKV,
        out: AttentionOutput,
        n_heads: int,
        prepare_q: Prepare | None = None,
        prepare_k: Prepare | None = None,
    ) -> None:
        super().__init__()
        self.qkv, self.out, self.n_heads = qkv, out, n_heads
        self._prepare_q, self._prepare_k = prepare_q, prepare_k
        self.hook_q = HookPoint()
        self.hook_k = HookPoint()
        self.hook_v = HookPoint()
        if prepare_q is not None:
            self.hook_rot_q = HookPoint()
            self.hook_rot_k = HookPoint()
        self.hook_attn_scores = HookPoint()
        self.hook_pattern = HookPoint()
        if out.has_scale:
            self.hook_z_scale = HookPoint()
        if out.outer is not None:
            self.hook_bias_scale = HookPoint()
        self.hook_z = HookPoint()
        self.hook_result = HookPoint()

    @property
    def compared(self) -> tuple[str, str]:
        """The hook points of the queries and keys whose products are the scores."""
        return ("hook_q", "hook_k") if self._prepare_q is None else ("hook_rot_q", "hook_rot_k")

    @property
    def turns(self) -> bool:
        """Whether queries and keys are turned by rotary positions."""
        return isinstance(self._prepare_q, Rotary)

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
        return self.out.W_O

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
        return self.out.b_O

    def _split_weight(self, part: int) -> Float[Tensor, "h d k"]:
        return self.qkv.part(part)[0].unflatten(0, (self.n_heads, -1)).transpose(1, 2)

    def _split_bias(self, part: int) -> Float[Tensor, "h k"]:
        return self.qkv.part(part)[1].unflatten(0, (self.n_heads, -1))

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        mask: Float[Tensor, "#b #h n n"] | None = None,
        inputs: Inputs | None = None,
    ) -> Float[Tensor, "b n d"]:
        """What the heads write.

        Args:
            x: the normalised stream.
            mask: is added to the scores.
            inputs: what each head reads in the stream's place for its queries, keys and values.
        """
        q, key, v = self.qkv(x, self.n_heads)
        if inputs is not None:
            q, key, v = (
                same if own is None else by_head(self.qkv, number, own)
                for number, (own, same) in enumerate(zip(inputs, (q, key, v), strict=True))
            )
        q, key, v = self.hook_q(q), self.hook_k(key), self.hook_v(v)
        if self._prepare_q is not None and self._prepare_k is not None:
            q, key = self.hook_rot_q(self._prepare_q(q)), self.hook_rot_k(self._prepare_k(key))
        if self.hook_attn_scores.has_hooks() or self.hook_pattern.has_hooks():
            scores = attention_scores(q, key)
            pattern = attention_pattern(self.hook_attn_scores(scores if mask is None else scores + mask))
            heads_first = self.hook_pattern(editable(pattern, self.hook_pattern)) @ v.transpose(1, 2)
        else:
            heads_first = nn.functional.scaled_dot_product_attention(
                q.transpose(1, 2), key.transpose(1, 2), v.transpose(1, 2), mask
            )
        z = heads_first.transpose(1, 2)
        if self.out.has_scale:
            return self._written_over_scale(z)
        z = self.hook_z(editable(z, self.hook_z))
        if self.hook_result.has_hooks():
            return self.hook_result(results(z, self.W_O)).sum(2) + self.b_O
        return self.out(z)

    def _written_over_scale(self, z: Float[Tensor, "b n h k"]) -> Float[Tensor, "b n d"]:
        points = [self.hook_z_scale, self.hook_z, self.hook_result]
        points += [] if self.out.outer is None else [self.hook_bias_scale]
        if not any(point.has_hooks() for point in points):
            return self.out(z)
        scale, bias_scale = self.out.scales(z)
        z = self.hook_z((z / self.hook_z_scale(scale)[..., None]).to(z.dtype))
        if self.hook_result.has_hooks():
            written = self.hook_result(results(z, self.W_O)).sum(2)
        else:
            written = z.flatten(2) @ self.W_O.flatten(0, 1)
        bias = self.b_O
        if bias_scale is not None:
            bias = bias + (self.out.b_scaled / self.hook_bias_scale(bias_scale)).to(bias.dtype)
        return written + bias
