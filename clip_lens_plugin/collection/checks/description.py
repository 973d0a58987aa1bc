"""The description of a finished store: the last file that is written, with the SHA-256 of all others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from clip_lens_plugin.arguments import checked_index
from clip_lens_plugin.collection.checks.chunks import ChunkChecksums, fault_of
from clip_lens_plugin.collection.checks.sealed import sealed, sha256, unsealed
from clip_lens_plugin.collection.errors import CollectionDamagedError
from clip_lens_plugin.collection.place import Place
from clip_lens_plugin.collection.plan import FOLDER, PLAN_FILE, Plan
from clip_lens_plugin.hints import hint
from clip_lens_plugin.model.identity.verification import Verification

DESCRIPTION = "clip_lens_description.json"
GROUP, MOMENTS, SUMS, SKIPPED = "zarr.json", "moments.safetensors", "sums.safetensors", "skipped.json"
CHUNKS = "checksums.safetensors"
NEURONS = "neurons_{}.safetensors"
"""Moments of neurons, {} for the number of their layer."""
PARTS, CLASSES = "part_moments.safetensors", "class_sums.safetensors"
OLD_PLAN, OLD_DESCRIPTION = "clip_lens_plan", "clip_lens_finished"
"""Attributes of the zarr group in stores of formats 3 and 4, instead of files."""


@dataclass(frozen=True)
class KeptFile:
    """What a file held when it was written."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> KeptFile:
        """The size and digest of a file's content."""
        return cls(len(content), sha256(content))

    def fault_of(self, found: bytes | None) -> str | None:
        """The fault of a file's present content, in words; None if there is none."""
        if found is None:
            return "it is not there"
        if len(found) != self.bytes:
            return f"it has {len(found):,} bytes, {self.bytes:,} were written"
        return None if sha256(found) == self.sha256 else "its SHA-256 is not that of what was written"


@dataclass(frozen=True)
class Description:
    """What is known of a finished store beside its plan.

    Attributes:
        completeness_error: the greatest relative error of all batches.
        verified: the model beside its source when it was collected; None in stores of earlier versions.
        files: every other file but the chunks of arrays; none in stores of earlier versions.
        patterns: see :class:`ChunkChecksums`.
        block: samples that lie in a chunk.
        n_samples: that a stream had; None for another data set, whose plan says so.
    """

    completeness_error: float
    verified: Verification | None
    files: Mapping[str, KeptFile] = field(default_factory=dict)
    patterns: tuple[str, ...] = ()
    block: int = 0
    n_samples: int | None = None

    def refuse_lacking(self, place: Place) -> None:
        """Raises CollectionDamagedError if a file but the chunks of arrays is not there, or has another size."""
        for key, size in place.sizes(self.files).items():
            expected = self.files[key].bytes
            if size is None:
                raise CollectionDamagedError(key, place, "it is not there")
            if size not in (-1, expected):
                raise CollectionDamagedError(key, place, f"it has {size:,} bytes, {expected:,} were written")

    def to_bytes(self) -> bytes:
        """The description file."""
        values = {
            "completeness_error": self.completeness_error,
            "verified": None if self.verified is None else self.verified.to_json(),
            "block": self.block,
            "chunks": list(self.patterns),
            "files": {key: asdict(each) for key, each in sorted(self.files.items())},
        }
        return sealed(values if self.n_samples is None else {**values, "n_samples": self.n_samples})

    @classmethod
    def from_bytes(cls, found: bytes) -> Description:
        """Reads what :meth:`to_bytes` gave.

        Raises:
            ValueError: if a byte of it is another.
        """
        values = unsealed(found)
        try:
            return cls(
                completeness_error=float(values["completeness_error"]),
                verified=Verification.from_json(values["verified"]),
                files={key: KeptFile(**each) for key, each in values["files"].items()},
                patterns=tuple(values["chunks"]),
                block=int(values["block"]),
                n_samples=values.get("n_samples"),
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"it lacks something ({error})") from error


