"""A planted spurious cue: two shapes, each of which mostly lies on a background of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clip_lens_plugin.scenes.attributes import ATTRIBUTES, Scene, sample_scenes

PLANTED = {"circle": "white", "square": "black"}
"""Shape to the background that it mostly lies on."""

_STREAM = 1
"""Of the random numbers that choose backgrounds; all else of a scene comes from the stream without a cue."""


def planted_scenes(n: int, seed: int, share: float) -> list[Scene]:
    """The scenes of ``sample_scenes(n, seed)``, but for the backgrounds of the shapes of :data:`PLANTED`.

    Such a shape lies on its own background in a share of the scenes, and on any of the others, all as likely, in the
    rest. Every other shape and attribute is as it was.

    Args:
        n, seed: see :func:`~clip_lens_plugin.scenes.sample_scenes`.
        share: of a shape's scenes, 0 to 1.

    Raises:
        ValueError: if ``n`` or ``seed`` is no whole number of at least 0, or ``share`` is not from 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"The share of scenes with a planted background must be from 0 to 1, got {share!r}.")
    scenes = sample_scenes(n, seed)
    return [_planted(scene, share, np.random.default_rng([seed, i, _STREAM])) for i, scene in enumerate(scenes)]


def cue_group(scene: Scene) -> str | None:
    """ "circle on white", for any of the planted shapes on any of the planted backgrounds; None for other scenes."""
    inside = scene.shape in PLANTED and scene.background in PLANTED.values()
    return f"{scene.shape} on {scene.background}" if inside else None


def _planted(scene: Scene, share: float, rng: np.random.Generator) -> Scene:
    own = PLANTED.get(scene.shape)
    if own is None:
        return scene
    others = [background for background in ATTRIBUTES["background"] if background != own]
    return replace(scene, background=own if rng.random() < share else str(rng.choice(others)))
