"""open_clip's private names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from open_clip import factory
from open_clip import model as open_clip_model
from torch import nn

from clip_lens_plugin.upstream.names import renamed

NAMES = ("open_clip.factory:_find_checkpoint_in_dir", "open_clip.model:_build_vision_tower")


def checkpoint_in(folder: Path) -> Path:
    """The file of weights that open_clip would load from a model folder."""
    return Path(str(_of(factory, "_find_checkpoint_in_dir")(folder)))


def vision_tower(vision_cfg: dict[str, Any], **asked: Any) -> nn.Module:
    """The image tower of a config, with weights as they are initialised.

    Args:
        vision_cfg: the config's ``vision_cfg``.
        asked: ``embed_dim``, ``quick_gelu``.
    """
    make = _of(open_clip_model, "_build_vision_tower")
    return make(vision_cfg=open_clip_model.CLIPVisionCfg(**vision_cfg), **asked)


def _of(module: Any, name: str) -> Any:
    try:
        return getattr(module, name)
    except AttributeError:
        raise renamed("open_clip_torch", f"{module.__name__}.{name}", __name__) from None
