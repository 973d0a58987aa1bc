"""A finished store: the moments and means of a data set and, where they were kept, the rows of its samples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
import zarr
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from clip_lens_plugin.arguments import checked_index, checked_indices, is_whole
from clip_lens_plugin.collection.checks.description import (
    CLASSES,
    MOMENTS,
    PARTS,
    SKIPPED,
    SUMS,
    Description,
    ExpectedFiles,
    checked_neuron_layer,
    neuron_files,
)
from clip_lens_plugin.collection.checks.store import StoreCheck, check_store
from clip_lens_plugin.collection.errors import (
    NOT_WHOLE,
    CollectionDamagedError,
    CollectionNotFoundError,
    SkippedWarning,
)
from clip_lens_plugin.collection.finished import read_finished
from clip_lens_plugin.collection.origins.own_model import own_model, refuse_out_of_reach
from clip_lens_plugin.collection.parts_and_classes import parts_of_rows, without_class_sums
from clip_lens_plugin.collection.place import Place
from clip_lens_plugin.collection.plan import Plan
from clip_lens_plugin.collection.planned_data import PlannedData
from clip_lens_plugin.collection.rows import EmbeddingNorms, larger_blocks, read_contributions, read_heads
from clip_lens_plugin.datasets.image_folder import Skipped
from clip_lens_plugin.decomposition.analysed import Provenance
from clip_lens_plugin.decomposition.contributions import Contributions
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.higher_order.neurons.neuron_moments import NeuronMoments
from clip_lens_plugin.hints import hint
from clip_lens_plugin.model.bridged import resolved
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.model.identity.fingerprints import Fingerprints
from clip_lens_plugin.model.protocol import ImageModel
from clip_lens_plugin.statistics.class_sums import ClassSums
from clip_lens_plugin.statistics.means import ComponentSums
from clip_lens_plugin.statistics.moments import Moments
from clip_lens_plugin.statistics.part_moments import PartMoments
from clip_lens_plugin.warned import warn
from clip_lens_plugin.zero_shot.accuracy import accuracy_on
from clip_lens_plugin.zero_shot.classifier import ZeroShotAccuracy, ZeroShotClassifier

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

T = TypeVar("T")

MOST_SKIPPED = 0.05
"""Share of samples that may be skipped without a warning."""


class ContributionStore(PlannedData):
    """What :func:`~clip_lens_plugin.collect` left, with the model that it was collected with.

    ``store[rows]`` are the :class:`Contributions` of samples, read when asked for; ``rows`` count the samples that
    could be read, in the order of the data set. Everything that takes contributions takes such a slice; what takes
    :data:`~clip_lens_plugin.decomposition.contributions.Data` takes the store itself and reads it block by block.

    Attributes:
        plan: what was collected, and how.
        constants: "separate", since a store keeps too little to share them out.
        completeness_error: greatest relative difference between the sum of the parts and the embedding over all
            samples, before they were rounded to the store's dtype.
        verified: the model's embedding beside the source's own, when it was collected; None in stores of earlier
            versions.
    """

    def __init__(self, place: Place, plan: Plan, model: HookedCLIP | None, description: Description) -> None:
        """What :meth:`open` makes of a folder.

        Args:
            place: where it lies.
            plan: what was collected.
            model: that it was collected with; None if it is to be loaded when it is needed.
            description: what was written when it was finished.
        """
        self.plan = plan
        if model is not None:
            self.model = model
        self.constants = "separate"
        self.completeness_error, self.verified = description.completeness_error, description.verified
        self._place, self._description = place, description
        self._neurons: dict[int, NeuronMoments] = {}
        self._norms = EmbeddingNorms()

    @classmethod
    def open(cls, address: str | Path, model: ImageModel | TransformerBridge | None = None) -> ContributionStore:
        """Opens a folder or fsspec address; reads nothing but its description and looks for its files.

        Args:
            address: where it lies.
            model: that it was collected with; if not given, loaded as it was loaded then, when it is first needed.

        Raises:
            CollectionNotFoundError: if there is none, or it is not finished.
            OwnModelError: if no model is given, and its own is not recorded or its file is gone; the message says what
                to give.
            CollectionDamagedError: if its description is damaged, or a file lacks or is cut short. What the other
                files hold is compared when they are read.
            CollectionMismatchError: if it was collected with another model; the message says which part differs. A
                store of an earlier version is compared by what that version kept, and a Python warning says so.
            ValueError: if it is of another version.
        """
        place, plan, description = read_finished(address)
        found: HookedCLIP | None = None if model is None else resolved(model)
        if found is None:
            refuse_out_of_reach(plan, str(address))
        else:
            plan.refuse_other_model(Fingerprints.of(found), str(address))
        plan.warn_of_earlier_version(str(address))
        description.refuse_lacking(place)
        return cls(place, plan.counted(description.n_samples), found, description)

    @cached_property
    def model(self) -> HookedCLIP:
        """The model that it was collected with, loaded when it is first needed if it was not given.

        Raises:
            OwnModelError: if it is out of reach; the message says what to give.
            CollectionMismatchError: if it is not what it was.
        """
        return own_model(self.plan, str(self._place))

    @cached_property
    def moments(self) -> Moments:
        """The moments of every head, in cosine units."""
        return self._parsed(MOMENTS, lambda found: Moments.from_tensors(load(found)))

    def neuron_moments(self, layer: int) -> NeuronMoments:
        """The moments of a layer's collected neurons, in cosine units; positions are those in the data set.

        Raises:
            ValueError: if none of its neurons were collected; the message says how to.
            IndexError: if there is no such layer.
        """
        number = checked_neuron_layer(self.plan, layer, self._place)
        if number not in self._neurons:
            key = neuron_files(self.plan)[number]
            self._neurons[number] = self._parsed(key, lambda found: NeuronMoments.from_tensors(load(found)))
        return self._neurons[number]

    @cached_property
    def sums(self) -> ComponentSums:
        """The sums of every component, in cosine units."""
        return self._parsed(SUMS, lambda found: ComponentSums.from_tensors(load(found)))

    @cached_property
    def part_moments(self) -> tuple[Moments, ...]:
        """Moments of the late heads, in cosine units, for each of fifty disjoint parts of the samples that has any.

        A sample's part follows from its position in the data set alone; together they are the late heads'
        :attr:`moments`. Where an earlier version kept none, they are taken of the rows, as far as these were kept. ()
        where they were not, or parts would take more than 0.4 GB, as with most attention pools.
        """
        if self.plan.parts:
            return self._parsed(PARTS, lambda found: PartMoments.from_tensors(load(found)).moments())
        return parts_of_rows(self, self.plan, self.positions.tolist()) if self.has_rows else ()

    @cached_property
    def class_sums(self) -> ClassSums:
        """The sums of each class, in cosine units.

        Raises:
            ValueError: if none were kept; the message says why, and how to have them.
        """
        if self.plan.class_sums is None:
            raise ValueError(without_class_sums(self.plan, self._place))
        return self._parsed(CLASSES, lambda found: ClassSums.from_tensors(load(found)))

    @cached_property
    def skipped(self) -> tuple[Skipped, ...]:
        """Samples that could not be read."""
        return self._parsed(SKIPPED, lambda found: tuple(Skipped(name, reason) for name, reason in json.loads(found)))

    @property
    def readout(self) -> Readout:
        """The model's folded weights, as they are now."""
        return Readout.of(self.model)

    @property
    def provenance(self) -> Provenance:
        """The data set that was collected."""
        return Provenance(self.plan.dataset, self.plan.dataset_fingerprint, self.positions)

    def kept(self, statistic: type[T]) -> T | None:
        """:attr:`moments`, :attr:`sums` or :attr:`class_sums`, before rows were rounded; None where not kept so.

        Args:
            statistic: the class of what is asked for, such as :class:`Moments`.
        """
        found = {Moments: "moments", ComponentSums: "sums", ClassSums: "class_sums"}.get(statistic)
        found = None if statistic is ClassSums and self.plan.class_sums is None and self.has_rows else found
        return None if found is None else getattr(self, found)

    def greatest_error(self) -> float:
        """:attr:`completeness_error`."""
        return self.completeness_error

    def accuracy(self, classifier: ZeroShotClassifier, labels: Int[Tensor, " n"] | None = None) -> ZeroShotAccuracy:
        """How often a zero-shot classifier names the class of a sample rightly, with 95 % intervals.

        Args:
            classifier: made with this model, its classes those of the store, or others with ``labels``.
            labels: each row's class among the classifier's, -1 where unknown (left out); :attr:`labels` if not given.

        Raises:
            ValueError: if the classifier was made with another model or stands for other classes, no label is known,
                labels do not match, or no rows were kept.
        """
        return accuracy_on(self, classifier, labels)

    def verify(self) -> StoreCheck:
        """Reads every file and says what is damaged and what is good, see :class:`StoreCheck`."""
        return check_store(self._place)

    def warn_of_skipped(self) -> None:
        """A :class:`SkippedWarning`, with the reasons, if more than 5 % of the samples could not be read."""
        if not self.has_many_skipped:
            return
        reasons = "; ".join(f"{n:,} times {reason}" for reason, n in self.skipped_reasons().most_common(5))
        warn(
            f"{len(self.skipped):,} of {len(self) + len(self.skipped):,} samples could not be read and are not in "
            f"{self._place}: {reasons}.",
            SkippedWarning,
        )

    @property
    def has_many_skipped(self) -> bool:
        """Whether more than 5 % of the samples could not be read."""
        return len(self.skipped) > MOST_SKIPPED * (len(self) + len(self.skipped))

    def skipped_reasons(self) -> Counter[str]:
        """How many samples were skipped for each reason."""
        return Counter(each.reason for each in self.skipped)

    def __len__(self) -> int:
        """Samples that could be read."""
        return self.moments.n

    @cached_property
    def positions(self) -> np.ndarray:
        """Position in the data set of each row [n]."""
        return np.flatnonzero(self._read("kept"))

    @cached_property
    def labels(self) -> Int[Tensor, " n"]:
        """Position in :attr:`classes` of each row's class, -1 where unknown."""
        return torch.from_numpy(self._read("label")[self.positions])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Identity of each row's sample in the data set."""
        return tuple(str(name) for name in self._read("name")[self.positions])

    def select(self, rows: Any) -> Contributions:
        """``store[rows]``."""
        return self[rows]

    def __getitem__(self, rows: Any) -> Contributions:
        """Contributions in units of the unnormalised embedding, on the model's device.

        Args:
            rows: a slice or range, positions in any order (negative ones count from the end), or a mask with one truth
                value per row; as a list, an array or a tensor.

        Raises:
            IndexError: if there is no such row, or the mask has another length.
            TypeError: if ``rows`` is a single position, which would have no batch dimension.
            CollectionDamagedError: if what is read is damaged; the message names the file.
            ValueError: if ``rows`` is none of these, or no rows were kept.
        """
        positions, back = self._positions_of(rows)
        with self._named_if_damaged("rows"):
            found = read_contributions(self._group, positions, self.readout, self.plan)
        return found if back is None else found.select(torch.from_numpy(back))

    def head(self, layer: int, head: int, rows: Any = slice(None)) -> Float[Tensor, "s k"]:
        """Coordinates y of one head, in cosine units, in float64; its contributions are ``y @ M`` (see ``Readout``).

        Reads the rows of this layer's heads and of the embeddings, which the unit needs, and nothing else.

        Args:
            layer, head, rows: negative ones count from the end; rows as for ``store[rows]``, all if not given.

        Raises:
            IndexError: if there is no such head or row.
            CollectionDamagedError, TypeError, ValueError: see ``store[rows]``.
        """
        return self._read_heads([self.model.cfg.checked_head(layer, head)], rows)[:, 0]

    def head_blocks(self, heads: Sequence[tuple[int, int]]) -> Iterator[tuple[range, Float[Tensor, "s m k"]]]:
        """Coordinates y of m heads, in cosine units, in float64: of all rows in order, in pieces with their rows.

        Reads these heads and the embeddings, which the unit needs, and nothing else.

        Args:
            heads: (layer, head) pairs, counted from the start.

        Raises CollectionDamagedError and ValueError as ``store[rows]``.
        """
        for rows in larger_blocks(self.blocks(), len(heads) * self.plan.shape[2]):
            yield rows, self._read_heads(heads, rows)

    def _read_heads(self, heads: Sequence[tuple[int, int]], rows: Any) -> Float[Tensor, "s m k"]:
        positions, back = self._positions_of(rows)
        with self._named_if_damaged("rows"):
            y = read_heads(self._group, self._norms, heads, positions).to(self.model.cfg.device)
        return y if back is None else y[torch.from_numpy(back).to(y.device)]

    def _positions_of(self, rows: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Positions in the data set, each once and in order; and where each row stands among them, if elsewhere."""
        picked = self._picked(rows)
        self._array("coordinates")
        unique, back = np.unique(picked, return_inverse=True)
        in_order = len(unique) == len(picked) and bool((unique == picked).all())
        return self.positions[unique], None if in_order else back

    def _picked(self, rows: Any) -> np.ndarray:
        """Row numbers."""
        if is_whole(rows) or (isinstance(rows, Tensor | np.ndarray) and rows.ndim == 0):
            row = checked_index("row", rows, len(self))
            raise TypeError(f"A store gives batches: ask for store[{row}:{row + 1}] instead of store[{rows}].")
        return checked_indices("row", rows, len(self)).numpy()

    @contextmanager
    def _named_if_damaged(self, what: str) -> Iterator[None]:
        try:
            yield
        except (CollectionNotFoundError, torch.OutOfMemoryError):
            raise
        except NOT_WHOLE as error:  # What zarr and its codecs raise.
            raise CollectionDamagedError(what, self._place, str(error)) from error

    def blocks(self) -> Iterator[range]:
        """All rows, in pieces that are read and held in memory well."""
        bounds = np.searchsorted(self.positions, np.arange(self.plan.n_blocks + 1) * self.plan.block)
        return (range(int(a), int(b)) for a, b in pairwise(bounds) if b > a)

    def __repr__(self) -> str:
        rows = self.plan.dtype if self.has_rows else "moments only"
        return (
            f"ContributionStore({str(self._place)!r}, samples={len(self)}, skipped={len(self.skipped)}, {rows}, "
            f"model={self.plan.model_name!r}, dataset={self.plan.dataset!r})"
        )

    @cached_property
    def _expected(self) -> ExpectedFiles:
        return ExpectedFiles(self._place, self._description)

    @cached_property
    def _group(self) -> zarr.Group:
        with self._named_if_damaged("arrays"):
            return self._place.group(refuse_other=self._expected.refuse_other)

    def _array(self, name: str) -> zarr.Array:
        if not self.has_rows:
            rows = hint("what='contributions'", "--what contributions")
            raise ValueError(f"{self._place} holds moments and means, but no rows of samples. Collect with {rows}.")
        with self._named_if_damaged(f"array {name!r}"):
            if name not in self._group:
                raise CollectionDamagedError(name, self._place, "the array is not there")
            return self._group[name]  # type: ignore[return-value]

    def _read(self, name: str) -> np.ndarray:
        array = self._array(name)
        with self._named_if_damaged(f"values of {name!r}"):
            return np.asarray(array[:])

    def _parsed(self, key: str, parse: Callable[[bytes], T]) -> T:
        found = self._place.get(key)
        self._expected.refuse_other(key, found)
        if found is None:
            raise CollectionDamagedError(key, self._place, "it is not there")
        try:
            return parse(found)
        except (SafetensorError, *NOT_WHOLE) as error:
            raise CollectionDamagedError(key, self._place, str(error)) from error
