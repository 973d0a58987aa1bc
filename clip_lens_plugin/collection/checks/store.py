"""Every file of a store beside what was written: what is damaged, and what is still good."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load

from clip_lens_plugin.collection.checks.chunks import ChunkChecksums, fault_of
from clip_lens_plugin.collection.checks.description import (
    CHUNKS,
    CLASSES,
    DESCRIPTION,
    MOMENTS,
    NEURONS,
    PARTS,
    SKIPPED,
    SUMS,
    Description,
    neuron_files,
    read_file_description,
    read_plan,
)
from clip_lens_plugin.collection.errors import NOT_WHOLE, CollectionDamagedError
from clip_lens_plugin.collection.place import Place
from clip_lens_plugin.collection.plan import PLAN_FILE, Plan
from clip_lens_plugin.collection.rows import chunk_patterns
from clip_lens_plugin.collection.running.begin import recorded_checksums
from clip_lens_plugin.collection.running.progress import Progress
from clip_lens_plugin.higher_order.neurons.neuron_moments import NeuronMoments
from clip_lens_plugin.hints import given_as, go_on
from clip_lens_plugin.statistics.class_sums import ClassSums
from clip_lens_plugin.statistics.means import ComponentSums
from clip_lens_plugin.statistics.moments import Moments
from clip_lens_plugin.statistics.part_moments import PartMoments

PARSERS: dict[str, Callable[[bytes], object]] = {
    MOMENTS: lambda found: Moments.from_tensors(load(found)),
    SUMS: lambda found: ComponentSums.from_tensors(load(found)),
    SKIPPED: json.loads,
}
WORDS = {
    PLAN_FILE: "the plan",
    DESCRIPTION: "the description",
    MOMENTS: "moments",
    SUMS: "sums of components",
    SKIPPED: "the list of skipped samples",
    CHUNKS: "the checksums of chunks",
    PARTS: "moments of parts",
    CLASSES: "sums of classes",
}


@dataclass(frozen=True)
class StoreCheck:
    """What was found in the files of a store.

    Attributes:
        faults: what is damaged, a sentence each.
        good: what is not, in words.
        notes: what could not be compared.
        n_files: how many were read.
    """

    faults: tuple[str, ...]
    good: tuple[str, ...]
    notes: tuple[str, ...]
    n_files: int

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged."""
        return not self.faults

    def __str__(self) -> str:
        if self.is_whole and not self.notes:
            return f"all {self.n_files:,} files are as they were written"
        good = [f"good: {', '.join(self.good)}"] if self.good else ["nothing that could be compared is good"]
        return "\n".join([*self.faults, *self.notes, *good])


def check_store(address: Place | str | Path) -> StoreCheck:
    """Reads every file of a store, finished or not; needs no model.

    Raises:
        ValueError: if there is none at all, or it is of another version.
    """
    check = _Check(address if isinstance(address, Place) else Place(address))
    plan = check.plan()
    if plan is not None and not plan.has_checksums:
        check.without_checksums(plan)
        return check.result()
    description = check.description()
    if description is not None:
        check.files(description)
        counted = None if plan is None else plan.counted(description.n_samples)
        if description.patterns:
            check.chunks(description.patterns, description.block, counted, check.checksums(description.patterns))
    elif plan is not None and check.faults:
        check.undescribed(plan)
    elif plan is not None:
        check.unfinished(plan)
    elif not check.faults:
        raise ValueError(f"{check.place} holds no store.")
    return check.result()


