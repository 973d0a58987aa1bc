"""timm's private names."""

from __future__ import annotations

from typing import Any

from clip_lens_plugin.dependencies.names import attribute

NAMES = ("timm.models.vision_transformer:VisionTransformer._pos_embed", "timm.models.eva:Eva._pos_embed")

KERNEL_OF_A_NORM = "_fast_norm"
"""Which of several ways to the same values a norm takes; a norm gets it when it is made."""


def with_positions(trunk: Any, patches: Any) -> Any:
    """Embedded patches with class token, registers and positions; an Eva gives its rotary positions beside them."""
    return attribute(trunk, "_pos_embed", "timm", __name__)(patches)
