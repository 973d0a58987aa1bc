"""Files of text embeddings that are believed only if every byte is as it was written, for this very key."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from platformdirs import user_cache_path
from safetensors import SafetensorError
from safetensors.torch import load, save, save_file
from torch import Tensor

from clip_lens_plugin.files.whole import whole_files
from clip_lens_plugin.model.identity.probes import is_same_probe
from clip_lens_plugin.model.text.unseen_texts import UnseenTexts

CACHE_VARIABLE = "CLIP_LENS_CACHE"
"""Environment variable that names the folder of cached text embeddings; "" turns the cache off."""

SPARE = 1_000_000
"""Bytes that a file may have beside its embeddings."""


@dataclass(frozen=True)
class CachedTexts:
    """What a file keeps of some texts.

    Attributes:
        embeddings: one row for each text, or for each mean of several.
        unseen: which texts are cut or lost.
        probe: embeddings of the probe texts by the model that made it, in float32.
    """

    embeddings: Float[Tensor, "t e"]
    unseen: UnseenTexts
    probe: Float[Tensor, "p e"]


def cache_folder() -> Path | None:
    """The user's cache folder, or what :data:`CACHE_VARIABLE` names; None where that is empty."""
    named = os.environ.get(CACHE_VARIABLE)
    if named == "":
        return None
    return Path(named) if named else user_cache_path("clip_lens_plugin") / "texts"


def read(
    file: Path, key: str, shape: tuple[int, int], dtype: torch.dtype, probe: Callable[[], Float[Tensor, "p e"]]
) -> CachedTexts | None:
    """The file's content; None where there is no file, or it is not byte for byte as it was saved for this key.

    Args:
        file: a regular file; anything else in its place is passed over.
        key: of the model and the texts.
        shape, dtype: of the embeddings.
        probe: returns what the model gives for the probe texts now; a file of a model that gave anything else is not
            believed.
    """
    try:
        if not file.is_file() or file.stat().st_size > shape[0] * shape[1] * dtype.itemsize + SPARE:
            return None
        raw = file.read_bytes()
        found = load(raw)
        digest = bytes(found.pop("digest").numpy())
        # Names, order and padding of the file are covered too.
        if digest != _digest(found, key) or raw != save({**found, "digest": _tensor(digest)}):
            return None
        kept = CachedTexts(
            found["embeddings"], UnseenTexts(found["cut"].tolist(), found["lost"].tolist()), found["probe"]
        )
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError):
        return None
    rows = kept.embeddings
    right = tuple(rows.shape) == shape and rows.dtype == dtype and bool(rows.isfinite().all())
    return kept if right and is_same_probe(kept.probe, probe(), dtype) else None


def write_quietly(kept: CachedTexts, file: Path, key: str) -> None:
    """A cache that cannot be written must not lose the embeddings, nor leave half a file."""
    tensors = {
        "embeddings": kept.embeddings.detach().cpu().contiguous(),
        "cut": torch.tensor(kept.unseen.cut, dtype=torch.int64),
        "lost": torch.tensor(kept.unseen.lost, dtype=torch.int64),
        "probe": kept.probe.detach().cpu().contiguous(),
    }
    # Two processes or threads may write the same part at once: each its own file, and the last one stays.
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_files() as beside:
            save_file({**tensors, "digest": _tensor(_digest(tensors, key))}, beside(file))


def _digest(tensors: dict[str, Tensor], key: str) -> bytes:
    """SHA-256 over the key and the tensors."""
    return hashlib.sha256(key.encode() + save(dict(sorted(tensors.items())))).digest()


def _tensor(digest: bytes) -> Tensor:
    return torch.tensor(list(digest), dtype=torch.uint8)
