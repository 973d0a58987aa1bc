"""``clip-lens groups``: which heads carry a spurious cue, and what each group of images gains without them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from clip_lens_plugin.cli.errors import one_line_ends
from clip_lens_plugin.cli.given.model import ModelChoice, takes_model
from clip_lens_plugin.cli.given.options import ResultOut, check_source, refuse_address
from clip_lens_plugin.cli.life import starting
from clip_lens_plugin.cli.outputs import check_result, free_place
from clip_lens_plugin.cli.printing import cell, print_path, say

if TYPE_CHECKING:
    from clip_lens_plugin.groups.grouping import Groups
    from clip_lens_plugin.groups.result import SpuriousHeads
    from clip_lens_plugin.model.hooked_clip import HookedCLIP
    from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier

HEADS_TOLD = 10
"""Of the greatest cue effect."""

Pair = tuple[str, str]


@takes_model
def groups(
    choice: ModelChoice,
    store: Annotated[str, typer.Argument(metavar="STORE", show_default=False, help="What 'collect' wrote.")],
    groups: Annotated[
        Path,
        typer.Option(
            "--groups",
            metavar="FILE",
            show_default=False,
            help="CSV with a name, a class and a cue on each line, such as Waterbirds' metadata.csv, or the folder of "
            "that.",
        ),
    ],
    out: ResultOut = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="The classes' texts as they stand, one per line, or each with the class and a tab before it; the "
            "classes' names if not given.",
        ),
    ] = None,
    without_cue: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", show_default=False, help="Texts without the cue, likewise: what could be reached."
        ),
    ] = None,
    label_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", show_default=False, help="Column of the classes; recognised, such as y."),
    ] = None,
    cue_column: Annotated[str, typer.Option(metavar="NAME", help="Column of the cue.")] = "place",
    split_column: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Column of the splits: train, val and test, or 0, 1, 2; drawn if there is none."
        ),
    ] = "split",
    pair: Annotated[
        Pair | None, typer.Option(metavar="A B", show_default=False, help="Two classes, where there are more.")
    ] = None,
    cue_pair: Annotated[
        Pair | None, typer.Option(metavar="A B", show_default=False, help="Two cues, where there are more.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            show_default=False, help="The data set that was collected, for total effects; looked for if not given."
        ),
    ] = None,
    direct: Annotated[bool, typer.Option("--direct", help="Direct effects alone, for which nothing is run.")] = False,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of splits, random heads and permuted cues.")] = 0,
) -> None:
    """Finds the heads that carry a spurious cue, and measures each group of images without them, beside chance."""
    console = Console(stderr=True, highlight=False)
    with one_line_ends(console, lambda notes: "nothing was written"):
        out = free_place(store, "groups", ".html") if out is None else out
        refuse_address("--out", out)
        check_source(store)
        with starting(console):
            from clip_lens_plugin.cli.answers import say_next_of
            from clip_lens_plugin.cli.given.chosen import ChosenModel
            from clip_lens_plugin.cli.given.stores import finished_in
            from clip_lens_plugin.collection.store import ContributionStore
            from clip_lens_plugin.datasets.choose import as_source
            from clip_lens_plugin.groups.grouping import Groups
            from clip_lens_plugin.groups.spurious import spurious_heads
        check_result(out)
        plan = finished_in(store, with_rows=True)
        if images is not None and direct:
            raise ValueError(f"--images {images} is for total effects, which --direct leaves out.")
        pictures = None if images is None else as_source(images)
        chosen = ChosenModel.of(choice, None, plan, store)
        with console.status("loading the model"):
            loaded = chosen.load(console)
        opened = ContributionStore.open(store, loaded)
        known = Groups.read(groups, opened, label_column=label_column, cue_column=cue_column, split_column=split_column)
        asked = _pairs(known, pair, cue_pair)
        texts = _classifier(loaded, known, classes, pair)
        ceiling = None if without_cue is None else _classifier(loaded, known, without_cue, pair)
        found = spurious_heads(
            loaded,
            opened,
            texts,
            known,
            asked,
            without_cue=ceiling,
            images=pictures,
            runs=not direct,
            seed=seed,
            progress=True,
        )
        _print_groups(console, found)
        print_path(found.save(out))
        say_next_of(console, opened, store, "groups")


def _pairs(known: Groups, pair: Pair | None, cue_pair: Pair | None) -> tuple[Pair, Pair] | None:
    """What is compared; None where neither was said."""
    if pair is None and cue_pair is None:
        return None
    for option, given, names in (("--pair", pair, known.classes), ("--cue-pair", cue_pair, known.cues)):
        if given is None and len(names) != 2:
            raise ValueError(f"{option} is needed as well: there are {len(names)} of them.")
    return pair or (known.classes[0], known.classes[1]), cue_pair or (known.cues[0], known.cues[1])


def _classifier(model: HookedCLIP, known: Groups, file: str | None, pair: Pair | None) -> ZeroShotClassifier:
    """Of the texts of a file, or of the names of the classes, as they stand."""
    from clip_lens_plugin.cli.given.classes import chosen_classes
    from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier

    are_numbers = known.classes == tuple(map(str, range(len(known.classes))))
    own = None if are_numbers else list(known.classes if pair is None else pair)
    return ZeroShotClassifier.from_labels(model, chosen_classes(file, own).names or ())


def _print_groups(console: Console, found: SpuriousHeads) -> None:
    from rich.table import Column, Table

    from clip_lens_plugin.groups.accuracy import STAGES
    from clip_lens_plugin.plain_text import signed
    from clip_lens_plugin.views.heads.groups import by_chance, told

    effects = found.effects.to_dataframe().query("part == 'head'")
    greatest = effects.sort_values("cue", key=abs, ascending=False).head(HEADS_TOLD)
    table = Table("layer", "head", "cue", "core", "core by cue", title="heads of the greatest cue effect (cosine)")
    for row in greatest.to_dict("records"):
        numbers = (signed(row[name], 4) for name in ("cue", "core", "core_by_cue"))
        table.add_row(str(row["layer"]), str(row["head"]), *numbers)
    console.print(table)
    say(console, found.effects.compared)
    say(console, f"Removed: {found.removed}. {found.about_splits}")
    shares = Table("right answers (%)", "worst group", "average", *(Column(cell(name)) for name in found.groups))
    for each in found.shares:
        shares.add_row(STAGES[each.stage], *map(told, (each.worst, each.average, *each.groups)))
    for what, control in found.chance:
        shares.add_row(what, by_chance(control))
    console.print(shares)
    if found.note:
        say(console, found.note)
