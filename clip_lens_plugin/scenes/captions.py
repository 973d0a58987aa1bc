"""Says in words what a scene shows: captions that name some attributes, and prompts that name one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from clip_lens_plugin.arguments import checked_choice
from clip_lens_plugin.scenes.attributes import ATTRIBUTES, Scene

NAMING_RATES = (0.25, 0.45, 0.7)
"""A caption names each attribute with one of these probabilities, drawn once per caption."""

TEMPLATES = ("{}", "a picture of {}", "a drawing of {}")
"""What a caption is put into, drawn once per caption; the first leaves it as it is."""


def caption(named: Mapping[str, str]) -> str:
    """One phrase that states exactly the given attributes.

    A number of shapes is stated only if ``count`` is named: "red circle" holds for any number of them.

    Args:
        named: attribute name to value, for example ``{"colour": "red", "position": "top left"}``.

    Raises:
        ValueError: if nothing is named, or a name or value is not in :data:`ATTRIBUTES`.
    """
    if not named:
        raise ValueError(f"A caption needs at least one attribute; choose from {[*ATTRIBUTES]}.")
    for name, value in named.items():
        if value not in ATTRIBUTES.get(name, ()):
            known = ATTRIBUTES.get(name, tuple(ATTRIBUTES))
            raise ValueError(f"No scene has {name}={value!r}; expected one of {list(known)}.")
    words = [named[name] for name in ("count", "size", "colour", "texture") if name in named]
    noun = named.get("shape", "shape")
    if named.get("count", "one") != "one":
        noun += "es" if noun == "cross" else "s"
    about_shapes = words or "shape" in named or "position" in named
    parts = [" ".join([*words, noun])] if about_shapes else []
    if "position" in named:
        parts.append(f"in the {named['position']}")
    if "background" in named:
        parts.append(f"{'on ' if about_shapes else ''}a {named['background']} background")
    return " ".join(parts)


def random_caption(scene: Scene, rng: np.random.Generator, always: str | None = None) -> tuple[str, dict[str, str]]:
    """A true caption of the scene, and the attributes it names: at least one, and ``always`` if it is given."""
    mine = scene.attributes()
    rate = rng.choice(NAMING_RATES)
    named = {name: value for name, value in mine.items() if rng.random() < rate or name == always}
    if not named:
        name = str(rng.choice(list(mine)))
        named = {name: mine[name]}
    return str(rng.choice(TEMPLATES)).format(caption(named)), named


def prompts(attribute: str) -> list[str]:
    """One phrase for each value of an attribute, in the order of :data:`ATTRIBUTES`.

    Raises:
        ValueError: if there is no such attribute.
    """
    checked_choice("attribute", attribute, [*ATTRIBUTES])
    return [caption({attribute: value}) for value in ATTRIBUTES[attribute]]


def vocabulary() -> list[str]:
    """Every word that a caption can hold, sorted."""
    texts = [prompt for name in ATTRIBUTES for prompt in prompts(name)]
    several = [caption({"count": "two", "shape": shape}) for shape in ATTRIBUTES["shape"]]
    joined = caption({"shape": "star", "position": "centre", "background": "white"})
    return sorted({word for text in [*texts, *several, joined, *TEMPLATES] for word in text.split()} - {"{}"})


def short_captions() -> dict[str, str]:
    """Every caption that names one attribute, or two of which one is colour, shape or background; and which."""
    found: dict[str, str] = {}
    for name, values in ATTRIBUTES.items():
        for value in values:
            found.setdefault(caption({name: value}), name)
    for first in ("colour", "shape", "background"):
        for second in ATTRIBUTES:
            if second == first:
                continue
            for value in ATTRIBUTES[first]:
                for other in ATTRIBUTES[second]:
                    found.setdefault(caption({first: value, second: other}), f"{first} and {second}")
    return found
