"""Where circuitsvis keeps its local bundle."""

from __future__ import annotations

from importlib.resources import files

BUNDLE = ("dist", "cdn", "iife.js")


def bundle() -> str:
    """The source of the script that draws circuitsvis's views."""
    return files("circuitsvis").joinpath(*BUNDLE).read_text(encoding="utf-8")