class ExpectedFiles:
    """What each file of a finished store should hold."""

    def __init__(self, place: Place, description: Description) -> None:
        self._place, self._description = place, description
        self.chunks = ChunkChecksums(description.patterns, np.zeros((0, len(description.patterns)), np.uint32))
        if description.patterns:
            self.chunks = self._read_chunks()

    def _read_chunks(self) -> ChunkChecksums:
        found = self._place.get(CHUNKS)
        self.refuse_other(CHUNKS, found)
        try:
            return ChunkChecksums.from_bytes(self._description.patterns, found or b"")
        except ValueError as error:
            raise CollectionDamagedError(CHUNKS, self._place, str(error)) from error

    def refuse_other(self, key: str, found: bytes | None) -> None:
        """Raises CollectionDamagedError if a file that should be there is not, or holds something else."""
        file, crc = self._description.files.get(key), self.chunks.expected(key)
        fault = None if file is None else file.fault_of(found)
        if crc is not None:
            fault = fault_of(found, crc)
        if fault:
            raise CollectionDamagedError(key, self._place, fault)


def neuron_files(plan: Plan) -> dict[int, str]:
    """Keys of the moments of neurons, by layer."""
    return {layer: NEURONS.format(layer) for layer in plan.neuron_layers}


def checked_neuron_layer(plan: Plan, layer: int, place: object) -> int:
    """The layer counted from the start.

    Raises:
        ValueError: if no moments of its neurons were collected; the message says how to.
        IndexError: if there is no such layer.
    """
    number, kept = checked_index("layer", layer, plan.shape[0]), plan.neuron_layers
    if number not in kept:
        again = hint(f"neurons=[{number}]", f"--neurons {number}")
        raise ValueError(
            f"{place} holds moments of neurons of {f'layers {[*kept]}' if kept else 'no layer'}, not of layer "
            f"{number}. Collect into another place with {again}."
        )
    return number


def read_plan(place: Place) -> Plan | None:
    """The plan of what was collected here, finished or not; None where nothing was.

    Raises:
        CollectionDamagedError: if it is damaged, or lacks although other files are there.
        ValueError: if it is of another version.
    """
    found = place.get(PLAN_FILE)
    if found is not None:
        try:
            values = unsealed(found)
        except ValueError as error:
            raise CollectionDamagedError(PLAN_FILE, place, str(error)) from error
        return Plan.from_json(values)
    if place.get(DESCRIPTION) is not None:
        raise CollectionDamagedError(PLAN_FILE, place, "it is not there")
    kept = _old_attributes(place).get(OLD_PLAN)
    return None if kept is None else Plan.from_json(kept)


def read_description(place: Place, plan: Plan) -> Description | None:
    """The description of what was collected here; None if it is not finished.

    Raises:
        CollectionDamagedError: if it is damaged.
    """
    return read_file_description(place) if plan.has_checksums else _old_description(place)


def read_file_description(place: Place) -> Description | None:
    """The description file, None where there is none.

    Raises:
        CollectionDamagedError: if it is damaged.
    """
    found = place.get(DESCRIPTION)
    if found is None:
        # Progress is removed last, so where there is none and sums are there, it was finished.
        if place.sizes([MOMENTS])[MOMENTS] is not None and not place.listed(FOLDER + "/"):
            raise CollectionDamagedError(DESCRIPTION, place, "it is not there, although the store was finished")
        return None
    try:
        return Description.from_bytes(found)
    except ValueError as error:
        raise CollectionDamagedError(DESCRIPTION, place, str(error)) from error


def _old_description(place: Place) -> Description | None:
    kept = _old_attributes(place).get(OLD_DESCRIPTION)
    if kept is None:
        return None
    try:
        return Description(float(kept["completeness_error"]), Verification.from_json(kept.get("verified")))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        how = f"{OLD_DESCRIPTION} holds no completeness_error or verification"
        raise CollectionDamagedError(GROUP, place, how) from error


def _old_attributes(place: Place) -> dict[str, Any]:
    """Attributes of the zarr group, none where there is no group."""
    found = place.get(GROUP)
    if found is None:
        return {}
    try:
        attributes = json.loads(found).get("attributes", {})
        if not isinstance(attributes.get(OLD_PLAN, {}), dict):
            raise ValueError(f"{OLD_PLAN} is no object")
    except (ValueError, AttributeError, RecursionError) as error:
        raise CollectionDamagedError(
            GROUP, place, f"it is no description of a group ({type(error).__name__})"
        ) from error
    return attributes
