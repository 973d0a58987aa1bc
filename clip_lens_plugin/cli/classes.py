"""The classes that a command classifies images into."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from clip_lens_plugin.hooked_clip import HookedCLIP
from clip_lens_plugin.scenes.attributes import ATTRIBUTES
from clip_lens_plugin.scenes.captions import TEMPLATES, prompts
from clip_lens_plugin.texts.pool import TextPool
from clip_lens_plugin.zero_shot import ZeroShotClassifier

IMAGENET = "imagenet"
N_IMAGENET = 1000
NOUN_TEMPLATES = ("{}", "a photo of a {}", "a picture of a {}")


def class_names(classes: str | None, own: Sequence[str] | None) -> list[str] | None:
    """Names of the classes, the position of each being its label; None for ImageNet's.

    Args:
        classes: a file with a name a line, "imagenet", or None for the data set's own.
        own: the data set's, underscores for spaces; None if it has no names.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if there are no names at all, or not as many as the data set has classes.
    """
    if classes is None:
        if own is None:
            raise ValueError(
                "The data set names no classes. Give their names in the order of its labels, --classes FILE, or "
                "collect a folder of class folders."
            )
        return [name.replace("_", " ") for name in own]
    names = None if classes == IMAGENET else _listed(classes)
    given = N_IMAGENET if names is None else len(names)
    if own is not None and given != len(own):
        raise ValueError(f"--classes {classes} has {given} classes, the data set {len(own)}: they must match in order.")
    return names


def _listed(file: str) -> list[str]:
    """The names in a file, of which none may stand twice: it would shift the labels of those behind it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of duplicates a pool says that it drops them; here they are refused.
        names = list(TextPool.from_file(file).texts)
    lines = [line.split("\t")[-1].strip() for line in Path(file).read_text(encoding="utf-8-sig").splitlines()]
    twice = sorted({name for name, times in Counter(lines).items() if name and times > 1})
    if twice:
        raise ValueError(
            f"--classes {file} names {twice[0]!r} more than once: a class's line is its label, so each may stand once. "
            f"Give the second a name of its own."
        )
    return names


def classifier_of(
    model: HookedCLIP, names: list[str] | None, on_progress: Callable[[int, int], object]
) -> ZeroShotClassifier:
    """A classifier of :func:`class_names`.

    Raises:
        ValueError: if a name occurs twice.
    """
    if names is None:
        return ZeroShotClassifier.from_imagenet(model, on_progress)
    # What is said of drawn scenes is a phrase already, with its article.
    phrases = any(names == prompts(attribute) for attribute in ATTRIBUTES)
    return ZeroShotClassifier.from_labels(model, names, TEMPLATES if phrases else NOUN_TEMPLATES, on_progress)
