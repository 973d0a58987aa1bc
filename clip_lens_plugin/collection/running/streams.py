"""Collecting a stream: samples in order of arrival, their number unknown until it ends.

Each process runs its part of the stream in blocks of its own; the blocks of all are numbered in turn, so that rows
stand in the order of arrival within a block, and blocks by their turn and the rank. Where a process's last block is
not full, or it has fewer blocks than others, rows are left empty, as those of samples that cannot be read are.

With the sums of its blocks a process keeps where the stream stood after them. A stream cannot go back to single
samples: where rows that were written are damaged, the process begins again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from clip_lens_plugin.collection.place import Place
from clip_lens_plugin.collection.plan import Plan
from clip_lens_plugin.collection.processes.ranks import Ranks
from clip_lens_plugin.collection.reading import Batch, dead_readers_said, read_batches
from clip_lens_plugin.collection.rows import BlockRows, RowWriter
from clip_lens_plugin.collection.running.bars import stream_bar
from clip_lens_plugin.collection.running.begin import is_damaged, say, writing
from clip_lens_plugin.collection.running.neurons import CollectedNeurons
from clip_lens_plugin.collection.running.progress import Progress
from clip_lens_plugin.collection.running.running import Ran, earlier_of, gathered, kept_if_ended
from clip_lens_plugin.datasets.streams.stream import Arrival, State, StreamSource
from clip_lens_plugin.files.given import UnreachableError
from clip_lens_plugin.hints import go_on, kept_so_far
from clip_lens_plugin.model.hooked_clip import HookedCLIP


@dead_readers_said()
def run_stream(
    model: HookedCLIP,
    source: StreamSource,
    place: Place,
    plan: Plan,
    ranks: Ranks,
    workers: int,
    strict: bool,
    progress: bool,
) -> list[Progress]:
    """Runs this process's part of a stream, less what was done in earlier calls.

    In rank 0, what each process did, the sums of all in the first; in others, their own.

    Args:
        model, place, plan, ranks: of the store.
        source: this process's part.
        workers: processes that open and preprocess; the stream itself is read in this one.
        strict: stop at the first sample that cannot be read.
        progress: show a bar.

    Raises:
        UnreachableError: if the stream raises, as where a file is gone or the network is down.
    """
    mine = _earlier(place, plan, ranks).on(model.cfg.device)
    ranks.wait()  # Nobody writes before all have read.
    stand = mine.stream or {"arrived": 0, "ended": False, "state": None}
    writer = RowWriter(place, plan) if plan.what == "contributions" else None
    pulled = _Pulled(source, stand, plan.batch_size)

    def done_so_far() -> str:
        return f"{mine.stream['arrived']:,} samples" if mine.stream else ""

    kept = kept_if_ended(place, plan, ranks, mine, done_so_far)
    with kept as counted, stream_bar(progress and ranks.is_first, stand["arrived"]) as show:
        before = stand["arrived"]

        def moved(now: int) -> None:
            nonlocal before
            counted(now - before)
            before = now
            show(now)

        batches = read_batches(model, source, pulled, workers, strict)
        for ran, stand in _blocks(model, plan, ranks, pulled, batches, moved):
            block = _block(plan, ranks.rank, len(mine.blocks))
            with writing(place):
                if writer is not None:
                    mine.add_rows(block, writer.write(ran.rows, block))
                mine.add_block(block, ran.batches, ran.skipped, plan, ran.of_rows, stand, ran.of_neurons)
                mine.save_when_due(place, ranks.rank, plan)
        with writing(place):
            mine.save(place, ranks.rank, plan)
        return gathered(ranks, mine)


def counted_samples(plan: Plan, every: list[Progress]) -> tuple[int, set[int]]:
    """Positions that a stream took up in all, and the blocks among them that no process had samples for.

    Args:
        plan: of the store.
        every: what each process did, by rank.
    """
    ends, full = [0], set()
    for rank, each in enumerate(every):
        arrived = each.stream["arrived"] if each.stream else 0
        numbers = range(-(-arrived // plan.block))
        full |= {_block(plan, rank, number) for number in numbers}
        if arrived:
            ends.append(_position(plan, rank, arrived - 1) + 1)
    return max(ends), set(range(-(-max(ends) // plan.block))) - full


def write_empty(place: Place, plan: Plan, blocks: set[int]) -> dict[int, np.ndarray]:
    """Writes rows of no samples; the checksums of their chunks."""
    if plan.what != "contributions" or not blocks:
        return {}
    writer = RowWriter(place, plan)
    return {block: writer.write(BlockRows(plan, block), block) for block in sorted(blocks)}


class _Pulled:
    """Batches of arrivals as they are read from the stream, perhaps long before they are run.

    Attributes:
        notes: of each batch that was not run yet: names by number of arrival, and where the stream stood after it.
        failure: what the stream raised; the batches before it are run first.
    """

    def __init__(self, source: StreamSource, stand: State, batch_size: int) -> None:
        self._source, self._stand, self._batch_size = source, stand, batch_size
        self.notes: deque[tuple[dict[int, str], State]] = deque()
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[list[Arrival]]:
        arrived = self._stand["arrived"]
        if self._stand["ended"]:
            return
        try:
            arrivals = self._source.arrivals(self._stand["state"], arrived)
            while batch := list(islice(arrivals, self._batch_size)):
                arrived += len(batch)
                stand = {"arrived": arrived, "ended": len(batch) < self._batch_size, "state": self._source.state()}
                self.notes.append(({each.number: each.name for each in batch}, stand))
                yield batch
        except Exception as error:  # Whatever its files, the network or a function of the user raise.
            self.failure = error


def _blocks(
    model: HookedCLIP,
    plan: Plan,
    ranks: Ranks,
    pulled: _Pulled,
    batches: Iterator[Batch],
    moved: Callable[[int], object],
) -> Iterator[tuple[Ran, State]]:
    """Blocks that were run, the last one perhaps not full, and where the stream stood after each.

    Args:
        moved: called after each batch with how many samples have been run.
    """
    ran, stand, neurons = None, None, CollectedNeurons.of(model, plan)
    for batch in batches:
        ranks.check()
        names, stand = pulled.notes.popleft()
        at = {number: _position(plan, ranks.rank, number) for number in names}
        ran = ran or Ran(BlockRows(plan, next(iter(at.values())) // plan.block), neurons)
        named = {at[number]: name for number, name in names.items()}
        for position, name in named.items():
            ran.rows.name(position, name)
        positions = [at[number] for number in batch.positions]
        skipped = {at[number]: each for number, each in batch.skipped.items()}
        ran.add(model, plan, replace(batch, positions=positions, skipped=skipped), named.__getitem__)
        moved(stand["arrived"])
        if stand["arrived"] % plan.block == 0:
            yield ran, stand
            ran = None
    if pulled.failure is not None:
        reason = f"{type(pulled.failure).__name__}: {' '.join(str(pulled.failure).split())[:300]}"
        raise UnreachableError(
            f"The {plan.dataset} cannot be read on ({reason}). {kept_so_far()}: when it can be read again, {go_on()}."
        ) from pulled.failure
    if ran is not None and stand is not None:
        yield ran, {**stand, "ended": True}


def _block(plan: Plan, rank: int, number: int) -> int:
    """Number among the blocks of all processes of a process's block."""
    return number * (plan.ranks or 1) + rank


def _position(plan: Plan, rank: int, arrived: int) -> int:
    """Position in the store of a process's sample, by the number of its arrival there."""
    return _block(plan, rank, arrived // plan.block) * plan.block + arrived % plan.block


def _earlier(place: Place, plan: Plan, ranks: Ranks) -> Progress:
    """What this process did in earlier calls; nothing if rows of it are damaged."""
    mine = earlier_of(place, plan, ranks).get(ranks.rank, Progress())
    lost = [block for block in mine.blocks if is_damaged(place, plan, [mine], block)]
    if not lost:
        return mine
    say(
        f"{place}: rows of block {lost[0]} are damaged or not there; a stream cannot go back to them, so that its "
        f"{len(mine.blocks)} blocks are run again."
    )
    return Progress()
