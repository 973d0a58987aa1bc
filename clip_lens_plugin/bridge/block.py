"""A block of a bridge, computed step by step as a ``HookedCLIP`` does: an edit at any hook point moves the output."""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.conversion_utils.conversion_steps.base_tensor_conversion import BaseTensorConversion
from transformer_lens.model_bridge.generalized_components import (
    AttentionBridge,
    BlockBridge,
    MLPBridge,
    NormalizationBridge,
)
from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent

from clip_lens_plugin.dependencies.names import overriding
from clip_lens_plugin.dependencies.of_transformer_lens import reads_mlp_in, stop_before
from clip_lens_plugin.layers.attention.circuits import Circuits
from clip_lens_plugin.layers.attention.output_projection import results
from clip_lens_plugin.layers.attention.qkv import SplitQKV, by_head
from clip_lens_plugin.layers.attention.softmax_attention import attention_pattern, attention_scores
from clip_lens_plugin.layers.editable import editable
from clip_lens_plugin.layers.hook_point import HookPoint
from clip_lens_plugin.layers.inputs import OF_HEADS, SWITCHES, Inputs, head_inputs
from clip_lens_plugin.layers.layer_norm import LayerNorm
from clip_lens_plugin.layers.weight_refs import Affine, Norm


class LiveNormBridge(NormalizationBridge):
    """A LayerNorm whose scale and normalised stream are live, in place too: a ``HookedCLIP``'s on these hook points.

    TransformerLens's own does not see an activation that a hook edits without returning it.
    """

    property_aliases: ClassVar[dict[str, str]] = {}

    def set_original_component(self, original_component: nn.Module) -> None:
        super().set_original_component(original_component)
        assert isinstance(original_component, nn.LayerNorm)
        norm = LayerNorm(Norm(original_component))
        self.hook_scale, self.hook_normalized = norm.hook_scale, norm.hook_normalized
        object.__setattr__(self, "_norm", norm)  # Not as a child: its hook points have one owner.

    @property
    def plain(self) -> Norm:
        """The same without hook points."""
        return self._norm.norm

    @property
    def w(self) -> Float[Tensor, " d"]:
        """γ."""
        return self._norm.w

    @property
    def b(self) -> Float[Tensor, " d"]:
        """β."""
        return self._norm.b

    def forward(self, hidden_states: Float[Tensor, "*batch d"], **_: Any) -> Float[Tensor, "*batch d"]:
        return self.hook_out(self._norm(self.hook_in(hidden_states)))


class LiveMLPBridge(MLPBridge):
    """TransformerLens's MLP, whose biases are read at each use and not kept from when it was made."""

    property_aliases: ClassVar[dict[str, str]] = {}

    @property
    def b_in(self) -> Float[Tensor, " d_mlp"]:
        return getattr(self, "in").bias

    @property
    def b_out(self) -> Float[Tensor, " d"]:
        return self.out.bias


