"""Embeddings of many texts, kept on disk in parts, so that work that was interrupted goes on where it stopped."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from jaxtyping import Float
from platformdirs import user_cache_path
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from clip_lens_plugin.bridge.model import CLIPLike, as_hooked_clip
from clip_lens_plugin.hooked_clip import HookedCLIP

CACHE_VARIABLE = "CLIP_LENS_CACHE"
"""Environment variable that names the folder of cached text embeddings; "" turns the cache off."""

PART_TEXTS = 1024
"""Texts in a part: a file of the cache, and the most that is computed twice after an interruption."""


def embed_texts(
    model: CLIPLike,
    texts: Sequence[str],
    on_progress: Callable[[int, int], object] = lambda done, total: None,
    mean_of: int = 1,
) -> Float[Tensor, "t e"]:
    """Unit embeddings of the texts, in the model's dtype, read from disk where they were computed before.

    A part's key is made of the text tower's weights, the dtype and the part's texts. The folder is the user's cache
    folder, or what :data:`CACHE_VARIABLE` names. A file that is broken is computed anew.

    Args:
        model: its text tower is used.
        texts: any number of them, in any order; one that occurs twice has two rows.
        on_progress: called with (texts done, texts in all).
        mean_of: a row is the mean of so many texts' unit embeddings, normalised again; t = len(texts) / mean_of.
            Only the means are kept, in memory and on disk.

    Raises:
        ValueError: if there is no text, or one string instead of several; if they are no multiple of ``mean_of``; if
            the model has no tokenizer.
    """
    model = as_hooked_clip(model)
    if isinstance(texts, str) or len(texts) == 0:
        raise ValueError(f"embed_texts takes a list of one text or more, got {texts!r}.")
    if mean_of < 1 or len(texts) % mean_of:
        raise ValueError(f"The mean of every {mean_of} texts needs a multiple of {mean_of} texts, got {len(texts)}.")
    folder = _cache_folder()
    fingerprint = model.text_fingerprint() if folder is not None else ""
    step = mean_of * max(1, PART_TEXTS // mean_of)
    rows = []
    for start in range(0, len(texts), step):
        part = list(texts[start : start + step])
        shape = (len(part) // mean_of, model.cfg.d_embed)
        file = folder / f"{_key(fingerprint, model.cfg.dtype, part, mean_of)}.safetensors" if folder else None
        embeddings = _load(file, shape, model.cfg.dtype) if file else None
        if embeddings is None:
            embeddings = _encode(model, part, mean_of, _moved(on_progress, start, len(texts)))
            if file:
                _save_quietly(embeddings, file)
        else:
            on_progress(start + len(part), len(texts))
        rows.append(embeddings.to(model.cfg.device))
    return torch.cat(rows)


def _encode(
    model: HookedCLIP, texts: list[str], mean_of: int, on_progress: Callable[[int, int], object]
) -> Float[Tensor, "t e"]:
    each = model.encode_text(texts, on_progress=on_progress)
    if mean_of == 1:
        return each
    return torch.nn.functional.normalize(each.unflatten(0, (-1, mean_of)).mean(1), dim=-1)


def _moved(on_progress: Callable[[int, int], object], start: int, total: int) -> Callable[[int, int], object]:
    """A part's progress as progress of the whole."""
    return lambda done, _: on_progress(start + done, total)


def _key(fingerprint: str, dtype: torch.dtype, texts: list[str], mean_of: int) -> str:
    return hashlib.sha256(repr((fingerprint, str(dtype), mean_of, texts)).encode()).hexdigest()[:32]


def _cache_folder() -> Path | None:
    named = os.environ.get(CACHE_VARIABLE)
    if named == "":
        return None
    return Path(named) if named else user_cache_path("clip_lens_plugin") / "texts"


def _load(file: Path, shape: tuple[int, int], dtype: torch.dtype) -> Tensor | None:
    """What the file holds, or None where there is none or it cannot be what was saved."""
    try:
        found = load_file(file)["embeddings"]
    except (OSError, SafetensorError, KeyError):
        return None
    right = tuple(found.shape) == shape and found.dtype == dtype and bool(found.isfinite().all())
    return found if right else None


def _save_quietly(embeddings: Tensor, file: Path) -> None:
    """A cache that cannot be written must not lose the embeddings, nor leave half a file."""
    partial = file.with_suffix(f".{os.getpid()}.partial")
    with suppress(OSError, SafetensorError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file({"embeddings": embeddings.detach().cpu().contiguous()}, partial)
            os.replace(partial, file)
        finally:
            partial.unlink(missing_ok=True)
