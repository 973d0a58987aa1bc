"""How far one process has come: one file, replaced as a whole after each block."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from clip_lens_plugin.collection.checks.sealed import sha256
from clip_lens_plugin.collection.errors import NOT_WHOLE, CollectionDamagedError
from clip_lens_plugin.collection.place import Place
from clip_lens_plugin.collection.plan import FOLDER, Plan
from clip_lens_plugin.contributions import Contributions
from clip_lens_plugin.fingerprints import weights_digest
from clip_lens_plugin.images import Skipped
from clip_lens_plugin.means import ComponentSums
from clip_lens_plugin.moments import Moments

OWN = re.compile(rf"{FOLDER}/(0|[1-9]\d*)\.safetensors")


@dataclass
class Progress:
    """Sums over the blocks that one process has done, in the order in which it did them.

    Attributes:
        blocks: numbers of the blocks.
        moments, sums: of their images; None before the first.
        skipped: samples that could not be read, by position.
        completeness_error: the greatest of all batches.
        chunks: by block the checksums of its chunks, of the blocks done and of those whose rows had to be written
            again.
    """

    blocks: list[int] = field(default_factory=list)
    moments: Moments | None = None
    sums: ComponentSums | None = None
    skipped: dict[int, Skipped] = field(default_factory=dict)
    completeness_error: float = 0.0
    chunks: dict[int, np.ndarray] = field(default_factory=dict)

    def add(self, contributions: Contributions) -> None:
        """Adds a batch, in cosine units as in the paper."""
        normalized = contributions.normalized()
        self.add_sums(Moments.from_contributions(normalized), ComponentSums.from_contributions(normalized))
        self.completeness_error = max(self.completeness_error, contributions.completeness_error())

    def add_sums(self, moments: Moments | None, sums: ComponentSums | None) -> None:
        """Adds what was summed elsewhere."""
        if moments is not None and sums is not None:
            self.moments = moments if self.moments is None else self.moments + moments
            self.sums = sums if self.sums is None else self.sums + sums

    def in_main_memory(self) -> Progress:
        """The same, as it is sent to other processes: a GPU's tensors would take its memory in each of them."""
        if self.moments is None or self.sums is None:
            return self
        moments = Moments.from_tensors(self.moments.to_tensors())
        return replace(self, moments=moments, sums=ComponentSums.from_tensors(self.sums.to_tensors()))

    def save(self, place: Place, rank: int, plan: Plan) -> None:
        """Replaces the file of this process."""
        tensors = {}
        if self.moments is not None and self.sums is not None:
            tensors |= {f"moments.{name}": value for name, value in self.moments.to_tensors().items()}
            tensors |= {f"sums.{name}": value for name, value in self.sums.to_tensors().items()}
        for block, checksums in self.chunks.items():
            tensors[f"chunks.{block}"] = torch.from_numpy(checksums.astype("int64"))
        about = {
            "blocks": self.blocks,
            "skipped": {str(position): [each.name, each.reason] for position, each in self.skipped.items()},
            "completeness_error": self.completeness_error,
        }
        about["sha256"] = _digest(about, tensors, plan, rank)
        tensors["about"] = torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8)
        place.set(_key(rank), save(tensors))

    @classmethod
    def load(cls, place: Place, rank: int, plan: Plan) -> Progress:
        """That of a process, empty if it has done nothing.

        Raises:
            CollectionDamagedError: if it is damaged, or of another process or collection.
        """
        found = place.get(_key(rank))
        if found is None:
            return cls()
        try:
            tensors = load(found)
            about = json.loads(tensors.pop("about").numpy().tobytes())
            digest = about.pop("sha256", None)
            if digest != _digest(about, tensors, plan, rank) and (plan.has_checksums or digest is not None):
                raise ValueError("its content is not that of its SHA-256, or of another collection")
            chunks = {int(block): each.numpy() for block, each in _under("chunks.", tensors).items()}
            progress = cls(
                blocks=about["blocks"],
                skipped={int(position): Skipped(*each) for position, each in about["skipped"].items()},
                completeness_error=float(about["completeness_error"]),
                chunks={block: each.astype("uint32") for block, each in chunks.items()},
            )
            if not all(type(block) is int and 0 <= block < plan.n_blocks for block in progress.blocks):
                raise ValueError("it holds blocks that there are not")
            if progress.blocks and "moments.n" in tensors:
                progress.moments = Moments.from_tensors(_under("moments.", tensors))
                progress.sums = ComponentSums.from_tensors(_under("sums.", tensors))
        except (SafetensorError, *NOT_WHOLE) as error:
            raise CollectionDamagedError(_key(rank), place, str(error)) from error
        return progress

    @classmethod
    def load_all(cls, place: Place, plan: Plan) -> tuple[dict[int, Progress], list[str]]:
        """That of every process that ever worked here, by rank; and what in their folder is of no use, in words."""
        found: dict[int, Progress] = {}
        faults = [f"{key} is not of the collection and is left alone" for key in _foreign(place)]
        for rank in _ranks(place):
            try:
                each = cls.load(place, rank, plan)
            except CollectionDamagedError as error:
                faults.append(f"{error.key} is damaged ({error.how}): what it holds is done again")
                continue
            if any(not set(each.blocks).isdisjoint(other.blocks) for other in found.values()):
                faults.append(f"{_key(rank)} holds blocks that another process did, and is not used")
            else:
                found[rank] = each
        return found, faults

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


def _digest(about: dict[str, Any], tensors: dict[str, Tensor], plan: Plan, rank: int) -> str:
    """Of all that a process's file holds, and of what it belongs to."""
    dtypes = {name: str(tensor.dtype) for name, tensor in tensors.items()}
    start = json.dumps([about, dtypes, sha256(plan.to_bytes()), rank], sort_keys=True).encode()
    return weights_digest(dict(sorted(tensors.items())), start)
