"""Drawn scenes as two classes by two cues: warm and cold colours on light and dark backgrounds."""

from __future__ import annotations

from pathlib import Path

from clip_lens_plugin import ContributionStore
from clip_lens_plugin.cli import SCENES_SEED
from clip_lens_plugin.scenes import sample_scenes


def warm_and_light(n: int, seed: int) -> list[tuple[bool, bool]]:
    """Whether each scene's colour is warm, and its background light."""
    return [
        (
            scene.colour in ("red", "yellow", "orange", "pink"),
            scene.background in ("white", "beige", "grey"),
        )
        for scene in sample_scenes(n, seed)
    ]


def groups_table(path: Path, store: Path, header: str, cold: str, warm: str) -> Path:
    """The path, to which a line was written for each scene of a store.

    Args:
        store: of the scenes that commands collect.
        header: names of the columns of the name, the class and the cue, with commas between.
        cold, warm: names of the classes.
    """
    names = ContributionStore.open(store).names
    lines = [header]
    for name, (is_warm, is_light) in zip(names, warm_and_light(len(names), SCENES_SEED), strict=True):
        lines.append(f"{name},{warm if is_warm else cold},{'light' if is_light else 'dark'}")
    path.write_text("\n".join(lines) + "\n")
    return path
