"""Sums that need to know whose an image is: moments of disjoint parts by its position, sums of classes by its label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from clip_lens_plugin.collection.plan import FORMAT, Plan, classes_size, parts_size
from clip_lens_plugin.decomposition.contributions import Contributions, Data
from clip_lens_plugin.higher_order.neurons.moments_size import in_gigabytes
from clip_lens_plugin.hints import hint
from clip_lens_plugin.statistics import class_sums, part_moments
from clip_lens_plugin.statistics.class_sums import ClassSums
from clip_lens_plugin.statistics.moments import Moments, late_layers
from clip_lens_plugin.statistics.part_moments import N_PARTS, PartMoments

PARTS_ALLOWED, CLASSES_ALLOWED = in_gigabytes(part_moments.MOST_BYTES), in_gigabytes(class_sums.MOST_BYTES)


@dataclass
class BlockRowNumbers:
    """Position in the data set, and label, of every image of a block, in the order in which they were run."""

    positions: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    def add(self, positions: Sequence[int], labels: Sequence[int]) -> None:
        """Adds a batch."""
        self.positions.extend(positions)
        self.labels.extend(labels)


def added_parts(
    parts: PartMoments | None, plan: Plan, batches: Sequence[Contributions], rows: BlockRowNumbers
) -> PartMoments | None:
    """Moments of parts with a block added, in place; None where the plan keeps none, or there is no image yet.

    Args:
        parts: of the blocks before; None before the first image.
        plan: of the store.
        batches: of the block, in cosine units.
        rows: of the block.
    """
    if not plan.parts or not batches:
        return parts
    found = PartMoments.none(batches[0], late_layers(plan.shape[0])) if parts is None else parts
    return found.absorb(batches, rows.positions)


def added_classes(
    sums: ClassSums | None, plan: Plan, batches: Sequence[Contributions], rows: BlockRowNumbers
) -> ClassSums | None:
    """As :func:`added_parts`, of sums of classes."""
    if plan.class_sums is None or not batches:
        return sums
    found = ClassSums.none(batches[0], len(plan.classes or ()), plan.class_layers) if sums is None else sums
    return found.absorb(batches, rows.labels)


def parts_of_rows(data: Data, plan: Plan, positions: Sequence[int]) -> tuple[Moments, ...]:
    """Moments of parts from the rows of data, in cosine units; none where they would be too large.

    Args:
        data: a store with rows.
        plan: of the store.
        positions: of the rows in the data set that they were collected from.
    """
    if parts_size(plan.shape) > part_moments.MOST_BYTES:
        return ()
    return PartMoments.of_rows(data, late_layers(plan.shape[0]), positions)


def left_out(plan: Plan) -> list[str]:
    """What a store does not keep because of its size, a sentence each."""
    found, classes = [], len(plan.classes or ())
    if not plan.parts:
        size = in_gigabytes(parts_size(plan.shape))
        found.append(f"moments of {N_PARTS} parts are left out: they would take {size}, more than {PARTS_ALLOWED}")
    if classes and plan.class_sums != plan.heads:
        size = in_gigabytes(classes_size(classes, plan.shape, plan.heads))
        which = "of the last layers alone" if plan.class_sums == "late" else "left out"
        found.append(f"sums of {classes:,} classes are {which}: they would take {size}, more than {CLASSES_ALLOWED}")
    return found


def without_class_sums(plan: Plan, place: object) -> str:
    """Why a store holds no sums of classes, and what to do."""
    rows = hint("what='contributions'", "--what contributions")
    if plan.format < FORMAT:
        why, mend = "an earlier version collected it", "Collect again"
    elif plan.classes is None:
        why, mend = "its data set has no names of classes", "Collect again with labels by name"
    else:
        size = in_gigabytes(classes_size(len(plan.classes), plan.shape, "late"))
        why = f"of {len(plan.classes):,} classes they would take {size}, even of the last layers alone"
        mend = "Collect fewer classes"
    return f"{place} holds no sums of classes: {why}. {mend}, or with {rows}, whose rows give the same numbers."
