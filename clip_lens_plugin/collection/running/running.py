"""Batches of samples through the model, whatever they are read from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial

import torch

from clip_lens_plugin.collection.errors import NOTHING_KEPT
from clip_lens_plugin.collection.parts_and_classes import BlockRowNumbers
from clip_lens_plugin.collection.place import Place
from clip_lens_plugin.collection.plan import Plan
from clip_lens_plugin.collection.processes.ranks import Ranks
from clip_lens_plugin.collection.reading import Batch
from clip_lens_plugin.collection.rows import BlockRows
from clip_lens_plugin.collection.running.begin import say
from clip_lens_plugin.collection.running.neurons import BlockScalars, CollectedNeurons
from clip_lens_plugin.collection.running.progress import Progress
from clip_lens_plugin.datasets.image_folder import Skipped
from clip_lens_plugin.decomposition.contributions import Contributions
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.decomposition.running.activations import factors_from_images
from clip_lens_plugin.higher_order.neurons.neuron_moments import NeuronMoments
from clip_lens_plugin.hints import hint
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.plain_text import how_many


class NonFiniteActivationError(ArithmeticError):
    """A sample's contributions are NaN, infinite, or too large for the store's dtype."""


@dataclass
class Ran:
    """A block that was run, or the part of it so far.

    Attributes:
        rows: empty where none are kept.
        batches: contributions of each batch.
        skipped: samples that could not be read, by position.
        neurons: those that are watched; None for none.
        scalars: of those.
        of_rows: position and label of every image of the batches.
    """

    rows: BlockRows
    neurons: CollectedNeurons | None = None
    batches: list[Contributions] = field(default_factory=list)
    skipped: dict[int, Skipped] = field(default_factory=dict)
    scalars: BlockScalars = field(default_factory=BlockScalars)
    of_rows: BlockRowNumbers = field(default_factory=BlockRowNumbers)

    def add(self, model: HookedCLIP, plan: Plan, batch: Batch, name: Callable[[int], str]) -> None:
        """Runs a batch.

        Args:
            model, plan: of the store.
            batch: of the block.
            name: of the sample at a position.

        Raises:
            NonFiniteActivationError: if a sample's contributions are NaN, infinite, or too large for the rows.
            CompletenessError: if the parts do not sum to the embeddings.
        """
        self.skipped |= batch.skipped
        if batch.images is None:
            return
        contributions, scalars = _contributions(model, plan, batch.images, self.neurons)
        _refuse_non_finite(contributions, batch.positions, name)
        self.batches.append(contributions.check())
        self.scalars.add(batch.positions, scalars)
        self.of_rows.add(batch.positions, batch.labels)
        if plan.what == "contributions":
            try:
                self.rows.fill(batch.positions, batch.labels, contributions)
            except OverflowError as error:
                wider = hint("dtype='float32'", "--dtype float32")
                raise NonFiniteActivationError(
                    f"The contributions of sample {name(int(error.args[0]))!r} are too large for float16. "
                    f"Collect with {wider}."
                ) from error

    @property
    def of_neurons(self) -> Callable[[dict[int, NeuronMoments]], dict[int, NeuronMoments]] | None:
        """What adds the block to moments of neurons, in place; None where there are none."""
        return None if self.neurons is None else partial(self.neurons.added, block=self.scalars)


def _contributions(
    model: HookedCLIP, plan: Plan, images: torch.Tensor, neurons: CollectedNeurons | None
) -> tuple[Contributions, dict[int, torch.Tensor]]:
    """Of one run, and the scalars of the neurons that were watched in it, by layer."""
    device = model.cfg.device.type
    narrow = nullcontext() if plan.autocast == "none" else torch.autocast(device, getattr(torch, plan.autocast))
    with torch.no_grad():
        with narrow, nullcontext() if neurons is None else neurons.watched() as watch:
            factors = factors_from_images(model, images, tokens=False, neurons=False)
        scalars = {} if neurons is None or watch is None else neurons.scalars(watch, factors.embedding)
        return Contributions.of_run(Readout.of(model), factors), scalars


def _refuse_non_finite(contributions: Contributions, positions: list[int], name: Callable[[int], str]) -> None:
    c = contributions
    values = torch.cat([c.embedding, c.omega.flatten(1), c.head_coordinates.flatten(1), c.mlps.flatten(1)], dim=1)
    bad = (~values.isfinite().all(1)).nonzero().flatten().tolist()
    if bad:
        raise NonFiniteActivationError(
            f"Sample {name(positions[bad[0]])!r} gives NaN or infinite activations. Look at the sample; in "
            f"float16, load the model in float32 or bfloat16."
        )


def earlier_of(place: Place, plan: Plan, ranks: Ranks) -> dict[int, Progress]:
    """What each process did in earlier calls, with the sums of this one alone; says what of it is of no use."""
    earlier, faults = Progress.load_all(place, plan, own=ranks.rank)
    for fault in faults if ranks.is_first else ():
        say(f"{place}: {fault}.")
    return earlier


@contextmanager
def kept_if_ended(
    place: Place, plan: Plan, ranks: Ranks, mine: Progress, done: Callable[[], str]
) -> Iterator[Callable[[int], None]]:
    """Keeps what is done if an error or Ctrl-C ends it, and adds a note to the error that says how much that is.

    What is given is called with how many more samples have run.

    Args:
        done: says how many samples this process has done; "" for none.
    """
    ran: list[int] = []
    try:
        yield ran.append
    except BaseException as error:
        with suppress(OSError):  # What was written before is there still.
            mine.save(place, ranks.rank, plan)
        if mine.is_kept:
            kept, whose = done(), "" if ranks.world == 1 else f" of process {ranks.rank}"
            had_run = f"of {how_many(sum(ran), 'sample')} that had run"
            none = f"{NOTHING_KEPT}{whose} {had_run}: they are kept {plan.block} at a time"
            error.add_note(f"{kept}{whose} are kept" if kept else none)
        raise


def gathered(ranks: Ranks, mine: Progress) -> list[Progress]:
    """In rank 0, what each process did, the sums of all in the first; in others, their own."""
    everyones = [mine]

    def take(tensors: dict[str, torch.Tensor]) -> None:
        everyones.append(Progress.from_tensors(tensors))
        mine.take_sums(everyones[-1])

    ranks.gather(mine.to_tensors, take)
    return everyones
