"""One pre-norm transformer block."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.layers.attention.attention import Attention
from clip_lens_plugin.layers.hook_point import HookPoint
from clip_lens_plugin.layers.inputs import SwitchedInputs
from clip_lens_plugin.layers.layer_norm import LayerNorm
from clip_lens_plugin.layers.mlp import MLP


class Block(SwitchedInputs):
    """``mid = pre + attn(ln1(pre))``, ``post = mid + mlp(ln2(mid))``; no ln1 and ln2 where the source has none."""

    hook_out_is_single_residual_stream = True
    """Tells TransformerLens's logit lens that ``hook_resid_post`` is the stream that is read out."""

    def __init__(self, ln1: LayerNorm | None, attn: Attention, ln2: LayerNorm | None, mlp: MLP) -> None:
        super().__init__()
        self.hook_resid_pre = HookPoint()
        if ln1 is not None:
            self.ln1 = ln1
        self.attn = attn
        self.hook_attn_out = HookPoint()
        self.hook_resid_mid = HookPoint()
        if ln2 is not None:
            self.ln2 = ln2
        self.mlp = mlp
        self.hook_mlp_out = HookPoint()
        self.hook_resid_post = HookPoint()
        self._has_norms = ln1 is not None, ln2 is not None

    @property
    def first_norm(self) -> LayerNorm | None:
        """``ln1``, which the heads read through; None where the source has none."""
        return self.ln1 if self._has_norms[0] else None

    def forward(
        self, x: Float[Tensor, "b n d"], mask: Float[Tensor, "#b #h n n"] | None = None
    ) -> Float[Tensor, "b n d"]:
        return self.after_attention(self.through_attention(x, mask))

    def through_attention(
        self, x: Float[Tensor, "b n d"], mask: Float[Tensor, "#b #h n n"] | None = None
    ) -> Float[Tensor, "b n d"]:
        """The stream between attention and MLP."""
        pre = self.hook_resid_pre(x)
        return self.hook_resid_mid(pre + self.hook_attn_out(self._attended(pre, mask)))

    def after_attention(self, mid: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """The stream after the block, from that between attention and MLP: of each token by itself."""
        read = self.mlp_input(mid)
        return self.hook_resid_post(mid + self.hook_mlp_out(self.mlp(self.ln2(read) if self._has_norms[1] else read)))

    def _attended(self, pre: Float[Tensor, "b n d"], mask: Float[Tensor, "#b #h n n"] | None) -> Float[Tensor, "b n d"]:
        read = self.ln1(pre) if self._has_norms[0] else pre
        return self.attn(read, mask, self.head_inputs(pre, read, self.attn.n_heads))
