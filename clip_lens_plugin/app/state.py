"""What a link says: which picture, which texts, which heads. It never holds a path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args
from urllib.parse import parse_qs, parse_qsl, urlencode

Ablation = Literal["mean", "zero"]
By = Literal["share", "role", "cue"]
Like = Literal["picture", "text"]

MOST_TEXTS, MOST_LETTERS, MOST_PARTS = 50, 300, 500
"""Texts of a link, letters of a text, and parts that are switched off."""

PART = re.compile(r"L(\d{1,3})H(\d{1,3})|L(\d{1,3})|M(\d{1,3})")
"""A head, the heads of a layer, or an MLP."""

HEAD = re.compile(r"L(\d{1,3})H(\d{1,3})")
NEURON = re.compile(r"L(\d{1,3})(?:N(\d{1,5}))?")
"""A neuron, or the neurons of a layer."""


@dataclass(frozen=True)
class State:
    """What a page shows.

    Attributes:
        tab: the name of the page.
        image: row of the picture.
        texts: to compare the picture with.
        off: parts that are switched off: "L5H3", all heads of a layer "L5", or an MLP "M5".
        ablation: what stands in their place, "mean" or "zero".
        heads: that are looked at, or searched by, "L5H3".
        by: what heads are coloured by.
        like: what is searched for: what is like the picture, or like the first text.
        neuron: that is looked at, "L4N100", or the layer of all of them, "L4".
    """

    tab: str = "image"
    image: int = 0
    texts: tuple[str, ...] = ()
    off: tuple[str, ...] = ()
    ablation: Ablation = "mean"
    heads: tuple[str, ...] = ()
    by: By = "share"
    like: Like = "picture"
    neuron: str = ""

    def query(self) -> str:
        """The link's part after the question mark; what is as usual is left out."""
        usual = asdict(State())
        said = {name: value for name, value in asdict(self).items() if value != usual[name]}
        return urlencode({name.rstrip("s"): value for name, value in said.items()}, doseq=True)

    @classmethod
    def of_query(cls, given: Mapping[str, Any], tabs: tuple[str, ...]) -> State:
        """What a link says; what it says wrongly is as usual, but a number that no picture has, which the page says.

        Args:
            given: the values of each name, as lists.
            tabs: that there are.
        """
        read = {name: [str(each) for each in given.get(name.rstrip("s"), [])] for name in (f.name for f in fields(cls))}
        first = {name: values[0] if values else "" for name, values in read.items()}
        return cls(
            tab=first["tab"] if first["tab"] in tabs else cls.tab,
            image=int(first["image"]) if re.fullmatch(r"\d{1,9}", first["image"], re.ASCII) else cls.image,
            texts=tuple(text[:MOST_LETTERS] for text in read["texts"] if text.strip())[:MOST_TEXTS],
            off=tuple(dict.fromkeys(part for part in read["off"] if PART.fullmatch(part)))[:MOST_PARTS],
            ablation=_one_of(get_args(Ablation), first["ablation"]),
            heads=tuple(dict.fromkeys(head for head in read["heads"] if HEAD.fullmatch(head)))[:MOST_PARTS],
            by=_one_of(get_args(By), first["by"]),
            like=_one_of(get_args(Like), first["like"]),
            neuron=first["neuron"] if NEURON.fullmatch(first["neuron"]) else cls.neuron,
        )


def state_of_link(link: str, tabs: tuple[str, ...]) -> State:
    """What a link says after its question mark, where each part of it is known.

    Args:
        link: as :meth:`State.query` writes it.
        tabs: that there are.

    Raises:
        ValueError: if it says anything else.
    """
    link = link.removeprefix("?")
    state = State.of_query(parse_qs(link, keep_blank_values=True), tabs)
    said = {name.rstrip("s"): value if isinstance(value, tuple) else (value,) for name, value in asdict(state).items()}
    for name, value in parse_qsl(link, keep_blank_values=True):
        if value not in map(str, said.get(name, ())):
            raise ValueError(
                f"A link of the explorer does not say {name}={value}: write it as in tab=search&image=3&head=L5H3; "
                f"pages are {', '.join(tabs)}."
            )
    return state


def _one_of(known: tuple[Any, ...], said: str) -> Any:
    return said if said in known else known[0]


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
    """The chosen single heads, layers whose heads are all chosen, and layers whose MLP is chosen."""
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


def heads_of(state: State) -> list[tuple[int, int]]:
    """Layer and head of each head that is looked at.

    Raises:
        ValueError: if there is none.
    """
    if not state.heads:
        raise ValueError("Choose a head.")
    found = [HEAD.fullmatch(head) for head in state.heads]
    if None in found:
        raise ValueError(f"{', '.join(state.heads)} are no heads: a head is L5H3.")
    return [(int(each[1]), int(each[2])) for each in found if each is not None]
