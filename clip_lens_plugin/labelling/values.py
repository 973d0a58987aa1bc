"""Labels as they stand in a file, as positions in a list of classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from clip_lens_plugin.arguments import checked_choice
from clip_lens_plugin.hints import hint
from clip_lens_plugin.labelling.wordnet import imagenet_names, imagenet_positions, worded

LabelOrder = Literal["imagenet"]
"""The list of classes that numbers are positions in."""

_WHOLE = re.compile(r"[+-]?[0-9]{1,10}")
_FRACTION = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(\.\d*)?e[+-]?\d+|nan|inf)", re.IGNORECASE)


def ilsvrc_ids() -> str:
    """Why numbers from 1 to 1000 are not taken, and what is."""
    order = hint("--label-order imagenet (label_order='imagenet')", "--label-order imagenet")
    return (
        f"ILSVRC's own ids, 1 to 1000, are no positions in ImageNet's list of classes, and only the devkit's meta.mat "
        f"says which is which. Give the devkit (its folder or ILSVRC2012_devkit_t12.tar.gz), WordNet ids or names; "
        f"numbers 0 to 999 in ImageNet's order are taken with {order}"
    )


def labels_from_values(
    values: Sequence[str], places: Sequence[str], order: LabelOrder | None, origin: str
) -> tuple[list[int], tuple[str, ...] | None]:
    """Each value's position in the classes, -1 for "-1", and the names of the classes, None for plain numbers.

    Numbers stay what they are. Of names the distinct ones, sorted, are the classes; of WordNet ids their words, in the
    order of the ids. With an order the classes are all of that list's.

    Args:
        values: whole numbers, names or WordNet ids, all of one kind.
        places: where each stands, for messages: "line 3".
        order: "imagenet" where numbers are positions in ImageNet's list.
        origin: of all of them, for messages.

    Raises:
        ValueError: if they are of several kinds, one is none, or numbers may be ILSVRC's ids.
    """
    if order is not None:
        checked_choice("label_order", order, ["imagenet"])
    for value, place in zip(values, places, strict=True):
        if not value:
            raise ValueError(f"{origin} has no label on {place}; where none is known, write -1 for whole numbers.")
        if _FRACTION.fullmatch(value):
            raise ValueError(f"{origin} has {value[:40]!r} on {place}; expected a whole number or the name of a class.")
    whole = [_WHOLE.fullmatch(value) is not None for value in values]
    if all(whole):
        return _numbers([int(value) for value in values], places, order, origin)
    if any(whole):
        first = places[whole.index(not whole[0])]
        raise ValueError(
            f"{origin} has whole numbers and names as labels: {values[0][:40]!r} on {places[0]}, "
            f"{values[whole.index(not whole[0])][:40]!r} on {first}. Expected one kind."
        )
    if order == "imagenet":
        known = imagenet_positions()
        for value, place in zip(values, places, strict=True):
            if value not in known:
                raise ValueError(f"{origin} has {value[:60]!r} on {place}, which is none of ImageNet's 1,000 classes.")
        return [known[value] for value in values], imagenet_names()
    spelt: dict[str, str] = {}
    for value, place in zip(values, places, strict=True):
        if spelt.setdefault(value.casefold(), value) != value:
            raise ValueError(
                f"{origin} has {value[:60]!r} on {place} and {spelt[value.casefold()][:60]!r} before, which differ in "
                f"case alone. Write them the same way."
            )
    names = sorted(set(values))
    code = {name: i for i, name in enumerate(names)}
    return [code[value] for value in values], worded(names)


def _numbers(
    numbers: list[int], places: Sequence[str], order: LabelOrder | None, origin: str
) -> tuple[list[int], tuple[str, ...] | None]:
    least, greatest = min(numbers), max(numbers)
    if least >= 1 and greatest == 1000:
        raise ValueError(f"{origin} holds numbers from {least} to 1000. {ilsvrc_ids()}.")
    most = 999 if order == "imagenet" else 2**31 - 1
    for number, place in zip(numbers, places, strict=True):
        if not -1 <= number <= most:
            raise ValueError(f"{origin} has the label {number} on {place}; expected 0 to {most}, or -1 for unknown.")
    if max(numbers) < 0:
        raise ValueError(f"{origin} holds no label but -1.")
    return numbers, imagenet_names() if order == "imagenet" else None
