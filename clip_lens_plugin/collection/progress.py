"""How far one process has come: one file, replaced as a whole after each block."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import torch
from safetensors.torch import load, save
from torch import Tensor

from clip_lens_plugin.collection.place import Place
from clip_lens_plugin.contributions import Contributions
from clip_lens_plugin.images import Skipped
from clip_lens_plugin.means import ComponentSums
from clip_lens_plugin.moments import Moments

FOLDER = "progress"


@dataclass
class Progress:
    """Sums over the blocks that one process has done, in the order in which it did them.

    Attributes:
        blocks: numbers of the blocks.
        moments, sums: of their images; None before the first.
        skipped: samples that could not be read, by position.
        completeness_error: the greatest of all batches.
    """

    blocks: list[int] = field(default_factory=list)
    moments: Moments | None = None
    sums: ComponentSums | None = None
    skipped: dict[int, Skipped] = field(default_factory=dict)
    completeness_error: float = 0.0

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

    def save(self, place: Place, rank: int) -> None:
        """Replaces the file of this process."""
        about = {
            "blocks": self.blocks,
            "skipped": {position: [each.name, each.reason] for position, each in self.skipped.items()},
            "completeness_error": self.completeness_error,
        }
        tensors = {"about": torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8)}
        if self.moments is not None and self.sums is not None:
            tensors |= {f"moments.{name}": value for name, value in self.moments.to_tensors().items()}
            tensors |= {f"sums.{name}": value for name, value in self.sums.to_tensors().items()}
        place.set(f"{FOLDER}/{rank}.safetensors", save(tensors))

    @classmethod
    def load(cls, place: Place, rank: int) -> Progress:
        """That of a process, empty if it has done nothing."""
        found = place.get(f"{FOLDER}/{rank}.safetensors")
        if found is None:
            return cls()
        tensors = load(found)
        about = json.loads(tensors["about"].numpy().tobytes())
        progress = cls(
            blocks=about["blocks"],
            skipped={int(position): Skipped(*each) for position, each in about["skipped"].items()},
            completeness_error=about["completeness_error"],
        )
        if progress.blocks and "moments.n" in tensors:
            progress.moments = Moments.from_tensors(_under("moments.", tensors))
            progress.sums = ComponentSums.from_tensors(_under("sums.", tensors))
        return progress

    @classmethod
    def load_all(cls, place: Place) -> dict[int, Progress]:
        """That of every process that ever worked here, by rank."""
        ranks = sorted(int(key.split("/")[1].split(".")[0]) for key in place.listed(FOLDER + "/"))
        return {rank: cls.load(place, rank) for rank in ranks}

    @staticmethod
    def remove_all(place: Place) -> None:
        """Removes the files of all processes, and their folder."""
        for key in place.listed(FOLDER + "/"):
            place.delete(key)
        place.remove_empty_folder(FOLDER)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
