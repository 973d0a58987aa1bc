"""How the explorer looks: fonts of the system, and nothing that is loaded from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradio.themes import Base

FONTS = ["system-ui", "-apple-system", "Segoe UI", "sans-serif"]
FIXED = ["ui-monospace", "Menlo", "Consolas", "monospace"]

CSS = """
.clip-lens-frame {width: 100%; border: 1px solid var(--border-color-primary); border-radius: 8px}
.clip-lens-frame {color-scheme: light dark}
.cl-wide {overflow-x: auto}
[id^="table-"] {overflow-x: auto !important}
[id^="table-"] :is(th, td) {padding: 6px 8px !important}
.clip-lens-note {color: var(--body-text-color-subdued); font-size: 0.9em}
footer {display: none !important}
"""


def theme() -> Base:
    """Gradio's own, with the system's fonts."""
    from gradio.themes import Default

    return Default(font=FONTS, font_mono=FIXED)
