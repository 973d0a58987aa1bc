"""Numbers as figures and pages write them."""

from __future__ import annotations

from clip_lens_plugin.plain_text import signed as signed


def tick_label(value: float, with_sign: bool) -> str:
    """The number to two digits."""
    return f"{value:{'+' if with_sign and value else ''}.2g}".replace("-", "−")
