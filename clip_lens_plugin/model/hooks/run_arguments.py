"""What a run of a model may be asked for, beside its input."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from clip_lens_plugin.arguments import is_whole

OUTPUTS = ("embedding", "logits", None)
"""What a run may give back: M(I), its dot products with the labels, nothing."""

FOR_TEXT = frozenset(
    {
        *("prepend_bos", "padding_side", "loss_per_token", "start_at_layer", "tokens", "input_ids", "attention_mask"),
        *("past_kv_cache", "past_key_values", "past_left_attn_mask", "shortformer_pos_embed", "position_ids"),
        *("one_zero_attention_mask", "use_past_kv_cache", "use_cache", "decoder_input", "decoder_input_ids", "labels"),
    }
)
"""Arguments of TransformerLens's forward that speak of text, or of going on from a part of it."""


class TextArgumentError(TypeError, ValueError):
    """An argument of a language model's run was given to one that reads images."""


def refuse_text_arguments(model_name: str, given: Iterable[str]) -> None:
    """Refuses keywords that a run on images does not take.

    Raises:
        TextArgumentError: a TypeError and ValueError, for an argument that makes sense for text alone.
        TypeError: for any other.
    """
    for name in given:
        if name in FOR_TEXT:
            raise TextArgumentError(
                f"{name} is for language models: {model_name} reads whole images, so leave it out (stop_at_layer and "
                f"return_type are what a run takes)."
            )
        raise TypeError(f"A run of {model_name} takes return_type and stop_at_layer, not {name!r}.")


def checked_output(return_type: Any) -> str | None:
    """The same.

    Raises:
        ValueError: if it is none of :data:`OUTPUTS`.
    """
    if return_type is None or (isinstance(return_type, str) and return_type in OUTPUTS):
        return return_type
    raise ValueError(
        f"Models of images do not support return_type={return_type!r}, as there is no next token: it is 'embedding', "
        f"'logits' (dot products with the labels) or None."
    )


def checked_stop(stop_at_layer: Any, n_layers: int) -> int | None:
    """The layer before which a run stops, counted from the start; ``n_layers`` is after the last.

    Raises:
        ValueError: if it is no whole number.
        IndexError: if there is no such layer.
    """
    if stop_at_layer is None:
        return None
    if not is_whole(stop_at_layer):
        raise ValueError(f"stop_at_layer must be a whole number, got {stop_at_layer!r}.")
    if not -n_layers <= stop_at_layer <= n_layers:
        raise IndexError(
            f"stop_at_layer must be {-n_layers} to {n_layers}, got {stop_at_layer}: the model has {n_layers} layers."
        )
    return int(stop_at_layer) + n_layers * (stop_at_layer < 0)
