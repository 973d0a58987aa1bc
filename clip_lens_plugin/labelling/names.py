"""Names of classes, compared by what they say and put into words for a message."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from clip_lens_plugin.labelling.wordnet import worded

MOST_NAMED = 5


def comparable(some: Sequence[str], others: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """What two spellings of the same names have in common: words for ids, case, underscores and spaces aside.

    Case counts where two names of either list differ in nothing else.
    """
    plain = [[_plain(name) for name in worded(names)] for names in (some, others)]
    folded = [[name.casefold() for name in names] for names in plain]
    kept = folded if all(len({*a}) == len({*b}) for a, b in zip(plain, folded, strict=True)) else plain
    return kept[0], kept[1]


def _plain(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).replace("_", " ").split())


def few(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """The first names with commas: "cat, dog, emu, ..."."""
    shown = [name if len(name) <= 60 else f"{name[:57]}..." for name in names[:most]]
    return ", ".join([*shown, *(["..."] if len(names) > most else [])])


def classes_note(classes: Sequence[str], origin: str) -> str:
    """What is taken for the classes: "12 classes from the folders: cat, dog, emu, ..."."""
    return f"{len(classes):,} {'class' if len(classes) == 1 else 'classes'} from {origin}: {few(classes)}"


def notes_of(source: object) -> tuple[str, ...]:
    """What is taken for a class in a source, and what is left out, one line each."""
    notes = getattr(source, "label_notes", None)
    if notes is not None:
        return tuple(notes)
    classes = getattr(source, "classes", None)
    return () if classes is None else (classes_note(classes, "the data set"),)
