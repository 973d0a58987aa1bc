"""What a store can answer, what not, and which command to try next."""

from __future__ import annotations

from rich.console import Console

from clip_lens_plugin.cli.printing import say, say_next
from clip_lens_plugin.collection.plan import Plan
from clip_lens_plugin.collection.store import ContributionStore
from clip_lens_plugin.hints import typed

ROWS = "a row per sample, which was not kept: collect with --what contributions"


def print_answers(console: Console, store: ContributionStore, address: str) -> None:
    """What the store can answer and what not, in two or three lines."""
    can, cannot = _answers(store, address)
    say(console, f"It can answer: {'; '.join(can)}.")
    for each in cannot:
        say(console, f"It cannot answer {each}.")


def next_words(plan: Plan, address: str) -> list[str]:
    """The first command to try on a store."""
    return ["report" if plan.what == "contributions" else "textspan", address]


def next_of_collected(store: ContributionStore, address: str, dataset: str | None) -> list[str]:
    """The first command to try on what was collected just now, with the pictures if it would not find them itself.

    Args:
        store: that was made.
        address: of it.
        dataset: as it was typed; None for drawn scenes, which are always found.
    """
    words = next_words(store.plan, address)
    if dataset is None or not store.has_rows:
        return words
    try:
        found = store.own_source()
    except OSError:  # Some of it has gone since it was read; all is collected.
        found = None
    return words if found is not None else [*words, "--images", dataset]


def say_next_of(
    console: Console, store: ContributionStore, address: str, after: str, dataset: str | None = None
) -> None:
    """The command to try on a store after another one: report, textspan, ablate, and then Python.

    Args:
        address: of the store.
        after: the command that was run; "collect" where one of them made the store, and it has rows.
        dataset: that it was made of, see :func:`next_of_collected`.
    """
    if after == "collect" and store.has_rows:
        say_next(console, *next_of_collected(store, address, dataset))
    elif after == "report":
        say_next(console, "textspan", address)
    elif after == "textspan" and is_labelled(store):
        say_next(console, "ablate", address)
    else:
        say(console, f"next: in Python, ContributionStore.open({address!r}) has every number of it")


def is_labelled(store: ContributionStore) -> bool:
    """Whether some row has a label whose class has a name."""
    return store.has_rows and store.classes is not None and bool((store.labels >= 0).any())


def _answers(store: ContributionStore, address: str) -> tuple[list[str], list[str]]:
    layers = store.moments.layers
    some = "" if layers is None else f" of layers {layers[0]} to {layers[-1]} (--heads all would keep all)"
    can, cannot = [f"what each head writes{some} (textspan)"], []
    neurons = ", ".join(map(str, store.plan.neuron_layers))
    if neurons:
        can.append(f"what neurons of layer {neurons} do through later heads (neurons)")
    if store.plan.class_sums is not None and int((store.class_sums.counts > 0).sum()) > 1:
        can.append("how much of each head the classes explain (class_heads, in Python)")
    if not store.has_rows:
        return can, [f"what each image shows (report) and ablation (ablate): they need {ROWS}"]
    can.append("what layers and heads do, and which images show it (report)")
    known = int((store.labels >= 0).sum())
    if known and store.classes is not None:
        can.append(f"accuracy and what ablation costs, by {known:,} labels of {len(store.classes):,} classes (ablate)")
    elif known:
        can.append("accuracy and what ablation costs, with names for the labels (ablate --classes FILE)")
    else:
        cannot.append(
            f"accuracy and ablation: no sample has a label. Give them later, {typed('clip-lens', 'ablate', address)} "
            f"--labels FILE with a name and a label on each line"
        )
    return can, cannot
