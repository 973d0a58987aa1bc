"""What a drawn scene is: seven attributes, each with a short list of values, and where its shapes stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clip_lens_plugin.arguments import checked_number

SIDE = 56
"""Height and width of a scene in pixels."""

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "colour": ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "pink"),
    "shape": ("circle", "square", "triangle", "star", "cross", "ring"),
    "texture": ("plain", "striped", "checkered", "dotted"),
    "position": ("top left", "top right", "bottom left", "bottom right", "centre"),
    "background": ("white", "black", "grey", "brown", "beige", "navy"),
    "size": ("small", "medium", "large"),
    "count": ("one", "two", "three", "four"),
}
"""Attribute name to its values. A scene with several shapes has no ``position``."""

RADII = {"small": (5.5, 6.5), "medium": (8.5, 9.5), "large": (12.0, 13.0)}
"""Circumscribed radius of a shape in pixels, as (least, greatest)."""

SINGLE_SHARE = 0.6
"""Share of scenes that hold one shape, and so have a position."""

_QUADRANTS = [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)]
_ANCHORS = dict(zip(ATTRIBUTES["position"], [*_QUADRANTS, (0.5, 0.5)], strict=True))


@dataclass(frozen=True)
class Placement:
    """One shape: centre (x, y) and circumscribed radius in pixels, rotation in degrees."""

    x: float
    y: float
    radius: float
    rotation: float


@dataclass(frozen=True)
class Scene:
    """The answer key of one picture.

    Attributes:
        colour, shape, texture, background, size, count: values of :data:`ATTRIBUTES`.
        position: likewise; None where ``count`` is not "one".
        placements: where each shape is drawn.
        noise_seed: of the noise, and of how far colours are from their names' own.
    """

    colour: str
    shape: str
    texture: str
    position: str | None
    background: str
    size: str
    count: str
    placements: tuple[Placement, ...]
    noise_seed: int

    def attributes(self) -> dict[str, str]:
        """The attributes that this scene has, name to value."""
        values = {name: getattr(self, name) for name in ATTRIBUTES}
        return {name: value for name, value in values.items() if value is not None}

    def codes(self) -> list[int]:
        """Index of each attribute's value in :data:`ATTRIBUTES`, -1 for a missing one."""
        mine = self.attributes()
        return [values.index(mine[name]) if name in mine else -1 for name, values in ATTRIBUTES.items()]


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draws every attribute uniformly, except that :data:`SINGLE_SHARE` of the scenes have one shape."""
    pick = {name: str(rng.choice(values)) for name, values in ATTRIBUTES.items()}
    single = rng.random() < SINGLE_SHARE
    pick["count"] = "one" if single else str(rng.choice(ATTRIBUTES["count"][1:]))
    number = ATTRIBUTES["count"].index(pick["count"]) + 1
    radius = rng.uniform(*RADII[pick["size"]])
    if single:
        anchors = [_ANCHORS[pick["position"]]]
    else:
        anchors = [_QUADRANTS[i] for i in rng.permutation(len(_QUADRANTS))[:number]]
    # A shape stays inside its own quarter of the picture, so shapes never touch.
    room = SIDE / 4 - radius - 0.5
    reach = min(room, 3.0) if single else room
    placements = []
    for ax, ay in anchors:
        dx, dy = rng.uniform(-reach, reach, 2)
        turn = rng.uniform(-15, 15)
        placements.append(Placement(ax * SIDE + dx, ay * SIDE + dy, radius, turn))
    return Scene(
        colour=pick["colour"],
        shape=pick["shape"],
        texture=pick["texture"],
        position=pick["position"] if single else None,
        background=pick["background"],
        size=pick["size"],
        count=pick["count"],
        placements=tuple(placements),
        noise_seed=int(rng.integers(2**31)),
    )


def sample_scenes(n: int, seed: int) -> list[Scene]:
    """``n`` scenes; scene ``i`` depends on ``(seed, i)`` alone, so a longer list starts with a shorter one.

    Raises:
        ValueError: if ``n`` or ``seed`` is no whole number of at least 0.
    """
    n, seed = checked_number("n", n, least=0), checked_number("seed", seed, least=0)
    return [sample_scene(np.random.default_rng([seed, i])) for i in range(n)]


def sample_pair(rng: np.random.Generator) -> tuple[Scene, Scene]:
    """Two scenes with one shape each, to be drawn together: of another colour and shape, in another quarter.

    Everything else but the background, which they share, is drawn for each by itself.
    """
    differing = {name: rng.choice(ATTRIBUTES[name], 2, replace=False).tolist() for name in ("colour", "shape")}
    places = rng.permutation(len(_QUADRANTS))[:2].tolist()
    background, noise_seed = str(rng.choice(ATTRIBUTES["background"])), int(rng.integers(2**31))
    found = []
    for which, place in enumerate(places):
        texture, size = str(rng.choice(ATTRIBUTES["texture"])), str(rng.choice(ATTRIBUTES["size"]))
        radius = rng.uniform(*RADII[size])
        room = SIDE / 4 - radius - 0.5
        x, y = (SIDE * anchor + rng.uniform(-room, room) for anchor in _QUADRANTS[place])
        found.append(
            Scene(
                colour=differing["colour"][which],
                shape=differing["shape"][which],
                texture=texture,
                position=ATTRIBUTES["position"][place],
                background=background,
                size=size,
                count="one",
                placements=(Placement(x, y, radius, rng.uniform(-15, 15)),),
                noise_seed=noise_seed,
            )
        )
    return found[0], found[1]


def sample_pairs(n: int, seed: int) -> list[tuple[Scene, Scene]]:
    """``n`` pairs of scenes to be drawn together; pair ``i`` depends on ``(seed, i)`` alone.

    Raises:
        ValueError: if ``n`` or ``seed`` is no whole number of at least 0.
    """
    n, seed = checked_number("n", n, least=0), checked_number("seed", seed, least=0)
    return [sample_pair(np.random.default_rng([seed, i])) for i in range(n)]
