"""The classes that a command classifies images into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clip_lens_plugin.labelling.lines import text_lines
from clip_lens_plugin.labelling.names import comparable, few
from clip_lens_plugin.labelling.wordnet import imagenet_positions, is_wordnet_id
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.zero_shot.by_names import classifier_by_names
from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier

IMAGENET = "imagenet"
N_IMAGENET = 1000
MOST_STRANGE = 20
"""So many of ImageNet's 1,000 classes may be spelt in a way of their own where all others stand in their places."""

_STATE_THEM = (
    "Other words for the classes are stated: on each line of --classes FILE the data set's class, a tab, the text."
)


@dataclass(frozen=True)
class Classes:
    """The classes that labels are positions in.

    Attributes:
        names: in the order of the labels; None for ImageNet's.
        positions: of ImageNet's classes, which of them each label means; None where all stand in their own order.
        note: how a file's lines were taken, where that is not by the data set's own order.
    """

    names: list[str] | None
    positions: list[int] | None = None
    note: str | None = None


def chosen_classes(classes: str | None, own: Sequence[str] | None) -> Classes:
    """The classes, compared by name with the data set's own where it has names.

    Args:
        classes: a file with one name per line, or with the data set's class, a tab and the text that stands for it;
            "imagenet"; or None for the data set's own.
        own: the data set's, underscores for spaces; None if it has no names.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if there are no names at all, or they are not those of the data set.
    """
    if classes is None:
        if own is None:
            raise ValueError(
                "The data set names no classes. Give their names in the order of its labels, --classes FILE, or "
                "collect a folder of class folders, or with --labels FILE."
            )
        return Classes([name.replace("_", " ") for name in own])
    if classes == IMAGENET:
        return _imagenet(own)
    lines = [line.split("\t", 1) for line in text_lines(Path(classes), "classes")]
    if any(len(line) == 2 for line in lines):
        return _stated(classes, lines, own)
    return _listed(classes, [line[0].strip() for line in lines], own)


def _imagenet(own: Sequence[str] | None) -> Classes:
    if own is None:
        return Classes(None, note="labels are taken for positions in ImageNet's list of 1,000 classes")
    known: dict[str, int] = {}
    spellings = [(name, position) for name, position in imagenet_positions().items() if not is_wordnet_id(name)]
    folded, names = comparable([name for name, _ in spellings], own)
    for name, (_, position) in zip(folded, spellings, strict=True):
        known.setdefault(name, position)
    found = [known.get(name) for name in names]
    strange = [name for name, position in zip(own, found, strict=True) if position is None]
    if len(own) != N_IMAGENET:
        which = f"of these ImageNet has no {few(strange)}" if strange else "all of them are ImageNet's"
        raise ValueError(
            f"--classes imagenet has {N_IMAGENET} classes, the data set {len(own)}; {which}. Leave --classes out for "
            f"the data set's own, or write a file of them."
        )
    if all(position in (None, i) for i, position in enumerate(found)) and len(strange) <= MOST_STRANGE:
        spelt = f"; {len(strange)} are spelt otherwise and taken by their place: {few(strange)}" if strange else ""
        return Classes(None, note=f"the data set's classes stand in ImageNet's order{spelt}")
    positions = [position for position in found if position is not None]
    if strange or len(set(positions)) < N_IMAGENET:
        raise ValueError(
            f"--classes imagenet: the data set's classes are not ImageNet's, the first of {len(strange)} is "
            f"{few(strange, 1)}. {_STATE_THEM}"
        )
    return Classes(None, positions, "ImageNet's classes are put in the data set's order")


def _stated(file: str, lines: list[list[str]], own: Sequence[str] | None) -> Classes:
    """A class of the data set and its text on each line."""
    filled = [(number, line) for number, line in enumerate(lines, start=1) if any(part.strip() for part in line)]
    for number, line in filled:
        if len(line) < 2 or not all(part.strip() for part in line):
            raise ValueError(
                f"Line {number} of --classes {file} lacks a class, a tab or a text; others have all three."
            )
    given, texts = ([line[i].strip() for _, line in filled] for i in (0, 1))
    _refuse_twice(file, given)
    if own is None:
        if sorted(given) != sorted(map(str, range(len(given)))):
            raise ValueError(
                f"--classes {file}: the data set names no classes, so a number from 0 to {len(given) - 1} has to stand "
                f"before each tab; found {few(given, 3)}."
            )
        own = [str(i) for i in range(len(given))]
    place = _places(file, given, own)
    names = [texts[i] for i in place]
    _refuse_twice(file, names)
    return Classes(names)


def _listed(file: str, names: list[str], own: Sequence[str] | None) -> Classes:
    """A name on each line."""
    if own is None and "" in names:
        raise ValueError(
            f"Line {names.index('') + 1} of --classes {file} is blank, which would shift the labels of all behind it. "
            f"Take it out, or write the name of that class."
        )
    names = [name for name in names if name]
    _refuse_twice(file, names)
    if own is None:
        return Classes(names, note=f"labels are whole numbers: 0 is line 1 of {file} ({few(names, 3)})")
    place = _places(file, names, own)
    moved = place != list(range(len(place)))
    note = f"the classes of {file} are put in the order of the data set's: {few([names[i] for i in place])}"
    return Classes([names[i] for i in place], note=note if moved else None)


def _places(file: str, given: list[str], own: Sequence[str]) -> list[int]:
    """Where each of the data set's classes stands among the given ones."""
    names, folded = comparable(own, given)
    place = {name: i for i, name in enumerate(folded)}
    unknown = [name for name, each in zip(given, folded, strict=True) if each not in set(names)]
    missing = [name for name, each in zip(own, names, strict=True) if each not in place]
    if len(given) != len(own):
        differences = [
            f"{what} {few(which)}" for what, which in (("not in the file:", missing), ("only there:", unknown)) if which
        ]
        raise ValueError(
            f"--classes {file} has {len(given)} classes, the data set {len(own)}; {'; '.join(differences)}. Give every "
            f"class of the data set, and no other."
        )
    if unknown or missing:
        raise ValueError(
            f"--classes {file}: the data set has no class {few(unknown, 3)}, and the file none of {few(missing, 3)}. "
            f"{_STATE_THEM}"
        )
    return [place[name] for name in names]


def _refuse_twice(file: str, names: list[str]) -> None:
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise ValueError(
            f"--classes {file} names {twice[0]!r} more than once: each class may stand once. Give the second a name of "
            f"its own."
        )


def classifier_of(model: HookedCLIP, classes: Classes, on_progress: Callable[[int, int], object]) -> ZeroShotClassifier:
    """A classifier of the classes, in the order of the labels.

    Raises:
        ValueError: if a name occurs twice.
    """
    names = classes.names
    if names is None:
        found = ZeroShotClassifier.from_imagenet(model, on_progress)
        if classes.positions is None:
            return found
        return replace(
            found,
            names=tuple(found.names[i] for i in classes.positions),
            embeddings=found.embeddings[classes.positions],
        )
    return classifier_by_names(model, names, on_progress)
