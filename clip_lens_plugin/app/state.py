"""What a link says: which picture, which texts, which heads. It never holds a path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal
from urllib.parse import urlencode

Ablation = Literal["mean", "zero"]

MOST_TEXTS, MOST_LETTERS, MOST_PARTS = 50, 300, 500
"""Texts of a link, letters of a text, and parts that are switched off."""

PART = re.compile(r"L(\d{1,3})H(\d{1,3})|L(\d{1,3})|M(\d{1,3})")
"""A head, the heads of a layer, or an MLP."""


@dataclass(frozen=True)
class State:
    """What a page shows.

    Attributes:
        tab: the name of the page.
        image: row of the picture.
        texts: to compare the picture with.
        off: parts that are switched off: "L5H3", all heads of a layer "L5", or an MLP "M5".
        ablation: what stands in their place, "mean" or "zero".
        head: the head that is looked at, "L5H3".
    """

    tab: str = "image"
    image: int = 0
    texts: tuple[str, ...] = ()
    off: tuple[str, ...] = ()
    ablation: Ablation = "mean"
    head: str = ""

    def query(self) -> str:
        """The link's part after the question mark; what is as usual is left out."""
        usual = asdict(State())
        said = {name: value for name, value in asdict(self).items() if value != usual[name]}
        return urlencode({name.rstrip("s"): value for name, value in said.items()}, doseq=True)

    @classmethod
    def of_query(cls, given: Mapping[str, Any], tabs: tuple[str, ...], n_images: int) -> State:
        """What a link says; what it says wrongly is as usual.

        Args:
            given: the values of each name, as lists.
            tabs: that there are.
            n_images: that there are.
        """
        read = {name: [str(each) for each in given.get(name.rstrip("s"), [])] for name in (f.name for f in fields(cls))}
        first = {name: values[0] if values else "" for name, values in read.items()}
        number = int(first["image"]) if re.fullmatch(r"\d{1,9}", first["image"]) else 0
        return cls(
            tab=first["tab"] if first["tab"] in tabs else cls.tab,
            image=number if number < n_images else cls.image,
            texts=tuple(text[:MOST_LETTERS] for text in read["texts"] if text.strip())[:MOST_TEXTS],
            off=tuple(dict.fromkeys(part for part in read["off"] if PART.fullmatch(part)))[:MOST_PARTS],
            ablation="zero" if first["ablation"] == "zero" else cls.ablation,
            head=first["head"] if re.fullmatch(r"L\d{1,3}H\d{1,3}", first["head"]) else cls.head,
        )


def texts_of(typed: str) -> tuple[str, ...]:
    """The texts of a box, one per line, each once.

    Raises:
        ValueError: if there are none, too many, or one is too long.
    """
    found = tuple(dict.fromkeys(line.strip() for line in typed.splitlines() if line.strip()))
    if not found:
        raise ValueError("Type a text to compare the picture with, one per line.")
    if len(found) > MOST_TEXTS:
        raise ValueError(f"{len(found)} texts are too many here: give up to {MOST_TEXTS}.")
    if max(map(len, found)) > MOST_LETTERS:
        raise ValueError(f"A text has more than {MOST_LETTERS} letters: shorten it.")
    return found


def parts_of(chosen: tuple[str, ...]) -> tuple[frozenset[tuple[int, int]], frozenset[int], frozenset[int]]:
    """Single heads, layers of which all heads, and layers of which the MLP is chosen."""
    heads: set[tuple[int, int]] = set()
    layers: set[int] = set()
    mlps: set[int] = set()
    for part in chosen:
        found = PART.fullmatch(part)
        if found is None:
            raise ValueError(f"{part!r} is no part: a head is L5H3, all heads of a layer L5, an MLP M5.")
        layer, head, whole, mlp = found.groups()
        if head is not None:
            heads.add((int(layer), int(head)))
        elif whole is not None:
            layers.add(int(whole))
        else:
            mlps.add(int(mlp))
    return frozenset(heads), frozenset(layers), frozenset(mlps)
