"""open_clip's private names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from open_clip import factory, transform
from open_clip import model as open_clip_model
from open_clip.coca_model import CoCa
from torch import Tensor, nn

from clip_lens_plugin.dependencies.names import attribute

NAMES = (
    "open_clip.factory:_find_checkpoint_in_dir",
    "open_clip.model:_build_vision_tower",
    "open_clip.transformer:TextTransformer._embeds",
    "open_clip.transform:_convert_to_rgb",
)

CONVERTS_IN_OPENAIS_CLIP = "_convert_image_to_rgb"
"""What a preprocessing of OpenAI's own package, which need not be installed, has in that place."""


def checkpoint_in(folder: Path) -> Path:
    """The file of weights that open_clip would load from a model folder."""
    find = attribute(factory, "_find_checkpoint_in_dir", "open_clip_torch", __name__)
    return Path(str(find(folder)))


def vision_tower(vision_cfg: dict[str, Any], **asked: Any) -> nn.Module:
    """The image tower of a config, with weights as they are initialised.

    Args:
        vision_cfg: the config's ``vision_cfg``.
        asked: ``embed_dim``, ``quick_gelu``.
    """
    make = attribute(open_clip_model, "_build_vision_tower", "open_clip_torch", __name__)
    return make(vision_cfg=open_clip_model.CLIPVisionCfg(**vision_cfg), **asked)


def embedded_text(tower: Any, ids: Tensor) -> tuple[Tensor, Tensor | None]:
    """What enters a ``TextTransformer``'s first block, and the mask that it adds to attention's scores, or None."""
    return attribute(tower, "_embeds", "open_clip_torch", __name__)(ids)


def held_by(clip: Any, name: str, place: str) -> Any:
    """An attribute of a model in open_clip's shape, None where it has none.

    Args:
        clip: the model.
        name: of the attribute, which may truly be missing in a model of another library, as OpenAI's own.
        place: the module that asks.

    Raises:
        AttributeError: if a model of open_clip's own lacks it.
    """
    if isinstance(clip, open_clip_model.CLIP | open_clip_model.CustomTextCLIP | CoCa):
        return attribute(clip, name, "open_clip_torch", place)
    return getattr(clip, name, None)


def converts_to_rgb(step: Any) -> bool:
    """Whether a step of a preprocessing is the function that only gives a picture three colours."""
    own = attribute(transform, "_convert_to_rgb", "open_clip_torch", __name__)
    return getattr(step, "__name__", None) in (own.__name__, CONVERTS_IN_OPENAIS_CLIP)
