"""Texts that are given as strings, as a pool or as embeddings, for a readout that knows its model."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_texts
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.texts.pool import TextPool


def given_texts(readout: Readout, texts: Any) -> tuple[tuple[str, ...], Float[Tensor, "t e"]]:
    """Names of the texts, and their embeddings (or whatever directions were given) in the readout's dtype.

    Args:
        texts: one, a list of them, a pool, or [t, e].

    Raises:
        ValueError: if there is none, the width is not e, or a value is not finite; or strings are given of which the
            model, a text tower alone or without a tokenizer, makes no embedding.
    """
    if isinstance(texts, Tensor):
        found = readout.checked_texts(texts, of_unit_length=False)
        if not len(found):
            raise ValueError("towards takes one or more texts, or their embeddings, got none.")
        return tuple(f"text {t}" for t in range(len(found))), found
    alone = [texts] if isinstance(texts, str) else texts.texts if isinstance(texts, TextPool) else texts
    names = checked_texts("towards", alone)
    encode = getattr(readout.model, "encode_text", None)
    if encode is None:
        raise ValueError(
            f"{readout.model.cfg.model_name} is a text tower, which does not know the other's texts: give embeddings, "
            f"model.encode_text([...])."
        )
    return tuple(names), readout.checked_texts(encode(names), of_unit_length=False)
