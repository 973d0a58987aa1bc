"""Python warnings that point at the user's line, wherever in the package they arise."""

from __future__ import annotations

import sys
import warnings

OUTSIDE = ("clip_lens_plugin", "torch", "transformer_lens", "jaxtyping", "beartype", "contextlib")
"""Packages whose lines a warning is not laid to; nor to a function that hides from tracebacks, as pytest has it."""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warns at the line outside these packages that called, so that Python shows it once for each such line."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (
        str(frame.f_globals.get("__name__")).partition(".")[0] in OUTSIDE or "__tracebackhide__" in frame.f_locals
    ):
        frame = frame.f_back
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    warnings.warn_explicit(message, category, frame.f_code.co_filename, frame.f_lineno, registry=registry)
