"""Every model that open_clip knows: whether it is supported, and what it is. Computed from open_clip's own configs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import open_clip
import pandas as pd
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from timm.models.vision_transformer_relpos import VisionTransformerRelPos

from clip_lens_plugin.adapters.of_config import parts_or_reason, tower_of_config
from clip_lens_plugin.dependencies.names import attribute

POOLINGS = {
    "class_token": "class token",
    "norm_then_mean": "mean",
    "mean_then_norm": "mean",
    "attention": "attention pool",
}


@dataclass(frozen=True)
class _Tower:
    """One image tower; None for what is not known of it."""

    family: str
    layers: int | None = None
    heads: int | None = None
    width: int | None = None
    patch: str | None = None
    reason: str = ""


def catalogue(contains: str = "", on_progress: Callable[[int, int], object] = lambda done, total: None) -> pd.DataFrame:
    """One row per model name of open_clip, in open_clip's order.

    Each image tower is built without memory for its weights and read as a loaded one would be, so loading
    would say the same.

    Args:
        contains: only names with this in them, whatever the case.
        on_progress: called with (names done, names in all).

    Returns:
        name, tags (of pretrained weights), supported, family, layers, heads, width, patch (height x width in pixels),
        reason (why not; empty where supported).
    """
    tags: dict[str, list[str]] = {}
    for name, tag in open_clip.list_pretrained():
        tags.setdefault(name, []).append(tag)
    rows, built = [], {}
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        names = [name for name in open_clip.list_models() if contains.lower() in name.lower()]
        for done, name in enumerate(names, start=1):
            tower = _tower(name, built)
            known = (tower.family, tower.layers, tower.heads, tower.width, tower.patch, tower.reason)
            rows.append((name, tuple(tags.get(name, ())), not tower.reason, *known))
            on_progress(done, len(names))
    finally:
        logging.disable(previous)
    columns = ["name", "tags", "supported", "family", "layers", "heads", "width", "patch", "reason"]
    sizes = dict.fromkeys(("layers", "heads", "width"), "Int64")
    return pd.DataFrame(rows, columns=columns).astype(sizes)


def _tower(name: str, built: dict[str, _Tower]) -> _Tower:
    """The tower of a name; names with the same vision config share one."""
    config = open_clip.get_model_config(name) or {}
    if not isinstance(config.get("vision_cfg"), dict):
        return _Tower("unknown", reason="it has no vision config")
    key = repr([config.get(part) for part in ("vision_cfg", "embed_dim", "quick_gelu")])
    if key not in built:
        built[key] = _read(config)
    return built[key]


def _read(config: dict[str, Any]) -> _Tower:
    try:
        visual: Any = tower_of_config(config)
    except Exception as error:  # Whatever a config of a later release breaks, the others are still listed.
        return _Tower("unknown", reason=f"it cannot be built here: {str(error).splitlines()[0]}")
    source, trunk = ("timm", visual.trunk) if isinstance(visual, TimmModel) else ("open_clip", visual)
    parts = parts_or_reason(visual)
    if isinstance(parts, str):
        layers, width = _size(trunk)
        return _Tower(f"{source} {type(trunk).__name__}", layers=layers, width=width, reason=parts)
    cfg = parts.cfg
    patch = f"{cfg.patch_size[0]} x {cfg.patch_size[1]}"
    kind = "Eva" if type(trunk).__name__ == "Eva" else "ViT"
    return _Tower(f"{source} {kind}, {POOLINGS[cfg.pooling]}", cfg.n_layers, cfg.n_heads, cfg.d_model, patch)


def _size(trunk: Any) -> tuple[int | None, int | None]:
    """Layers and width of a tower that is not supported; None for stages of several widths, which have neither."""
    if isinstance(trunk, TimmVisionTransformer | VisionTransformerRelPos | Eva):
        return len(attribute(trunk, "blocks", "timm", __name__)), attribute(trunk, "embed_dim", "timm", __name__)
    if isinstance(trunk, VisionTransformer):
        inner = attribute(trunk, "transformer", "open_clip_torch", __name__)
        return attribute(inner, "layers", "open_clip_torch", __name__), attribute(
            inner, "width", "open_clip_torch", __name__
        )
    return None, None