class _Check:
    """What was found so far."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._faults: list[str] = []
        self._good: list[str] = []
        self._notes: list[str] = []
        self._n_files = 0

    @property
    def faults(self) -> int:
        return len(self._faults)

    def result(self) -> StoreCheck:
        return StoreCheck(tuple(self._faults), tuple(self._good), tuple(self._notes), self._n_files)

    def plan(self) -> Plan | None:
        try:
            return read_plan(self.place)
        except CollectionDamagedError as error:
            self._damaged(error)

    def description(self) -> Description | None:
        try:
            return read_file_description(self.place)
        except CollectionDamagedError as error:
            self._damaged(error)

    def files(self, description: Description) -> None:
        """Every file but the chunks."""
        for key, kept in description.files.items():
            found = self._found(key)
            fault = found.how if isinstance(found, CollectionDamagedError) else kept.fault_of(found)
            if fault is None:
                self._is_good(key)
            elif key != PLAN_FILE or not self._faults:  # A damaged plan was said.
                self._damaged(CollectionDamagedError(key, self.place, fault))
        self._is_good(DESCRIPTION)

    def checksums(self, patterns: tuple[str, ...]) -> ChunkChecksums | None:
        try:
            return ChunkChecksums.from_bytes(patterns, self.place.get(CHUNKS) or b"")
        except ValueError:  # It was said.
            return None

    def chunks(
        self, patterns: tuple[str, ...], block: int, plan: Plan | None, checksums: ChunkChecksums | None
    ) -> None:
        """Every chunk beside its checksum, array by array."""
        if checksums is None:
            self._notes.append("chunks of arrays cannot be compared without their checksums")
            return
        last = None if plan is None else plan.last_sample
        names = list(dict.fromkeys(pattern.split("/")[0] for pattern in patterns))
        faults: dict[str, dict[int, str]] = {name: {} for name in names}
        for key, number, crc in checksums.every():
            found = self._found(key)
            fault = found.how if isinstance(found, CollectionDamagedError) else fault_of(found, crc)
            if fault:
                faults[key.split("/")[0]].setdefault(number, f"{key}: {fault}")
        for name, of_blocks in faults.items():
            if not of_blocks:
                self._good.append(f"rows of {name!r}")
                continue
            where = _ranges(of_blocks, block, last)
            self._faults.append(f"samples {where} of {name!r} are damaged ({next(iter(of_blocks.values()))})")
            if len(of_blocks) < len(checksums.values):
                self._good.append(f"the other rows of {name!r}")

    def unfinished(self, plan: Plan) -> None:
        """The blocks that were done."""
        every, faults = Progress.load_all(self.place, plan)
        self._faults += faults
        done = sorted({block for each in every.values() for block in each.blocks})
        damaged = [block for block in done if recorded_checksums(self.place, plan, [*every.values()], block) is None]
        self._n_files += len(every) + len(done) * len(chunk_patterns(plan))
        if damaged:
            where = _ranges(damaged, plan.block, plan.last_sample)
            self._faults.append(
                f"rows of samples {where} are damaged: they are written again with {given_as('resume')}"
            )
        of_all = "" if plan.n_samples is None else f" of {plan.n_blocks:,}"
        self._notes.append(f"not finished: {len(done):,}{of_all} blocks are done; {go_on()}")
        self._good.append(f"{len(done) - len(damaged):,} blocks")

    def undescribed(self, plan: Plan) -> None:
        """What can be said where the description is damaged: each chunk beside its checksum, files by their form."""
        parsers = {**PARSERS, **dict.fromkeys(neuron_files(plan).values(), _read_neurons)}
        if plan.parts:
            parsers[PARTS] = lambda found: PartMoments.from_tensors(load(found))
        if plan.class_sums is not None:
            parsers[CLASSES] = lambda found: ClassSums.from_tensors(load(found))
        for key, parse in parsers.items():
            found = self._found(key)
            fault = found.how if isinstance(found, CollectionDamagedError) else _fault_of_form(found, parse)
            if fault:
                self._damaged(CollectionDamagedError(key, self.place, fault))
            else:
                self._notes.append(f"{_words(key)} can be read, but not compared with what was written")
        patterns = chunk_patterns(plan)
        if patterns:
            self.chunks(patterns, plan.block, plan, self.checksums(patterns))

    def without_checksums(self, plan: Plan) -> None:
        """A store of an earlier version: whether its files can be read."""
        self._notes.append("of an earlier version without checksums: what can be read may still be damaged")
        if self.place.get(MOMENTS) is None:
            self._notes.append(f"not finished: {go_on()}")
            return
        self.undescribed(plan)
        if plan.what != "contributions":
            return
        for name in dict.fromkeys(pattern.split("/")[0] for pattern in chunk_patterns(plan)):
            damaged: dict[int, str] = {}
            for block in range(plan.n_blocks):
                try:
                    array: Any = self.place.group()[name]
                    samples = plan.samples(block)
                    array[samples.start : samples.stop]
                except NOT_WHOLE as error:
                    damaged[block] = str(error)
            if damaged:
                where, first = _ranges(damaged, plan.block, plan.last_sample), next(iter(damaged.values()))
                self._faults.append(f"samples {where} of {name!r} are damaged ({first})")
            else:
                self._good.append(f"rows of {name!r} (they can be read)")

    def _found(self, key: str) -> bytes | CollectionDamagedError | None:
        self._n_files += 1
        try:
            return self.place.get(key)
        except CollectionDamagedError as error:
            return error

    def _is_good(self, key: str) -> None:
        words = _words(key)
        if words is not None:
            self._good.append(words)

    def _damaged(self, error: CollectionDamagedError) -> None:
        words = _words(error.key)
        what = error.key if words is None else f"{error.key} ({words})"
        self._faults.append(f"{what} is damaged: {error.how}")


def _words(key: str) -> str | None:
    """What a file holds; None for metadata of arrays."""
    before, after = NEURONS.split("{}")
    of_neurons = key.startswith(before) and key.endswith(after)
    return f"moments of layer {key[len(before) : -len(after)]}'s neurons" if of_neurons else WORDS.get(key)


def _read_neurons(found: bytes) -> NeuronMoments:
    return NeuronMoments.from_tensors(load(found))


def _fault_of_form(found: bytes | None, parse: Callable[[bytes], object]) -> str | None:
    if found is None:
        return "it is not there"
    try:
        parse(found)
    except (SafetensorError, *NOT_WHOLE) as error:
        return str(error)
    return None


def _ranges(blocks: Iterable[int], block: int, last: int | None) -> str:
    """Positions of the samples of blocks, those of neighbours together: "256 to 767 and 1,024 to 1,279"."""
    found: list[list[int]] = []
    for each in sorted(blocks):
        if found and found[-1][1] == each - 1:
            found[-1][1] = each
        else:
            found.append([each, each])
    ends = [(first * block, (until + 1) * block - 1) for first, until in found]
    return " and ".join(f"{a:,} to {b if last is None else min(b, last):,}" for a, b in ends)
