"""A bridge on which TransformerLens's calls give what they give on a ``HookedCLIP`` of the same weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any, ClassVar

from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.exceptions import StopAtLayerException
from transformer_lens.utilities.slice import Slice

from clip_lens_plugin.bridge.model import hooked_of
from clip_lens_plugin.dependencies.names import overriding
from clip_lens_plugin.dependencies.of_transformer_lens import adopt_hooks, gate, sliced_dimension
from clip_lens_plugin.layers.pooling.attention_pool import is_of_query
from clip_lens_plugin.model.hooks.hook_names import nothing_chosen, off
from clip_lens_plugin.model.hooks.run_arguments import FOR_TEXT, checked_output, checked_stop, refuse_text_arguments
from clip_lens_plugin.model.inputs.image_tokens import pixels_of, refuse_width_for_positions
from clip_lens_plugin.model.text.labels import Labels
from clip_lens_plugin.model.text.unembed import Unembed


@overriding("transformer_lens", "_validate_attention_fork_supported", "_pos_slice_dim")
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

    def add_hook(  # type: ignore[override]
        self, name: Any, hook_fn: Any, dir: Any = "fwd", is_permanent: bool = False, prepend: bool = False
    ) -> None:
        """As in TransformerLens; with ``prepend`` before the hooks that are there, as on a :class:`HookedCLIP`."""
        if not prepend:
            return super().add_hook(name, hook_fn, dir, is_permanent)
        points = self.hook_dict
        chosen = [each for each in points if name(each)] if callable(name) else [name]
        for each, point in {points[each].name or each: points[each] for each in chosen}.items():
            self.check_hooks_to_add(point, each, hook_fn, dir=dir, is_permanent=is_permanent, prepend=True)
            point.add_hook(hook_fn, dir=dir, is_permanent=is_permanent, prepend=True)

    def get_caching_hooks(self, names_filter: Any = None, *args: Any, pos_slice: Any = None, **kwargs: Any):
        """As in TransformerLens; without a filter the cache has every name, as that of ``run_with_cache``."""
        points = self.hook_dict

        def is_run(name: str) -> bool:
            return gate(self, points[name].name or name) is None

        wanted = is_run if names_filter is None else names_filter
        return super().get_caching_hooks(wanted, *args, pos_slice=_sliced(pos_slice), **kwargs)

    def forward(  # type: ignore[override]
        self,
        input: Any,
        return_type: str | None = "embedding",
        stop_at_layer: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """As a :class:`HookedCLIP`'s: the embedding [b, e], the labels' logits [b, t], or the stream before a layer."""
        return_type, n_layers = checked_output(return_type), self.cfg.n_layers
        refuse_text_arguments(str(self.cfg.model_name), FOR_TEXT & kwargs.keys() - {"start_at_layer"})
        stop = checked_stop(stop_at_layer, n_layers)
        hooked = hooked_of(self) if return_type == "logits" else None
        if hooked is not None:
            hooked.refuse_without_labels()
        with self._stopping_after_blocks(stop == n_layers):
            found = super().forward(pixels_of(input), stop_at_layer=None if stop == n_layers else stop, **kwargs)
        if stop is not None:
            return found
        return None if return_type is None else found if hooked is None else hooked.logits(found)

    def run_with_hooks(  # type: ignore[override]
        self, input: Any, fwd_hooks: Iterable[Any] = (), *args: Any, return_type: Any = "embedding", **kwargs: Any
    ) -> Any:
        """As in TransformerLens; refuses patching functions that count an image's pixels as positions."""
        fwd_hooks = list(fwd_hooks)
        refuse_width_for_positions(self.cfg.n_ctx, [input], fwd_hooks)
        return super().run_with_hooks(pixels_of(input), fwd_hooks, *args, return_type=return_type, **kwargs)

    # Written with the arguments that are changed; the others go on as they are, whatever TransformerLens names them.
    def run_with_cache(  # type: ignore[override]
        self,
        input: Any,
        *args: Any,
        names_filter: Any = None,
        stop_at_layer: int | None = None,
        pos_slice: Any = None,
        **kwargs: Any,
    ) -> Any:
        """As in TransformerLens. Slices that ``pos_slice`` takes are copied, and the pooled stream is kept whole.

        Raises:
            HookNotFoundError: if what ``names_filter`` chooses is switched off, or is nothing.
        """
        self._refuse_empty_cache(names_filter)
        stop = checked_stop(stop_at_layer, self.cfg.n_layers)
        after_blocks = stop == self.cfg.n_layers
        kwargs |= {"names_filter": names_filter, "stop_at_layer": None if after_blocks else stop}
        with self._stopping_after_blocks(after_blocks):
            return super().run_with_cache(pixels_of(input), *args, pos_slice=_sliced(pos_slice), **kwargs)

    @contextmanager
    def _stopping_after_blocks(self, stops: bool) -> Iterator[None]:
        """Inside, a run ends with the last stream, if so."""
        with self.hooks(fwd_hooks=[("ln_final.hook_in", _stop)] if stops else []):
            yield

    def _refuse_empty_cache(self, names_filter: Any) -> None:
        if names_filter is None:
            return
        points = self.hook_dict
        gates = {name: gate(self, point.name or name) for name, point in points.items()}
        if callable(names_filter):
            chosen = [name for name in points if names_filter(name)]
            found = any(gates[name] is None for name in chosen)
        else:
            chosen = [names_filter] if isinstance(names_filter, str) else list(names_filter)
            found = all(gates.get(name) is None for name in chosen)
        if found:
            return
        closed = next((name for name in chosen if gates[name] is not None), None)
        if closed is not None:
            raise off(closed, str(gates[closed]))
        raise nothing_chosen(str(self.cfg.model_name), len(points))

    def _validate_attention_fork_supported(self, flag_name: str) -> None:
        """Every attention of these bridges has what TransformerLens looks for in classes of its own."""

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

    @property
    def unembed(self) -> Unembed:
        """From ``ln_final``'s output to the labels: an object with ``W_U`` and ``b_U`` that is called."""
        return Unembed(self)

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

    def to_string(self, tokens: Any) -> Any:
        """See :meth:`~clip_lens_plugin.model.hooked_clip.HookedCLIP.to_string`."""
        return hooked_of(self).to_string(tokens)

    def to_str_tokens(self, input: Any, *args: Any, **kwargs: Any) -> list[Any]:
        """See :meth:`~clip_lens_plugin.model.hooked_clip.HookedCLIP.to_str_tokens`."""
        return hooked_of(self).to_str_tokens(input)

    def to_single_str_token(self, int_token: int) -> str:
        """The label at one position."""
        return hooked_of(self).to_single_str_token(int_token)

    def get_token_position(self, *args: Any, **kwargs: Any) -> int:
        """Refused: an image has no tokens of a vocabulary.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "An image is no text, so there are no tokens to show or find in it. The vocabulary is the labels: "
            "bridge.labels.names[i] is the label at position i."
        )

    @property
    def W_E(self) -> Tensor:
        raise AttributeError("An image is not made of tokens of a vocabulary, so there are no token embeddings W_E.")


class PositionSlice(Slice):
    """Some of the positions, as copies that do not keep the others in memory; all of what has no positions."""

    def apply(self, tensor: Tensor, dim: int | None = 0) -> Tensor:
        if dim is None or self.mode == "identity":
            return tensor
        return super().apply(tensor, dim).clone()


def _stop(stream: Tensor, hook: Any) -> None:
    raise StopAtLayerException(stream)


def _sliced(pos_slice: Any) -> Slice:
    found = copy(Slice.unwrap(pos_slice))
    found.__class__ = PositionSlice
    return found
