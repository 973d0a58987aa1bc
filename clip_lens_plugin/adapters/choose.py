"""Which adapter reads a model's image tower."""

from __future__ import annotations

from typing import Any

from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer

from clip_lens_plugin.adapters.open_clip import open_clip_parts
from clip_lens_plugin.adapters.timm import timm_parts
from clip_lens_plugin.adapters.tower import TowerParts, UnsupportedTowerError
from clip_lens_plugin.adapters.transformers import HuggingFaceVision, transformers_parts


def tower_parts(clip: Any, model_name: str) -> TowerParts:
    """The parts of ``clip.visual``.

    Raises:
        UnsupportedTowerError: if the tower, or a feature of it, is not supported; the message names it.
    """
    tower = getattr(clip, "visual", None)
    if isinstance(tower, VisionTransformer):
        return open_clip_parts(tower, model_name)
    if isinstance(tower, TimmModel):
        return timm_parts(tower, model_name)
    if isinstance(tower, HuggingFaceVision):
        return transformers_parts(tower, model_name)
    kind = "no `visual` tower" if tower is None else type(tower).__name__
    reason = "CLIP ResNets have no residual stream of tokens and are not supported."
    raise UnsupportedTowerError(
        f"{model_name}: expected an open_clip model whose image tower is a vision transformer, got {kind}. "
        f"{reason if kind == 'ModifiedResNet' else 'Other towers are not supported.'}"
    )