@overriding("transformer_lens", "_setup_qkv_hook_reshaping")
class LiveAttentionBridge(Circuits, AttentionBridge):
    """The attention of CLIP's and SigLIP's image towers, computed step by step.

    TransformerLens's own runs Hugging Face's module and shows the pattern afterwards, when an edit no longer counts.
    """

    supports_split_qkv_fork: bool = False
    """Tells TransformerLens not to make the hook points that this class makes itself."""
    supports_attn_result: bool = True
    property_aliases: ClassVar[dict[str, str]] = {}
    hook_pattern: HookPoint

    def __init__(self, name: str, config: Any, submodules: dict[str, GeneralizedComponent]) -> None:
        super().__init__(name, config, submodules, is_causal=False)
        self._width: int = config.d_head
        for point in ("hook_attn_scores", "hook_pattern", "hook_result", *OF_HEADS):
            setattr(self, point, HookPoint())

    def forward(
        self,
        hidden_states: Float[Tensor, "b n d"],
        attention_mask: Tensor | None = None,
        stream: Float[Tensor, "b n d"] | None = None,
        norm: Norm | None = None,
        **_: Any,
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b h n n"]]:
        """The attention's output, and its pattern.

        Args:
            hidden_states: the normalised stream.
            attention_mask: one that keeps every token.
            stream: as it is before the block's norm.
            norm: that norm.

        Raises:
            ValueError: if some tokens are masked, which no tower of these has at its own image size.
        """
        # A boolean mask keeps what is true; one of numbers is added to the scores.
        masked = attention_mask is not None and bool((attention_mask != attention_mask.max()).any())
        if masked:
            raise ValueError(
                "An image with masked tokens is not supported in the bridge; give square images at the model's own "
                "size, of which every patch counts."
            )
        x = self.hook_in(hidden_states)
        inputs = None if stream is None else self._head_inputs(stream, x, norm)
        q, k, v = (self._part(number, x, own) for number, own in enumerate(inputs or (None, None, None)))
        pattern = attention_pattern(self.hook_attn_scores(attention_scores(q, k)))
        pattern = self.hook_pattern(editable(pattern, self.hook_pattern))
        source: Any = self.original_component
        used = nn.functional.dropout(pattern, source.dropout, self.training)
        z = (used @ v.transpose(1, 2)).transpose(1, 2).flatten(2)
        config: Any = self.config
        with_results = config.use_attn_result and self.hook_result.has_hooks()
        return self.hook_out(self._through_results(z) if with_results else self.o(z)), pattern

    def _head_inputs(
        self, stream: Float[Tensor, "b n d"], x: Float[Tensor, "b n d"], norm: Norm | None
    ) -> Inputs | None:
        switches = [name for name in SWITCHES if getattr(self.config, name)]
        points = {point: getattr(self, point) for name in switches for point in SWITCHES[name] if point in OF_HEADS}
        return head_inputs(points, stream, x, norm, stream.shape[-1] // self._width) if points else None

    def _part(self, number: int, x: Float[Tensor, "b n d"], own: Tensor | None) -> Float[Tensor, "b n h k"]:
        """Queries (0), keys (1) or values (2), of what all heads read or of each head's own."""
        parts: Any = (self.q, self.k, self.v)
        if own is None:
            flat = parts[number](x)
        else:
            qkv = SplitQKV(*(Affine(part.original_component) for part in parts))
            flat = parts[number].hook_out(by_head(qkv, number, own).flatten(2))
        return flat.unflatten(-1, (-1, self._width))

    def _setup_qkv_hook_reshaping(self) -> None:
        """Shows what belongs to the heads by head. TransformerLens's own cannot be pickled."""
        for point in (self.q.hook_out, self.k.hook_out, self.v.hook_out, self.o.hook_in):
            point.hook_conversion = ByHead(self._width)

    def _through_results(self, z: Float[Tensor, "b n hk"]) -> Float[Tensor, "b n d"]:
        heads = self.o.hook_in(z).unflatten(-1, (-1, self._width))
        written = self.hook_result(results(heads, self.W_O))
        return self.o.hook_out(written.sum(2) + self.b_O)


class VisionBlockBridge(BlockBridge):
    """A pre-norm block. An edit of ``hook_resid_mid`` moves the stream, and not only what the MLP reads of it."""

    hook_aliases: ClassVar[dict[str, Any]] = {
        name: at for name, at in BlockBridge.hook_aliases.items() if name != "hook_resid_mid"
    }

    def __init__(self, name: str, submodules: dict[str, GeneralizedComponent]) -> None:
        super().__init__(name, submodules=submodules)
        self.hook_resid_mid, self.hook_mlp_in = HookPoint(), HookPoint()

    def forward(
        self, hidden_states: Float[Tensor, "b n d"], attention_mask: Tensor | None = None, **_: Any
    ) -> Float[Tensor, "b n d"]:
        """The stream after the block.

        Raises:
            StopAtLayerException: if the run is to stop before it.
        """
        stop_before(self, hidden_states)
        pre = self.hook_in(hidden_states)
        attended = self.attn(self.ln1(pre), attention_mask=attention_mask, stream=pre, norm=self.ln1.plain)
        mid = self.hook_resid_mid(pre + attended[0])
        read = self.hook_mlp_in(mid.clone()) if reads_mlp_in(self) else mid
        return self.hook_out(mid + self.mlp(self.ln2(read)))


class ByHead(BaseTensorConversion):
    """What the heads have side by side [b, n, h k], as hooks see it: [b, n, h, k].

    Args:
        width: k.
    """

    splits_attention_heads = True
    """Tells TransformerLens so."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self._width = width

    def handle_conversion(self, input_value: Float[Tensor, "b n hk"], *full_context: Any) -> Float[Tensor, "b n h k"]:
        return input_value.unflatten(-1, (-1, self._width))

    def revert(self, input_value: Float[Tensor, "b n h k"], *full_context: Any) -> Float[Tensor, "b n hk"]:
        return input_value.flatten(2)
