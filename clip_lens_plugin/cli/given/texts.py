"""The pool of texts that a command's words mean."""

from __future__ import annotations

from pathlib import Path

from clip_lens_plugin.texts.fitting import pool_for as pool_for
from clip_lens_plugin.texts.pool import TextPool

POOLS = {"general": TextPool.general, "words": TextPool.common_words, "scenes": TextPool.scenes}
"""Pools of the package, by name."""


def pool_named(texts: str) -> TextPool:
    """One of :data:`POOLS`, or that of a file.

    Raises:
        FileNotFoundError: if it is neither.
        ValueError: if the file is no pool.
    """
    if texts in POOLS:
        return POOLS[texts]()
    if not Path(texts).is_file():
        raise FileNotFoundError(f"There is no text file {texts}, and no pool of that name: {', '.join(POOLS)}.")
    return TextPool.from_file(texts)
