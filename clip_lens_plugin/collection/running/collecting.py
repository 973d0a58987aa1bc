"""One pass over a data set of any size that keeps what analyses need; it can be cut off, resumed and shared out.

Samples are run in blocks of fixed positions, about 256 in each. About once a minute, and when it ends, a process
replaces its one progress file, which holds the sums so far and the numbers of the blocks they are of; so whatever ends
the process, the block it was in and the rows of a minute before it, at most, are computed again, and sums and rows come
out as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch

from clip_lens_plugin.arguments import checked_choice, checked_number
from clip_lens_plugin.collection.parts_and_classes import left_out
from clip_lens_plugin.collection.place import Place
from clip_lens_plugin.collection.plan import MomentsOf, Plan, StoreDtype, What
from clip_lens_plugin.collection.processes.agreement import plan_for_all, refuse_other_plans
from clip_lens_plugin.collection.processes.ranks import Ranks
from clip_lens_plugin.collection.reading import Batch, dead_readers_said, read_batches
from clip_lens_plugin.collection.rows import BlockRows, RowWriter
from clip_lens_plugin.collection.running.bars import all_there, samples_bar, told_before, working
from clip_lens_plugin.collection.running.begin import begin, is_damaged, say, writing
from clip_lens_plugin.collection.running.finish import finish
from clip_lens_plugin.collection.running.neurons import CollectedNeurons
from clip_lens_plugin.collection.running.progress import Progress
from clip_lens_plugin.collection.running.running import NonFiniteActivationError as NonFiniteActivationError
from clip_lens_plugin.collection.running.running import Ran, earlier_of, gathered, kept_if_ended
from clip_lens_plugin.collection.running.streams import run_stream
from clip_lens_plugin.collection.store import ContributionStore
from clip_lens_plugin.datasets.choose import as_collected
from clip_lens_plugin.datasets.source import ImageSource
from clip_lens_plugin.higher_order.chosen_names import text_of_neurons
from clip_lens_plugin.higher_order.neurons.moments_size import (
    counted,
    in_gigabytes,
    moments_bytes,
    refuse_large_moments,
)
from clip_lens_plugin.higher_order.scalars import checked_neurons
from clip_lens_plugin.labelling.given import GivenLabels
from clip_lens_plugin.labelling.values import LabelOrder
from clip_lens_plugin.model.bridged import resolved
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.model.hooks.interventions import refuse_hooks
from clip_lens_plugin.model.inputs.pixels import once_a_call
from clip_lens_plugin.numerics.threads import on_threads

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@once_a_call()
def collect(
    model: HookedCLIP | TransformerBridge,
    dataset: Any,
    out: str | Path,
    what: What = "moments",
    *,
    dtype: StoreDtype = "float16",
    batch_size: int = 32,
    workers: int = 0,
    autocast: torch.dtype | None = None,
    resume: bool = False,
    strict: bool = False,
    progress: bool = True,
    heads: MomentsOf | None = None,
    neurons: Any = None,
    labels: GivenLabels | None = None,
    label_column: str | None = None,
    label_order: LabelOrder | None = None,
) -> ContributionStore:
    """Runs every sample once and keeps the moments of every head and, on request, one compact row per sample.

    Beside the moments of all samples, those of the late heads are kept for each of fifty disjoint parts of them, in
    ``store.part_moments`` (42 MB for ViT-B-16); and where classes have names, sums of each class, in
    ``store.class_sums`` (78 MB for the 1,000 of ImageNet and ViT-B-16, 0.2 GB for ViT-L-14). Where parts would take
    more than 0.4 GB in memory, as with most attention pools, or the sums more than 0.32 GB, even of the last four
    layers, they are left out, which is said before the first image, with ``progress``.

    Where torch.distributed is initialised, its processes share the blocks out among them.

    Args:
        model: without hooks on it.
        dataset: a folder of images or of class folders, webdataset shards, a torch or Hugging Face map-style data
            set, or an :class:`ImageSource`; see :func:`~clip_lens_plugin.datasets.choose.as_source`. Or a Hugging Face
            stream, an ``IterableDataset`` or a :class:`HuggingFaceStream`: rows then stand in order of arrival, by
            blocks of about 256 in turn where several processes collect.
        out: a folder, or any fsspec address, that holds nothing else.
        what: "moments", or "contributions" for one row per sample too: heads' coordinates, contributions of MLPs and
            embedding, what the class token sends to itself, the embedding, LayerNorm's weight ω (which the biases'
            contributions follow from), label and name.
        dtype: "float16" or "float32", of the rows.
        batch_size: samples in a run of the model.
        workers: processes that read and decode ahead.
        autocast: torch.bfloat16 or torch.float16 to run the model's matrix products in.
        resume: go on with what a call with the same arguments left when it was cut off, whole blocks of about 256
            samples, on as many threads of the processor as that had; on the same kind of processor the result is
            bit-identical to that of an undisturbed one. What is finished is opened; where nothing is left, collecting
            begins.
        strict: stop at the first sample that cannot be read, instead of listing it in ``skipped``.
        progress: show a bar.
        labels, label_column, label_order: labels by name in the place of the data set's own, and where labels stand;
            see :func:`~clip_lens_plugin.datasets.choose.as_source`.
        heads: "all" for the moments of every head, or "late" for those of the last four layers alone, as TextSpan
            describes. If not given, all; but "late" for a tower with an attention pool, whose heads have as many times
            more coordinates as the pool has heads (all of ViT-SO400M-14-SigLIP's moments are 4.6 GB, the late ones
            0.7); and where a store is resumed, as it was begun.
        neurons: whose second-order moments are kept, see :class:`~clip_lens_plugin.NeuronMoments`: layers in a list; or
            layer to its neurons (None for all of them). Of none if not given; and where a store is resumed, as it
            was begun. They take 8 · q² bytes per neuron, q counting the heads of later layers (times those of an
            attention pool); how much it is in all is said before the first image, with ``progress``.

    More than 5 % of the samples skipped is a :class:`SkippedWarning`, with the reasons; the store stays usable.

    Raises:
        ValueError: if ``out`` holds something else or, without ``resume``, a store; if the data set is empty,
            none of it can be read, or it is of no known kind; if there are hooks on the model; if ``what``, ``dtype``,
            ``autocast``, ``batch_size``, ``workers`` or ``heads`` has no value that it may have; if moments of neurons
            would take more than 1 GB (the message says how many would fit), no head reads a layer's neurons, or its MLP
            normalises what it writes.
        IndexError: if there is no such layer or neuron.
        ProcessesDisagreeError: if processes that collect together have different models, data sets, settings or
            libraries; nothing is read then.
        OtherProcessError: if another of them failed or is gone; what is done is kept.
        SourceMismatchError: if the model's embedding is not the source's own, see ``HookedCLIP.verify``.
        CollectionMismatchError: resumed with another model, data set or setting.
        CollectionDamagedError: if ``out`` holds a damaged store. What is damaged of an unfinished one is said in a
            CollectionWarning and done again.
        CollectionInUseError: if another process is writing to ``out``.
        UnreadableSampleError: in strict mode.
        NonFiniteActivationError: if a sample's contributions are NaN or infinite; the message names it.
        CompletenessError: if the parts of a batch do not sum to its embeddings.
        OSError: if ``out`` cannot be written, or a sample cannot be reached (its file or folder is gone, the disk or
            the memory fails; a stream cannot be read on), which does not mean that it is damaged; what is done is kept.
    """
    with Ranks.together() as ranks, ExitStack() as held:
        hooked: HookedCLIP = resolved(model)
        checked_choice("what", what, get_args(What))
        checked_choice("dtype", dtype, get_args(StoreDtype))
        if heads is not None:
            checked_choice("heads", heads, get_args(MomentsOf))
        batch_size, workers = checked_number("batch_size", batch_size), checked_number("workers", workers, least=0)
        if autocast not in (None, torch.bfloat16, torch.float16):
            raise ValueError(f"autocast must be None, torch.bfloat16 or torch.float16, got {autocast!r}.")
        refuse_hooks(hooked, "collect keeps what the plain model does")
        named = _checked_neurons(hooked, neurons, progress and ranks.is_first)
        source = as_collected(dataset, labels=labels, label_column=label_column, label_order=label_order)
        visible, place = progress and ranks.is_first, Place(out)
        with working("reading the data set's names and the model's weights", visible):
            plan = Plan.of(hooked, source, what, dtype, batch_size, autocast, heads, ranks.world, named)
        part = source if isinstance(source, ImageSource) or ranks.world == 1 else source.split(ranks.rank, ranks.world)
        refuse_other_plans(ranks, plan, resume=resume, strict=strict)
        as_begun = [name for name, given in (("heads", heads), ("neurons", neurons)) if given is None]
        begun = plan_for_all(ranks, place, lambda: begin(place, plan, resume, held, as_begun))
        if begun is not None:
            held.enter_context(on_threads(begun.threads))
            for each in left_out(begun):
                told_before(each, visible)
            with working("comparing the model with its source", visible):
                verified = hooked.verify()
            options = (place, begun, ranks, workers, strict, progress)
            if isinstance(part, ImageSource):
                everyones = _run_blocks(hooked, part, *options)
            else:
                everyones = run_stream(hooked, part, *options)
            with working("writing moments and checksums", visible):
                ranks.first_does(lambda: finish(place, begun, everyones, verified))
            everyones.clear()  # Moments may be so large that they are not to be in memory twice.
        store = ContributionStore.open(out, hooked)
        if begun is None:
            all_there(store.plan.n_samples or 0, visible)
    if ranks.is_first:
        store.warn_of_skipped()
    return store


def _checked_neurons(model: HookedCLIP, neurons: Any, visible: bool) -> str | None:
    """The neurons as a plan names them, their moments' size said; None for none.

    Raises:
        ValueError, IndexError: see :func:`collect`.
    """
    if neurons is None:
        return None
    chosen = checked_neurons(model, neurons)
    refuse_large_moments(model, chosen)
    told_before(f"{counted(chosen)}: {in_gigabytes(moments_bytes(model, chosen))} of moments", visible)
    return text_of_neurons(model, chosen)


@dead_readers_said()
def _run_blocks(
    model: HookedCLIP,
    source: ImageSource,
    place: Place,
    plan: Plan,
    ranks: Ranks,
    workers: int,
    strict: bool,
    progress: bool,
) -> list[Progress]:
    """Runs this process's share: every block whose number is its rank modulo the number of processes, less those done.

    In rank 0, what each process did, the sums of all in the first; in others, their own.
    """
    earlier = earlier_of(place, plan, ranks)
    every = list(earlier.values())
    share = range(ranks.rank, plan.n_blocks, ranks.world)
    done = {block for each in every for block in each.blocks}
    lost = {block for block in share if block in done and is_damaged(place, plan, every, block)}
    for block in sorted(lost):
        say(f"{place}: rows of block {block} are damaged or not there, and are written again.")
    mine = earlier.get(ranks.rank, Progress()).on(model.cfg.device)
    ranks.wait()  # Nobody writes before all have read.
    left = [block for block in share if block in lost or block not in done]
    writer = RowWriter(place, plan) if plan.what == "contributions" else None
    batches = read_batches(model, source, [batch for block in left for batch in plan.batches(block)], workers, strict)

    neurons, total = CollectedNeurons.of(model, plan), _n_samples(plan, share)

    def done_so_far() -> str:
        kept = _n_samples(plan, [block for block in share if block in done or block in mine.blocks])
        return f"{kept:,} of {total:,} samples" if kept else ""

    visible = progress and ranks.is_first
    if not left:
        all_there(total, visible)
    bar = samples_bar(visible and bool(left), total, total - _n_samples(plan, left))
    with kept_if_ended(place, plan, ranks, mine, done_so_far) as counted, bar as advance:

        def moved(n: int) -> None:
            counted(n)
            advance(n)

        for block in left:
            ran = _run_block(model, source, plan, block, batches, neurons, ranks, moved)
            if block in lost:
                _refuse_other_samples(place, plan, block, ran, every)
            with writing(place):
                checksums = None if writer is None else writer.write(ran.rows, block)
                if checksums is not None and plan.has_checksums:
                    mine.add_rows(block, checksums)
                if block not in lost:  # The sums hold a lost block's rows already.
                    mine.add_block(block, ran.batches, ran.skipped, plan, ran.of_rows, of_neurons=ran.of_neurons)
                mine.save_when_due(place, ranks.rank, plan)
        with writing(place):
            mine.save(place, ranks.rank, plan)
        return gathered(ranks, mine)


def _n_samples(plan: Plan, blocks: Iterable[int]) -> int:
    return sum(len(plan.samples(block)) for block in blocks)


def _run_block(
    model: HookedCLIP,
    source: ImageSource,
    plan: Plan,
    block: int,
    batches: Iterator[Batch],
    neurons: CollectedNeurons | None,
    ranks: Ranks,
    advance: Callable[[int], object],
) -> Ran:
    """Runs a block; ``advance`` is called after each batch with its size."""
    ran = Ran(BlockRows(plan, block), neurons)
    for position in ran.rows.samples:
        ran.rows.name(position, source.name(position))
    for samples in plan.batches(block):
        ranks.check()
        ran.add(model, plan, next(batches), source.name)
        advance(len(samples))
    return ran


def _refuse_other_samples(place: Place, plan: Plan, block: int, again: Ran, every: list[Progress]) -> None:
    """Raises ValueError if other samples of a block can be read than when it was added to the sums."""
    samples = plan.samples(block)
    before = {position for each in every for position in each.skipped if position in samples}
    other = sorted(before ^ again.skipped.keys())
    if other:
        raise ValueError(
            f"Rows in {place} were lost and cannot be written again: the sample at position {other[0]} of the data set "
            f"{'can' if other[0] in before else 'cannot'} be read now, unlike then. Collect into another place."
        )
