"""What figures, pages and tables say of a map in the same words."""

from __future__ import annotations

from clip_lens_plugin.maps.patch_text import PatchTextMap

ADDED = "added by a patch (cosine)"
"""What a map's colours say."""

MOST_HEADS_NAMED = 3
"""Heads that are named each; of more, only their number."""


def greatest(maps: PatchTextMap) -> float:
    """The value with the full colour: the greatest of a patch.

    Where the class token adds more than all patches could, these stay pale: an equal part of it, if that is greater.
    """
    of_patches = float(maps.values.detach().abs().max()) if maps.values.numel() else 0.0
    n_patches = maps.grid_size[0] * maps.grid_size[1]
    return max(of_patches, float(maps.class_token.detach().abs().max()) / n_patches) or 1.0


def named_heads(heads: tuple[tuple[int, int], ...] | None) -> str:
    """What the heads of a map are called: those whose contributions it sums."""
    if heads is None:
        return "all heads"
    if len(heads) > MOST_HEADS_NAMED or not heads:
        return f"{len(heads)} heads" if heads else "chosen heads"
    return "; ".join(f"layer {layer}, head {head}" for layer, head in heads)
