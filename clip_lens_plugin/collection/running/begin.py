"""How a store begins, and how it is taken up again: finds what is there, and which of it is undamaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from clip_lens_plugin.collection.checks.chunks import fault_of
from clip_lens_plugin.collection.checks.description import (
    CHUNKS,
    CLASSES,
    DESCRIPTION,
    GROUP,
    MOMENTS,
    PARTS,
    SKIPPED,
    SUMS,
    neuron_files,
    read_description,
    read_plan,
)
from clip_lens_plugin.collection.errors import CollectionWarning
from clip_lens_plugin.collection.place import Place
from clip_lens_plugin.collection.plan import FOLDER, PLAN_FILE, Plan
from clip_lens_plugin.collection.rows import array_names, chunk_patterns, make_arrays
from clip_lens_plugin.collection.running.progress import Progress
from clip_lens_plugin.hints import go_on, kept_so_far
from clip_lens_plugin.warned import warn

FILES = (PLAN_FILE, DESCRIPTION, GROUP, MOMENTS, SUMS, SKIPPED, CHUNKS, PARTS, CLASSES)


def begin(place: Place, plan: Plan, resume: bool, held: ExitStack, as_begun: Sequence[str] = ()) -> Plan | None:
    """Makes the store or takes up what is there; the plan it was begun with, None if it is finished.

    Only an empty place is taken; the plan file says from then on that it is ours.

    Args:
        place, plan: of the store.
        resume: take up what is there.
        held: takes the lock.
        as_begun: settings in which it is taken up however it was begun.

    Raises:
        ValueError: if something else is there or, without ``resume``, a store.
        CollectionMismatchError: if what is there was begun otherwise.
    """
    _refuse_foreign(place)  # Before a lock is put beside what is not ours.
    held.enter_context(place.locked())
    begun = _refuse_foreign(place)
    try:
        if begun is None:
            place.create(PLAN_FILE, plan.to_bytes())
            begun = plan
        elif not resume:
            raise ValueError(f"{place} holds a store already: {go_on()}, or choose another place.")
        else:
            open_ones: dict[str, Any] = {name: getattr(begun, name) for name in as_begun}
            begun.refuse_other_plan(replace(plan, **open_ones), str(place))
            if read_description(place, begun) is not None:
                Progress.remove_all(place)
                return None
            begun.warn_of_earlier_version(str(place))
        place.remove_half_written([*FILES, *neuron_files(begun).values()], [FOLDER, *array_names(begun)])
        if begun.has_checksums:
            make_arrays(place, begun)
    except FileExistsError as error:
        raise ValueError(f"{place} was taken by another process just now. Choose another place.") from error
    except OSError as error:
        raise not_written(place, error) from error
    return begun


def _refuse_foreign(place: Place) -> Plan | None:
    """The plan of what is there; ValueError if it is not ours."""
    plan = read_plan(place)
    foreign = place.foreign(PLAN_FILE) if plan is None else None
    if foreign is not None:
        raise ValueError(f"{place} holds something else ({foreign}): collect into an empty or new place.")
    return plan


def not_written(place: object, error: OSError) -> OSError:
    """What to raise when a place cannot be written."""
    return OSError(f"{place} cannot be written: {error.strerror or error}. {kept_so_far()}; make room and {go_on()}.")


@contextmanager
def writing(place: object) -> Iterator[None]:
    """Raises OSError, with what to do, where a place cannot be written."""
    try:
        yield
    except OSError as error:
        raise not_written(place, error) from error


def say(what: str) -> None:
    """A Python warning about a store."""
    warn(what, CollectionWarning)


def is_damaged(place: Place, plan: Plan, every: list[Progress], block: int) -> bool:
    """Whether rows of a block that was done are not as they were written; not known in stores of earlier versions."""
    return plan.has_checksums and recorded_checksums(place, plan, every, block) is None


def recorded_checksums(place: Place, plan: Plan, every: list[Progress], block: int) -> np.ndarray | None:
    """The checksums that a block's chunks have and should have; None if one of them is damaged, or not there.

    Args:
        every: what each process did; where one wrote a block's rows again, there are two records of it.
    """
    keys = [pattern.format(block) for pattern in chunk_patterns(plan)]
    if not keys:
        return np.zeros(0, np.uint32)
    chunks = [place.get(key) for key in keys]
    for each in every:
        record = each.chunks.get(block)
        if record is not None and len(record) == len(keys):
            faults = map(fault_of, chunks, record.tolist())
            if not any(faults):
                return record
    return None
