"""The MLP of a block with TransformerLens's hook points and weight names."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from clip_lens_plugin.components.source import Affine, Scale


class MLP(nn.Module):
    """``act(x W_in + b_in) W_out + b_out``, a LayerScale being part of ``W_out`` and ``b_out``."""

    def __init__(self, into: Affine, act: nn.Module, out: Affine, scale: Scale) -> None:
        super().__init__()
        self.into, self.act, self.out, self.scale = into, act, out, scale
        self.hook_pre = HookPoint()
        self.hook_post = HookPoint()

    @property
    def W_in(self) -> Float[Tensor, "d d_mlp"]:
        return self.into.weight.T

    @property
    def b_in(self) -> Float[Tensor, " d_mlp"]:
        return self.into.bias_or_zeros()

    @property
    def W_out(self) -> Float[Tensor, "d_mlp d"]:
        return self.scale(self.out.weight.T)

    @property
    def b_out(self) -> Float[Tensor, " d"]:
        return self.scale(self.out.bias_or_zeros())

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        pre = self.hook_pre(self.into(x))
        return self.scale(self.out(self.hook_post(self.act(pre))))
