"""What the page, the figure and the command line say of segmentation scores, in the same words."""

from __future__ import annotations

from dataclasses import dataclass

from clip_lens_plugin.labelling.names import few
from clip_lens_plugin.plain_text import signed, two_digits
from clip_lens_plugin.segmentation.overlays import Overlay
from clip_lens_plugin.segmentation.result import SegmentationScores, per_cent

LEADING = "average_precision"
"""The figure whose difference to the reference stands in the table."""

MODES = {
    "original": "on the original picture, where the model saw it",
    "paper": "in the way of Gandelsman et al. 2024: the picture's middle, the whole mask squashed to the input's size",
    "squash": "in the way of Chefer et al. 2021: picture and mask squashed to the input's size",
}


@dataclass(frozen=True)
class Cell:
    """One number of the table, in per cent.

    Attributes:
        value, interval: as they are written.
        best: whether no other kind of map has more.
    """

    value: str
    interval: str
    best: bool


@dataclass(frozen=True)
class Line:
    """One kind of map in the table.

    Attributes:
        label: the kind's, by which it is asked for.
        title: what it is called.
        own: whether it is what others are compared with.
        cells: one for each figure.
        difference, difference_interval: of the leading figure to the reference's; empty for the reference.
        milliseconds: for an image.
    """

    label: str
    title: str
    own: bool
    cells: tuple[Cell, ...]
    difference: str
    difference_interval: str
    milliseconds: str


def lines_of(scores: SegmentationScores) -> list[Line]:
    """The table, one line for each kind, in the order that they were asked for."""
    best = {figure: scores.best(figure) for figure in scores.figures}
    found = []
    for label, title in scores.kinds.items():
        own = scores.estimates[label]
        cells = tuple(
            Cell(
                per_cent(figure, own[figure].value),
                f"{per_cent(figure, own[figure].low)} to {per_cent(figure, own[figure].high)}",
                label in best[figure],
            )
            for figure in scores.figures
        )
        is_own, lead = label == scores.reference, own[LEADING]
        ends = [signed(100 * each, 1) for each in (lead.difference, lead.difference_low, lead.difference_high)]
        apart = ("", "") if is_own else (ends[0], f"{ends[1]} to {ends[2]}")
        milliseconds = 1000 * scores.seconds(label)
        found.append(Line(label, title, is_own, cells, *apart, two_digits(milliseconds)))
    return found


def headings(scores: SegmentationScores, reference: str) -> list[str]:
    """The headings of the table's columns; ``reference`` is what the kind is called that others are compared with."""
    figures = [f"{figure} (%)" for figure in scores.figures.values()]
    return ["map", *figures, f"AP less that of {reference}", "ms per image"]


def about(scores: SegmentationScores) -> str:
    """What was scored, in a sentence or two."""
    return (
        f"{scores.title[0].upper()}{scores.title[1:]}; {scores.model_name}. Each map is scaled by its own least and "
        f"greatest value; what is above its own mean counts as object. Scored {MODES[scores.mode]}. Intervals are of "
        f"95 %, from 1,000 bootstrap samples of images; the best of each column is bold."
    )


def notes(scores: SegmentationScores) -> list[str]:
    """What was left out, and what chance gives, a sentence each."""
    found = []
    if scores.unseen > 0:
        found.append(f"{_share(scores.unseen)} of all pixels were not seen by the model and are left out.")
    if scores.void > 0:
        found.append(f"{_share(scores.void)} of all pixels are left out because masks say nothing of them.")
    if scores.one_class:
        n, named = len(scores.one_class), few(scores.one_class)
        found.append(
            f"{n:,} image{'s' if n > 1 else ''} with a mask that is all object or all background have no AP of the "
            f"object, and count for everything else: {named}."
        )
    found.append(
        f"The AP of the object is the mean over images; a map at random has about the object's share of the picture, "
        f"{_share(scores.object_share)} here. The AP of both classes, which is the published one, puts the background "
        f"into the same list and saturates."
    )
    if scores.has_other:
        found.append(
            "Named − other, in per cent of the map's range, is its mean in the object that the text names, less that "
            "in the other one; chance is 0. Named higher is the share of images where the named one has more, a tie "
            "counting half; chance is 50 %. What does not heed the text has exactly that where each object is named "
            "once."
        )
    return found


def shown_kinds(scores: SegmentationScores) -> list[str]:
    """One kind for each method: with the contrast where there is one."""
    by_method: dict[str, str] = {}
    for label in scores.kinds:
        method = label.removesuffix(", contrast")
        if label != method or method not in by_method:
            by_method[method] = label
    return list(by_method.values())


def precision_of(scores: SegmentationScores, label: str, overlay: Overlay) -> float:
    """The AP of the object of one map of one image."""
    own = scores.of(label)
    return float(own.loc[own["image"] == overlay.image, LEADING].iloc[0])


def _share(part: float) -> str:
    return f"{100 * part:.1f} %"
