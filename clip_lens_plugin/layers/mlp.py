"""The MLP of a block with TransformerLens's hook points and weight names."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from clip_lens_plugin.layers.hook_point import HookPoint
from clip_lens_plugin.layers.layer_norm import LayerNorm
from clip_lens_plugin.layers.weight_refs import Affine, Scale


class MLP(nn.Module):
    """``act(x W_in + b_in) W_out + b_out``, a LayerScale being part of ``W_out`` and ``b_out``.

    With a gate (SwiGLU) it is ``(act(x W_gate + b_gate) ⊙ (x W_in + b_in)) W_out + b_out``: ``hook_pre`` is then the
    gate before ``act``, and ``hook_pre_linear`` what it gates. With a norm over the neurons (``ln``), ``hook_mid``
    comes before it. ``hook_post`` is what ``W_out`` multiplies, always.

    Args:
        into, out: projections.
        act: activation.
        scale: LayerScale.
        gate: projection of the gate; None for none.
        ln: LayerNorm over the neurons; None for none.
        ln_out: LayerNorm over what the MLP writes (post-norm blocks), which ``W_out`` and ``b_out`` come before; None
            for none.
    """

    def __init__(
        self,
        into: Affine,
        act: nn.Module,
        out: Affine,
        scale: Scale,
        gate: Affine | None = None,
        ln: LayerNorm | None = None,
        ln_out: LayerNorm | None = None,
    ) -> None:
        super().__init__()
        self.into, self.act, self.out, self.scale, self.gate = into, act, out, scale, gate
        self.hook_pre = HookPoint()
        if gate is not None:
            self.hook_pre_linear = HookPoint()
        if ln is not None:
            self.hook_mid, self.ln = HookPoint(), ln
        self.hook_post = HookPoint()
        if ln_out is not None:
            self.ln_out = ln_out
        self._normalises_neurons, self.normalises_output = ln is not None, ln_out is not None

    @property
    def W_in(self) -> Float[Tensor, "d d_mlp"]:
        return self.into.weight.T

    @property
    def b_in(self) -> Float[Tensor, " d_mlp"]:
        return self.into.bias_or_zeros()

    @property
    def W_gate(self) -> Float[Tensor, "d d_mlp"] | None:
        return None if self.gate is None else self.gate.weight.T

    @property
    def b_gate(self) -> Float[Tensor, " d_mlp"] | None:
        return None if self.gate is None else self.gate.bias_or_zeros()

    @property
    def W_out(self) -> Float[Tensor, "d_mlp d"]:
        return self.scale(self.out.weight.T)

    @property
    def b_out(self) -> Float[Tensor, " d"]:
        return self.scale(self.out.bias_or_zeros())

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        if self.gate is None:
            active = self.act(self.hook_pre(self.into(x)))
        else:
            active = self.act(self.hook_pre(self.gate(x))) * self.hook_pre_linear(self.into(x))
        if self._normalises_neurons:
            active = self.ln(self.hook_mid(active))
        out = self.out(self.hook_post(active))
        return self.scale(self.ln_out(out) if self.normalises_output else out)
