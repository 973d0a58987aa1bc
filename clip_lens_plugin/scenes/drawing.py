"""Draws a scene, and the mask of the pixels its shapes cover."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageDraw

from clip_lens_plugin.scenes.attributes import SIDE, Placement, Scene

COLOURS = {
    "red": (220, 30, 30),
    "green": (40, 170, 50),
    "blue": (40, 80, 230),
    "yellow": (245, 220, 40),
    "purple": (135, 40, 180),
    "orange": (250, 135, 20),
    "cyan": (40, 210, 220),
    "pink": (250, 130, 190),
}
BACKGROUNDS = {
    "white": (250, 250, 250),
    "black": (10, 10, 10),
    "grey": (128, 128, 128),
    "brown": (100, 62, 30),
    "beige": (225, 205, 165),
    "navy": (15, 20, 80),
}
_SCALE = 4  # drawn larger, then reduced, so that edges are smooth
_PERIOD = 5.0  # pixels from one stripe, square or dot to the next
_DARK_BACKGROUNDS = ("black", "brown", "navy")


def draw(scene: Scene) -> Image.Image:
    """The scene as an RGB picture of :data:`SIDE` x :data:`SIDE` pixels, the same for the same scene."""
    return draw_together([scene])


def draw_together(scenes: Sequence[Scene]) -> Image.Image:
    """The shapes of one or more scenes on one picture, with the background and the noise of the first.

    Raises:
        ValueError: if there is no scene, or their backgrounds differ.
    """
    if len({scene.background for scene in scenes}) != 1:
        raise ValueError(f"Scenes are drawn together on one background, got {[each.background for each in scenes]}.")
    first = scenes[0]
    rng = np.random.default_rng(first.noise_seed)
    canvas = Image.new("RGB", (SIDE * _SCALE, SIDE * _SCALE), _jittered(BACKGROUNDS[first.background], rng))
    for scene in scenes:
        _paint(canvas, scene, rng)
    pixels = np.asarray(canvas.reduce(_SCALE), dtype=np.float64)
    noisy = pixels + rng.normal(0.0, 5.0, pixels.shape)
    return Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8))


def _paint(canvas: Image.Image, scene: Scene, rng: np.random.Generator) -> None:
    colour = _jittered(COLOURS[scene.colour], rng)
    second = _second_colour(colour, scene.background)
    for placement in scene.placements:
        mask = _shape_mask(scene.shape, placement)
        left, top, right, bottom = box = mask.getbbox() or (0, 0, *canvas.size)
        paint = Image.new("RGB", (right - left, bottom - top), colour)
        tone = _second_tone(scene.texture, placement, box, rng)
        paint.paste(second, mask=Image.fromarray(tone.astype(np.uint8) * np.uint8(255)))
        canvas.paste(paint, (left, top), mask.crop(box))


def shape_mask(scene: Scene) -> Bool[np.ndarray, "side side"]:
    """True where at least half of a pixel is covered by a shape of the scene."""
    return _covered(scene, scene.placements)


def shape_masks(scene: Scene) -> Bool[np.ndarray, "shapes side side"]:
    """The same for each shape of the scene alone, in the order of its placements."""
    return np.stack([_covered(scene, [placement]) for placement in scene.placements])


def _covered(scene: Scene, placements: Sequence[Placement]) -> Bool[np.ndarray, "side side"]:
    cover = Image.new("L", (SIDE * _SCALE, SIDE * _SCALE), 0)
    for placement in placements:
        cover.paste(255, mask=_shape_mask(scene.shape, placement))
    return np.asarray(cover.reduce(_SCALE)) >= 128


def _jittered(colour: tuple[int, ...], rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(c) for c in (np.array(colour) + rng.integers(-10, 11, 3)).clip(0, 255))


def _second_colour(colour: tuple[int, ...], background: str) -> tuple[int, ...]:
    # Away from the background's brightness, or a striped shape would lose its outline.
    if background in _DARK_BACKGROUNDS:
        return tuple(int(255 - 0.4 * (255 - channel)) for channel in colour)
    return tuple(int(0.35 * channel) for channel in colour)


def _shape_mask(shape: str, at: Placement) -> Image.Image:
    mask = Image.new("L", (SIDE * _SCALE, SIDE * _SCALE), 0)
    pen = ImageDraw.Draw(mask)
    x, y, r = at.x * _SCALE, at.y * _SCALE, at.radius * _SCALE
    if shape in ("circle", "ring"):
        pen.ellipse((x - r, y - r, x + r, y + r), fill=255)
        if shape == "ring":
            hole = 0.55 * r
            pen.ellipse((x - hole, y - hole, x + hole, y + hole), fill=0)
    else:
        turn = math.radians(at.rotation)
        outline = [
            (
                x + r * (px * math.cos(turn) - py * math.sin(turn)),
                y + r * (px * math.sin(turn) + py * math.cos(turn)),
            )
            for px, py in _OUTLINES[shape]
        ]
        pen.polygon(outline, fill=255)
    return mask


def _regular(corners: int, start: float) -> list[tuple[float, float]]:
    angles = [math.radians(start + 360 * i / corners) for i in range(corners)]
    return [(math.cos(a), math.sin(a)) for a in angles]


def _star(points: int, inner: float) -> list[tuple[float, float]]:
    ring = _regular(2 * points, -90.0)
    return [(x, y) if i % 2 == 0 else (inner * x, inner * y) for i, (x, y) in enumerate(ring)]


def _cross(arm: float) -> list[tuple[float, float]]:
    quarter = [(arm, -1.0), (arm, -arm), (1.0, -arm)]
    outline = []
    for _ in range(4):
        outline += quarter
        quarter = [(-y, x) for x, y in quarter]
    return outline


_OUTLINES = {
    "square": _regular(4, 45.0),
    "triangle": _regular(3, -90.0),
    "star": _star(5, 0.42),
    "cross": _cross(0.32),
}


def _second_tone(
    texture: str, at: Placement, box: tuple[int, int, int, int], rng: np.random.Generator
) -> Bool[np.ndarray, "drawn drawn_across"]:
    px, py = rng.uniform(0, _PERIOD, 2)
    left, top, right, bottom = box
    if texture not in ("striped", "checkered", "dotted"):
        return np.zeros((bottom - top, right - left), dtype=bool)
    across, down = ((np.arange(*ends) + 0.5) / _SCALE for ends in ((left, right), (top, bottom)))
    turn = math.radians(at.rotation)
    dx, dy = across[None, :] - at.x, down[:, None] - at.y
    u = (dx * math.cos(turn) + dy * math.sin(turn) + px) / _PERIOD % 1
    if texture == "striped":
        return u < 0.5
    v = (-dx * math.sin(turn) + dy * math.cos(turn) + py) / _PERIOD % 1
    if texture == "checkered":
        return (u < 0.5) != (v < 0.5)
    return (u - 0.5) ** 2 + (v - 0.5) ** 2 < 0.3**2
