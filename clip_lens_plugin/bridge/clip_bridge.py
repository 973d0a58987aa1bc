"""A bridge on which TransformerLens's calls give what they give on a ``HookedCLIP`` of the same weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from typing import Any, ClassVar

from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.utilities.slice import Slice

from clip_lens_plugin.bridge.model import hooked_of
from clip_lens_plugin.layers.attention_pool import is_of_query
from clip_lens_plugin.model.text.labels import Labels
from clip_lens_plugin.upstream.of_transformer_lens import adopt_hooks, fires, sliced_dimension


class CLIPBridge(TransformerBridge):
    """A ``TransformerBridge`` of an image tower, with text labels as its vocabulary as in a ``HookedCLIP``.

    ``hook_embed`` is the stream that enters block 0, after ``ln_pre`` where there is one. Weights are those of the
    model, never folded or centred.
    """

    hook_aliases: ClassVar[dict[str, Any]] = {"hook_embed": ["ln_pre.hook_out", "embed.hook_out"]}

    @classmethod
    def adopt(cls, bridge: TransformerBridge) -> None:
        """Makes the bridge one of these. TransformerLens makes every bridge itself, of a class of its own."""
        object.__setattr__(bridge, "__class__", cls)
        adopt_hooks(bridge, cls.hook_aliases)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes along: the labels are kept with the ``HookedCLIP``, which a copy makes anew."""
        return {**self.__dict__, "_labels": self.labels}

    # ------------------------------------------------------------------ running

    def get_caching_hooks(self, names_filter: Any = None, *args: Any, pos_slice: Any = None, **kwargs: Any):
        """As in TransformerLens; without a filter the cache has every name, as that of ``run_with_cache``."""
        points = self.hook_dict

        def is_run(name: str) -> bool:
            return fires(self, points[name].name or name)

        wanted = is_run if names_filter is None else names_filter
        return super().get_caching_hooks(wanted, *args, pos_slice=_sliced(pos_slice), **kwargs)

    # Written with the one argument that is changed; the others go on as they are, whatever TransformerLens names them.
    def run_with_cache(self, *args: Any, pos_slice: Any = None, **kwargs: Any):  # type: ignore[override]
        """As in TransformerLens. Slices that ``pos_slice`` takes are copied, and the pooled stream is kept whole."""
        return super().run_with_cache(*args, pos_slice=_sliced(pos_slice), **kwargs)

    @staticmethod
    def _pos_slice_dim(name: str, hook_point: HookPoint | None = None) -> int | None:
        canonical = str(name if hook_point is None else hook_point.name)
        pixels_or_pooled = canonical == "embed.hook_in" or canonical.startswith("visual_projection.")
        if pixels_or_pooled or is_of_query(canonical):
            return None
        return sliced_dimension(name, hook_point)

    # ------------------------------------------------------------------ weights

    def process_weights(self, *args: Any, **kwargs: Any) -> None:
        """Refused: a ``HookedCLIP`` has the model's own weights.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"The weights of {self.cfg.model_name} stay as they are: folding or centring them would change what its "
            f"parts mean. Leave out process_weights and enable_compatibility_mode: TransformerLens's names "
            f"(hook_embed, blocks.0.attn.hook_z, ...) are there without them, and a tool that asks for compatibility "
            f"mode takes as_hooked_clip(bridge)."
        )

    # Of another signature in TransformerLens, but both always refuse.
    enable_compatibility_mode = process_weights  # type: ignore[assignment]

    def accumulated_bias(
        self, layer: int, mlp_input: bool = False, include_mlp_biases: bool = True
    ) -> Float[Tensor, " d"]:
        return hooked_of(self).accumulated_bias(layer, mlp_input, include_mlp_biases)

    def get_params(self) -> dict[str, Tensor]:
        return hooked_of(self).tl_parameters()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> CLIPBridge:
        super()._apply(fn, recurse)
        weight = self.ln_final.w
        self.cfg.device, self.cfg.dtype = str(weight.device), weight.dtype
        return self

    # ------------------------------------------------------------------ text labels as the vocabulary

    @property
    def labels(self) -> Labels | None:
        """Text labels set by :meth:`set_labels`, or None."""
        return hooked_of(self).labels

    def set_labels(self, names: Iterable[str], embeddings: Float[Tensor, "t e"] | None = None) -> None:
        """See :meth:`~clip_lens_plugin.model.hooked_clip.HookedCLIP.set_labels`."""
        hooked = hooked_of(self)
        hooked.set_labels(names, embeddings)
        self.cfg.d_vocab = self.cfg.d_vocab_out = hooked.cfg.d_vocab

    @property
    def W_U(self) -> Float[Tensor, "d t"]:
        return hooked_of(self).W_U

    @property
    def b_U(self) -> Float[Tensor, " t"]:
        return hooked_of(self).b_U

    def unembed(self, normalized: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch t"]:
        """Dot products with the labels' embeddings, from ``ln_final``'s output."""
        return hooked_of(self).unembed(normalized)

    def to_single_token(self, string: str) -> int:
        """Position of a label. Raises ValueError for an unknown one."""
        return hooked_of(self).to_single_token(string)

    def to_tokens(self, input: str | list[str], *args: Any, **kwargs: Any) -> Int[Tensor, " t"]:
        """Positions of labels. Raises ValueError for an unknown one."""
        return hooked_of(self).to_tokens(input)

    def tokens_to_residual_directions(
        self, tokens: str | int | list[str] | Int[Tensor, "..."]
    ) -> Float[Tensor, "... d"]:
        """See :meth:`~clip_lens_plugin.model.hooked_clip.HookedCLIP.tokens_to_residual_directions`."""
        return hooked_of(self).tokens_to_residual_directions(tokens)

    def to_string(self, *args: Any, **kwargs: Any) -> str:
        """Refused: there is no tokenizer whose tokens an image has.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "An image is no text, so a bridge of an image tower has no tokens to show as text. Its vocabulary is its "
            "labels: bridge.labels.names[i] is the label at position i."
        )

    # Of other signatures in TransformerLens, but all always refuse.
    to_str_tokens = to_single_str_token = get_token_position = to_string  # type: ignore[assignment]

    @property
    def W_E(self) -> Tensor:
        raise AttributeError("An image is not made of tokens of a vocabulary, so there are no token embeddings W_E.")


class PositionSlice(Slice):
    """Some of the positions, as copies that do not keep the others in memory; all of what has no positions."""

    def apply(self, tensor: Tensor, dim: int | None = 0) -> Tensor:
        if dim is None or self.mode == "identity":
            return tensor
        return super().apply(tensor, dim).clone()


def _sliced(pos_slice: Any) -> Slice:
    found = copy(Slice.unwrap(pos_slice))
    found.__class__ = PositionSlice
    return found
