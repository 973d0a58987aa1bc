"""The store that a command works on: one that is there, or one that is made first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from clip_lens_plugin.cli.errors import MANY_SKIPPED
from clip_lens_plugin.cli.given.dataset import source_of
from clip_lens_plugin.cli.outputs import COLLECTED
from clip_lens_plugin.cli.printing import cell, say
from clip_lens_plugin.collection.checks.description import read_plan
from clip_lens_plugin.collection.finished import read_finished
from clip_lens_plugin.collection.place import Place
from clip_lens_plugin.collection.plan import MomentsOf, Plan, What
from clip_lens_plugin.collection.recognised import is_store as is_store
from clip_lens_plugin.collection.running.collecting import collect
from clip_lens_plugin.collection.store import ContributionStore
from clip_lens_plugin.datasets.source import ImageSource
from clip_lens_plugin.datasets.torch_dataset import TorchSource
from clip_lens_plugin.hints import typed
from clip_lens_plugin.labelling.given import Labelling, read_labels
from clip_lens_plugin.labelling.names import notes_of
from clip_lens_plugin.labelling.values import LabelOrder
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.plain_text import how_many

MOST_SKIPPED = 20
CPU_WORKERS, CUDA_WORKERS = 0, 8


def data_set_of(
    source: str | None,
    limit: int | None,
    attribute: str | None,
    labels: str | None = None,
    label_column: str | None = None,
    label_order: LabelOrder | None = None,
) -> ImageSource | None:
    """The data set that is to be collected; None if ``source`` is a store.

    Raises:
        ValueError: if the options are of a data set and ``source`` is none, or as
            :func:`~clip_lens_plugin.cli.given.dataset.source_of`.
    """
    if not is_store(source):
        return source_of(source, limit, attribute, labels, label_column, label_order)
    if labels is None and (label_column is not None or label_order is not None):
        raise ValueError(f"{source} is collected already: --label-column and --label-order are for --labels FILE.")
    if limit is not None or attribute is not None:
        raise ValueError(f"{source} is collected already: --limit and --attribute are for data sets.")
    return None


def open_or_collect(
    source: str | None,
    data: ImageSource | None,
    model: HookedCLIP,
    out: Path,
    what: What,
    heads: MomentsOf | None = None,
) -> ContributionStore:
    """Opens ``source``, or collects ``data`` into a folder inside ``out``, going on where that was interrupted.

    Raises:
        ValueError: as ``ContributionStore.open`` and ``collect``.
    """
    if data is None:
        return ContributionStore.open(str(source), model)
    return collect(model, data, out / COLLECTED, what, workers=workers_for(model), resume=True, heads=heads)


def finished_in(source: str | None, with_rows: bool = False) -> Plan:
    """The plan of a finished store, before its model is loaded.

    Raises:
        ValueError: as ``ContributionStore.open``, or if there are no rows of samples although they are needed.
    """
    _, plan, _ = read_finished(str(source))
    if with_rows and plan.what != "contributions":
        raise ValueError(
            f"{source} holds moments and means, but no rows of samples, which are needed here: collect with --what "
            f"contributions."
        )
    return plan


def plan_with_rows(store: str, limit: int | None, what: str) -> Plan:
    """The plan of a finished store that keeps rows, for a command that takes a folder of images as well.

    Args:
        store: its address.
        limit: what was said of a data set.
        what: the command does: "Report on", "Explore".

    Raises:
        ValueError: if it is no store, a limit is given, or as :func:`finished_in`.
    """
    if not is_store(store):
        raise ValueError(
            f"{store} holds no store. {what} a folder of images with {typed('--images', store)}, or collect it "
            f"first: {typed('clip-lens', 'collect', store)} --what contributions --out FOLDER."
        )
    if limit is not None:
        raise ValueError(f"{store} is collected already: --limit is for folders of images and drawn scenes.")
    return finished_in(store, with_rows=True)


def begun_in(address: str) -> Plan | None:
    """The plan of what was collected there, finished or not; None where nothing was, or nobody can say."""
    try:
        return read_plan(Place(address)) if is_store(address) else None
    except ValueError:  # Whoever goes on with it says what is damaged.
        return None


def workers_for(model: HookedCLIP) -> int:
    """Processes that read ahead: a GPU waits for pictures, and a CPU is better left to the model."""
    return CUDA_WORKERS if model.cfg.device.type == "cuda" else CPU_WORKERS


def print_classes(console: Console, source: ImageSource) -> None:
    """What is taken for a class in a user's data set, and what is left out, one line each."""
    if not isinstance(source, TorchSource):  # Drawn scenes, the only ones of a command, have nothing to be taken for.
        for note in notes_of(source):
            say(console, note)


def store_labels(store: ContributionStore, labels: str, order: LabelOrder | None, column: str | None) -> Labelling:
    """The label of each row, by the names that the store keeps.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if labels and names do not match; the message names the first.
    """
    skipped = [each.name for each in store.skipped]  # Lines may be of these too.
    found = read_labels(labels, [*store.names, *skipped], order, column, is_part=True)
    return replace(found, labels=found.labels[: len(store)])


def print_store(console: Console, store: ContributionStore) -> None:
    """How many samples, how exact, and what was skipped, and why."""
    say(
        console,
        f"{how_many(len(store), 'sample')} of the {store.plan.dataset}; the parts sum to the embedding with a relative "
        f"error of {store.completeness_error:.1e}.",
    )
    unknown = int((store.labels < 0).sum()) if store.has_rows else 0
    if unknown and (store.classes is not None or unknown < len(store)):
        say(console, f"{unknown:,} of them have no label.")
    if not store.skipped:
        return
    table = Table("sample", "reason", title=f"{len(store.skipped):,} skipped", title_justify="left")
    for each in store.skipped[:MOST_SKIPPED]:
        table.add_row(cell(each.name), cell(each.reason))
    console.print(table)
    if len(store.skipped) > MOST_SKIPPED:
        console.print(f"and {len(store.skipped) - MOST_SKIPPED:,} more")
    if store.has_many_skipped:
        _print_reasons(console, store)


def end_if_many_skipped(console: Console, store: ContributionStore) -> None:
    """Ends in exit code 3 where more than 5 % of what was collected was skipped; what was done stays usable."""
    if store.has_many_skipped:
        share = len(store.skipped) / (len(store) + len(store.skipped))
        say(
            console,
            f"clip-lens: {share:.0%} of the samples were skipped, more than 5 %: what is above is of the others alone.",
        )
        raise typer.Exit(MANY_SKIPPED)


def _print_reasons(console: Console, store: ContributionStore) -> None:
    table = Table("reason", "samples", title="why", title_justify="left")
    reasons = store.skipped_reasons().most_common()
    for reason, n in reasons[:MOST_SKIPPED]:
        table.add_row(cell(reason), f"{n:,}")
    console.print(table)
    if len(reasons) > MOST_SKIPPED:
        console.print(f"and {len(reasons) - MOST_SKIPPED:,} more reasons")
