"""How far one process has come: one file, replaced as a whole about once a minute."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt32
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from clip_lens_plugin.collection.checks.sealed import sha256
from clip_lens_plugin.collection.errors import NOT_WHOLE, CollectionDamagedError
from clip_lens_plugin.collection.parts_and_classes import BlockRowNumbers, added_classes, added_parts
from clip_lens_plugin.collection.place import Place
from clip_lens_plugin.collection.plan import FOLDER, Plan
from clip_lens_plugin.datasets.image_folder import Skipped
from clip_lens_plugin.datasets.streams.stream import State
from clip_lens_plugin.decomposition.contributions import Contributions
from clip_lens_plugin.higher_order.neurons.neuron_moments import NeuronMoments
from clip_lens_plugin.model.identity.fingerprints import weights_digest
from clip_lens_plugin.statistics.class_sums import ClassSums
from clip_lens_plugin.statistics.means import ComponentSums
from clip_lens_plugin.statistics.moments import Moments
from clip_lens_plugin.statistics.part_moments import PartMoments

SECONDS = 60.0
"""Between two writes of the file, which is large where the moments are."""

WRITING = 0.03
"""The greatest share of the time that writing it may take: where it is large, it is written less often."""

OWN = re.compile(rf"{FOLDER}/(0|[1-9]\d*)\.safetensors")


@dataclass
class Progress:
    """Sums over the blocks that one process has done, in the order in which it did them.

    Attributes:
        blocks: numbers of the blocks.
        moments, sums: of their images; None before the first.
        neurons: moments of neurons, by layer; none before the first image, or where none are kept.
        parts, classes: moments of disjoint parts, and sums of classes; None likewise.
        skipped: samples that could not be read, by position.
        completeness_error: the greatest of all batches.
        chunks: by block the checksums of its chunks, of the blocks done and of those whose rows had to be written
            again.
        stream: where the stream stands after the last block, in JSON's types; None where the data set is none.
    """

    blocks: list[int] = field(default_factory=list)
    moments: Moments | None = None
    sums: ComponentSums | None = None
    skipped: dict[int, Skipped] = field(default_factory=dict)
    completeness_error: float = 0.0
    chunks: dict[int, np.ndarray] = field(default_factory=dict)
    stream: State | None = None
    neurons: dict[int, NeuronMoments] = field(default_factory=dict)
    parts: PartMoments | None = None
    classes: ClassSums | None = None

    _is_whole: bool = field(default=True, compare=False, repr=False)
    _is_kept: bool = field(default=True, compare=False, repr=False)
    _due: float = field(default_factory=lambda: time.monotonic() + SECONDS, compare=False, repr=False)

    def add_block(
        self,
        block: int,
        batches: Sequence[Contributions],
        skipped: dict[int, Skipped],
        plan: Plan,
        rows: BlockRowNumbers,
        stream: State | None = None,
        of_neurons: Callable[[dict[int, NeuronMoments]], dict[int, NeuronMoments]] | None = None,
    ) -> None:
        """Adds a block when all of it is there, so that there is no half of one in the sums.

        Args:
            block: its number.
            batches: its contributions.
            skipped: its samples that could not be read, by position.
            plan: says which sums are kept.
            rows: positions and labels of the images of ``batches``.
            stream: where it stands after the block.
            of_neurons: adds the block to moments of neurons; None where none are kept.
        """
        self._is_whole = False  # Ctrl-C may come before all is added.
        in_cosine = [contributions.normalized() for contributions in batches]  # As in the paper.
        for normalized in in_cosine:
            sums = ComponentSums.from_contributions(normalized)
            if self.moments is None or self.sums is None:
                self.moments, self.sums = Moments.from_contributions(normalized, plan.moment_layers), sums
            else:
                self.moments, self.sums = self.moments.absorb(normalized), self.sums + sums
        self.completeness_error = max([self.completeness_error, *(each.completeness_error() for each in batches)])
        self.parts = added_parts(self.parts, plan, in_cosine, rows)
        self.classes = added_classes(self.classes, plan, in_cosine, rows)
        if of_neurons is not None:
            self.neurons = of_neurons(self.neurons)
        self.skipped |= skipped
        self.blocks.append(block)
        self.stream = stream
        self._is_whole, self._is_kept = True, False

    def add_rows(self, block: int, checksums: UInt32[np.ndarray, " patterns"]) -> None:
        """Notes that the rows of a block were written."""
        self.chunks[block] = checksums
        self._is_kept = False

    def take_sums(self, other: Progress) -> None:
        """Adds, in place, the sums of another process, which has none from then on."""
        if other.moments is not None and other.sums is not None:
            self.moments = other.moments if self.moments is None else self.moments.absorb_sums(other.moments)
            self.sums = other.sums if self.sums is None else self.sums + other.sums
        for layer, theirs in other.neurons.items():
            self.neurons[layer] = self.neurons[layer].absorb_sums(theirs) if layer in self.neurons else theirs
        if other.parts is not None:
            self.parts = other.parts if self.parts is None else self.parts.absorb_sums(other.parts)
        if other.classes is not None:
            self.classes = other.classes if self.classes is None else self.classes.absorb_sums(other.classes)
        other.forget_sums()

    def forget_sums(self) -> None:
        """Lets go of what is large."""
        self.moments = self.sums = self.parts = self.classes = None
        self.neurons = {}

    def on(self, device: torch.device) -> Progress:
        """The same with its moments on the device that adds to them."""
        if self.moments is not None:
            self.moments = self.moments.to(device)
        self.neurons = {layer: each.to(device) for layer, each in self.neurons.items()}
        self.parts = None if self.parts is None else self.parts.to(device)
        self.classes = None if self.classes is None else self.classes.to(device)
        return self

    def to_tensors(self) -> dict[str, Tensor]:
        """All of it, in main memory."""
        return {**self._tensors(), "about": _packed(self._about())}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Progress:
        """What :meth:`to_tensors` gave."""
        about = _unpacked(tensors["about"])
        progress = cls(
            blocks=about["blocks"],
            skipped={int(position): Skipped(*each) for position, each in about["skipped"].items()},
            completeness_error=float(about["completeness_error"]),
            stream=about.get("stream"),
            chunks={int(block): each.numpy().astype("uint32") for block, each in _under("chunks.", tensors).items()},
        )
        if progress.blocks and "moments.n" in tensors:
            progress.moments = Moments.from_tensors(_under("moments.", tensors))
            progress.sums = ComponentSums.from_tensors(_under("sums.", tensors))
            for layer in about.get("neuron_layers", ()):
                progress.neurons[layer] = NeuronMoments.from_tensors(_under(f"neurons.{layer}.", tensors))
            if "parts.n" in tensors:
                progress.parts = PartMoments.from_tensors(_under("parts.", tensors))
            if "classes.counts" in tensors:
                progress.classes = ClassSums.from_tensors(_under("classes.", tensors))
        return progress

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {}
        if self.moments is not None and self.sums is not None:
            tensors |= {f"moments.{name}": value for name, value in self.moments.to_tensors().items()}
            tensors |= {f"sums.{name}": value for name, value in self.sums.to_tensors().items()}
        for kind, sums in (("parts", self.parts), ("classes", self.classes)):
            if sums is not None:
                tensors |= {f"{kind}.{name}": value for name, value in sums.to_tensors().items()}
        for layer, each in self.neurons.items():
            tensors |= {f"neurons.{layer}.{name}": value for name, value in each.to_tensors().items()}
        for block, checksums in self.chunks.items():
            tensors[f"chunks.{block}"] = torch.from_numpy(checksums.astype("int64"))
        return tensors

    def _about(self) -> dict[str, Any]:
        about: dict[str, Any] = {
            "blocks": self.blocks,
            "skipped": {str(position): [each.name, each.reason] for position, each in self.skipped.items()},
            "completeness_error": self.completeness_error,
        }
        if self.neurons:
            about["neuron_layers"] = [*self.neurons]
        return about if self.stream is None else {**about, "stream": self.stream}

    @property
    def is_kept(self) -> bool:
        """Whether the file holds all of it."""
        return self._is_kept and self._is_whole

    def save_when_due(self, place: Place, rank: int, plan: Plan) -> None:
        """Replaces the file of this process, if that was not done lately."""
        if time.monotonic() >= self._due:
            self.save(place, rank, plan)

    def save(self, place: Place, rank: int, plan: Plan) -> None:
        """Replaces the file of this process, if there is more to keep.

        Not where adding a block was interrupted: the file is of the blocks before it.
        """
        if self._is_kept or not self._is_whole:
            return
        begun = time.monotonic()
        tensors, about = self._tensors(), self._about()
        tensors["about"] = _packed({**about, "sha256": _digest(about, tensors, plan, rank)})
        place.set(_key(rank), save(tensors))
        ended, self._is_kept = time.monotonic(), True
        self._due = ended + max(SECONDS, (ended - begun) / WRITING)

    @classmethod
    def load(cls, place: Place, rank: int, plan: Plan) -> Progress:
        """That of a process, empty if it has done nothing.

        Raises:
            CollectionDamagedError: if it is damaged, or of another process or store.
        """
        found = place.get(_key(rank))
        if found is None:
            return cls()
        try:
            tensors = load(found)
            packed = tensors.pop("about")
            about = _unpacked(packed)
            digest = about.pop("sha256", None)
            if digest != _digest(about, tensors, plan, rank) and (plan.has_checksums or digest is not None):
                raise ValueError("its content is not that of its SHA-256, or of another store")
            progress = cls.from_tensors({**tensors, "about": packed})
            if not all(map(plan.may_hold, progress.blocks)):
                raise ValueError("it holds blocks that there are not")
        except (SafetensorError, *NOT_WHOLE) as error:
            raise CollectionDamagedError(_key(rank), place, str(error)) from error
        return progress

    @classmethod
    def load_all(cls, place: Place, plan: Plan, own: int | None = None) -> tuple[dict[int, Progress], list[str]]:
        """That of every process that ever worked here, by rank; and what in their folder is of no use, in words.

        Args:
            own: the rank whose sums are kept, of none if not given: those of all may not fit in memory together.
        """
        found: dict[int, Progress] = {}
        faults = [f"{key} is not of the store and is left alone" for key in _foreign(place)]
        for rank in _ranks(place):
            try:
                each = cls.load(place, rank, plan)
            except CollectionDamagedError as error:
                faults.append(f"{error.key} is damaged ({error.how}): what it holds is done again")
                continue
            if any(not set(each.blocks).isdisjoint(other.blocks) for other in found.values()):
                faults.append(f"{_key(rank)} holds blocks that another process did, and is not used")
                continue
            if rank != own:
                each.forget_sums()
            found[rank] = each
        return found, faults

    @classmethod
    def load_earlier(cls, place: Place, plan: Plan, present: Sequence[Progress]) -> Iterator[Progress]:
        """That of each process of earlier calls, one after another; not of blocks that were done once more."""
        done = {block for each in present for block in each.blocks}
        for rank in _ranks(place):
            if rank < len(present):
                continue
            with suppress(CollectionDamagedError):
                each = cls.load(place, rank, plan)
                if done.isdisjoint(each.blocks):
                    done.update(each.blocks)
                    yield each

    @staticmethod
    def remove_all(place: Place) -> None:
        """Removes the files of all processes and, if nothing else is in it, their folder."""
        for rank in _ranks(place):
            with suppress(CollectionDamagedError):  # A link: it is not ours.
                place.delete(_key(rank))
        place.remove_empty_folder(FOLDER)


def _key(rank: int) -> str:
    return f"{FOLDER}/{rank}.safetensors"


def _ranks(place: Place) -> list[int]:
    """Those that have a file."""
    keys = place.listed(FOLDER + "/")
    return sorted(int(key.split("/")[1].split(".")[0]) for key in keys if OWN.fullmatch(key))


def _foreign(place: Place) -> list[str]:
    return [key for key in place.listed(FOLDER + "/") if not OWN.fullmatch(key)]


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _packed(about: dict[str, Any]) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8)


def _unpacked(about: Tensor) -> dict[str, Any]:
    return json.loads(about.numpy().tobytes())


def _digest(about: dict[str, Any], tensors: dict[str, Tensor], plan: Plan, rank: int) -> str:
    """Of all that a process's file holds, and of what it belongs to."""
    dtypes = {name: str(tensor.dtype) for name, tensor in tensors.items()}
    start = json.dumps([about, dtypes, sha256(plan.to_bytes()), rank], sort_keys=True).encode()
    return weights_digest(dict(sorted(tensors.items())), start)
