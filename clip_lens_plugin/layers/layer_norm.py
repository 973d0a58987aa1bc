"""LayerNorm with TransformerLens's two hook points."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clip_lens_plugin.layers.hook_point import HookPoint
from clip_lens_plugin.layers.weight_refs import Norm


class LayerNorm(nn.Module):
    """``(x − mean) / σ ⊙ γ + β``.

    ``hook_scale`` is σ [b, n, 1]; ``hook_normalized`` is (x − mean) / σ [b, n, d], before γ and β. While nobody
    listens to either, the source's own fused LayerNorm runs; and on the processor, without gradients, where a hook only
    looks at σ.
    """

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.norm = norm
        self.hook_scale = HookPoint()
        self.hook_normalized = HookPoint()

    @property
    def w(self) -> Float[Tensor, " d"]:
        """γ."""
        return self.norm.module.weight

    @property
    def b(self) -> Float[Tensor, " d"]:
        """β."""
        return self.norm.module.bias

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        if not (self.hook_scale.has_hooks() or self.hook_normalized.has_hooks()):
            return self.norm(x)
        if not self.hook_normalized.has_hooks() and x.device.type == "cpu" and not torch.is_grad_enabled():
            return self._with_scale_seen(x)
        normalized, scale = self.norm.normalized_and_scale(x)
        if self.hook_scale.has_hooks():
            # σ / σ is one exactly: a hook that only listens leaves every bit. To compare would wait for the GPU.
            normalized = normalized * (scale / self.hook_scale(scale.clone()))
        return self.norm.apply_affine(self.hook_normalized(normalized), x.dtype)

    def _with_scale_seen(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        fused, scale = self.norm.fused_and_scale(x)
        given = self.hook_scale(scale.clone())
        if torch.equal(given, scale):
            return fused
        normalized, _ = self.norm.normalized_and_scale(x)
        return self.norm.apply_affine(normalized * (scale / given), x.dtype)
