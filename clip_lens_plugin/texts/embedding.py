"""Embeddings of many texts, kept on disk in parts, so that work that was interrupted goes on where it stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.adapters.text.tokenizers import is_known
from clip_lens_plugin.arguments import is_whole
from clip_lens_plugin.model.identity.probes import token_digest
from clip_lens_plugin.model.protocol import ImageTextModel
from clip_lens_plugin.model.text.unseen_texts import UnseenTexts
from clip_lens_plugin.numerics.unit_vectors import checked_unit_vectors
from clip_lens_plugin.texts.cache import CACHE_VARIABLE, CachedTexts, cache_folder, read, write_quietly

__all__ = ["CACHE_VARIABLE", "PART_TEXTS", "embed_texts"]

PART_TEXTS = 1024
"""Texts in a part: a file of the cache, and the most that is computed twice after an interruption."""


def embed_texts(
    model: ImageTextModel,
    texts: Sequence[str],
    on_progress: Callable[[int, int], object] = lambda done, total: None,
    mean_of: int = 1,
) -> Float[Tensor, "t e"]:
    """Unit embeddings of the texts, in the model's dtype, read from disk where they were computed before.

    A part's key is made of everything that the text tower's forward reads, of the tokenizer, the dtype and precision,
    and the part's texts; beside its rows the file keeps the embeddings of a few probe texts, which the tower must give
    again up to rounding. The folder is the user's cache folder, or what :data:`CACHE_VARIABLE` names. A file
    that is damaged or of another version is computed anew, and a text tower with hooks on it is neither read nor kept.

    A Python warning says how many texts are cut at the text tower's length, or lost in the tokenizer's cleaning.

    Args:
        model: its text tower is used.
        texts: any number of them, in any order; one that occurs twice has two rows.
        on_progress: called with (texts done, texts in all).
        mean_of: each row is the mean of this many texts' unit embeddings, normalised again; t = len(texts) / mean_of.
            Only the means are kept, in memory and on disk.

    Raises:
        ValueError: if there is no text, or one string instead of several, or what is no string; if they are no multiple
            of ``mean_of``; if the model has no tokenizer; if the text tower gives NaN, or a mean is zero.
    """
    if isinstance(texts, str) or len(texts) == 0:
        raise ValueError(f"embed_texts takes a list of one text or more, got {texts!r}.")
    if not is_whole(mean_of) or mean_of < 1 or len(texts) % mean_of:
        raise ValueError(f"The mean of every {mean_of} texts needs a multiple of {mean_of} texts, got {len(texts)}.")
    cache = _Cache(model)
    step = mean_of * max(1, PART_TEXTS // mean_of)
    rows, unseen = [], UnseenTexts()
    for start in range(0, len(texts), step):
        part = list(texts[start : start + step])
        found = cache.read(part, mean_of)
        if found is None:
            embeddings, own = _encode(model, part, mean_of, _moved(on_progress, start, len(texts)))
            cache.write(embeddings, own, part, mean_of)
        else:
            embeddings, own = found.embeddings, found.unseen
            on_progress(start + len(part), len(texts))
        unseen.add(own, start)
        rows.append(embeddings.to(model.cfg.device))
    unseen.warn(texts)
    return torch.cat(rows)


class _Cache:
    """The files of one model in one call; what their keys are made of is computed when it is first needed."""

    def __init__(self, model: ImageTextModel) -> None:
        self._model = model
        self._folder = None if model.text_has_hooks() else cache_folder()

    @cached_property
    def _fingerprint(self) -> str:
        return self._model.text_fingerprint()

    @cached_property
    def _probe(self) -> Float[Tensor, "p e"]:
        return self._model.text_probe()

    def read(self, texts: list[str], mean_of: int) -> CachedTexts | None:
        """What was kept of a part."""
        if self._folder is None:
            return None
        key, cfg = self._key(texts, mean_of), self._model.cfg
        file = self._folder / f"{key[:32]}.safetensors"
        return read(file, key, (len(texts) // mean_of, cfg.d_embed), cfg.dtype, lambda: self._probe)

    def write(self, embeddings: Float[Tensor, "t e"], unseen: UnseenTexts, texts: list[str], mean_of: int) -> None:
        """Keeps a part."""
        if self._folder is not None:
            key = self._key(texts, mean_of)
            write_quietly(CachedTexts(embeddings, unseen, self._probe), self._folder / f"{key[:32]}.safetensors", key)

    def _key(self, texts: list[str], mean_of: int) -> str:
        cfg = self._model.cfg
        tokenizer: Any = self._model.tokenizer
        # Of a tokenizer that cannot be described the ids themselves are compared.
        ids = "" if tokenizer is None or is_known(tokenizer) else token_digest(tokenizer, texts)
        key = (self._fingerprint, ids, str(cfg.dtype), _precision(cfg.device), mean_of, texts)
        return hashlib.sha256(repr(key).encode()).hexdigest()


def _precision(device: torch.device) -> str:
    """What products are computed in, where that is less than their dtype."""
    narrow = str(torch.get_autocast_dtype(device.type)) if torch.is_autocast_enabled(device.type) else "none"
    try:
        return f"{narrow} {torch.get_float32_matmul_precision()}"
    except RuntimeError:  # Set by torch's newer switches, which the older one cannot express.
        return f"{narrow} {torch.backends.cuda.matmul.fp32_precision} {torch.backends.mkldnn.matmul.fp32_precision}"  # type: ignore[attr-defined]


def _encode(
    model: ImageTextModel, texts: list[str], mean_of: int, on_progress: Callable[[int, int], object]
) -> tuple[Float[Tensor, "t e"], UnseenTexts]:
    each, unseen = model.encoded(texts, on_progress=on_progress)
    if mean_of > 1:
        each = torch.nn.functional.normalize(each.unflatten(0, (-1, mean_of)).mean(1), dim=-1)
    return checked_unit_vectors(each, "Embeddings of texts").to(model.cfg.dtype), unseen


def _moved(on_progress: Callable[[int, int], object], start: int, total: int) -> Callable[[int, int], object]:
    """A part's progress as progress of the whole."""
    return lambda done, _: on_progress(start + done, total)
