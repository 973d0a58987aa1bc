"""Image towers that open_clip's configs describe, judged before there are weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from torch import nn

from clip_lens_plugin.adapters.choose import tower_parts
from clip_lens_plugin.adapters.tower import ImageParts, UnsupportedTowerError
from clip_lens_plugin.dependencies.of_open_clip import vision_tower
from clip_lens_plugin.numerics.without_values import without_values


def tower_of_config(config: dict[str, Any]) -> nn.Module:
    """The image tower without memory for its weights; whatever open_clip raises of a config that it cannot build."""
    with without_values():
        return vision_tower(
            config["vision_cfg"], embed_dim=config["embed_dim"], quick_gelu=config.get("quick_gelu", False)
        )


def parts_or_reason(tower: nn.Module) -> ImageParts | str:
    """The parts of an image tower, or why it is not supported."""
    try:
        return tower_parts(SimpleNamespace(visual=tower), "")
    except UnsupportedTowerError as refusal:
        # "name: its image tower has FEATURE, which is not supported. ..."
        reason = str(refusal).removeprefix(": ").split(", which is not supported")[0]
        return reason.removeprefix("its image tower has ").removesuffix(".")


def refuse_unsupported(name: str, config: dict[str, Any]) -> None:
    """Raises UnsupportedTowerError if the image tower that a config describes is not supported.

    A config that cannot be judged is left to whoever builds the model.
    """
    try:
        tower = tower_of_config(config)
    except Exception:  # Whatever open_clip or timm raise of it.
        return
    found = parts_or_reason(tower)
    if isinstance(found, str):
        raise UnsupportedTowerError(
            f"{name} is not a supported model: {found}. The command clip-lens models lists those that are."
        )
