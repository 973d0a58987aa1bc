"""The pool of texts that fits a model, where none was asked for."""

from __future__ import annotations

from clip_lens_plugin.scenes.embedded import EMBEDDED
from clip_lens_plugin.texts.pool import TextPool


def pool_for(model: str) -> tuple[TextPool, str]:
    """The pool where none was asked for, and what it is in words.

    Args:
        model: its name.
    """
    if model in EMBEDDED:
        return TextPool.scenes(), "captions of drawn scenes"
    return TextPool.general(), "general image descriptions"
