"""``clip-lens groups``: which heads carry a spurious cue, and what each group of images gains without them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from clip_lens_plugin.cli.errors import one_line_ends
from clip_lens_plugin.cli.given.groups import GROUPS_HELP, GroupsChoice
from clip_lens_plugin.cli.given.model import ModelChoice
from clip_lens_plugin.cli.given.option_sets import takes_options
from clip_lens_plugin.cli.given.options import ResultOut, check_source, refuse_address
from clip_lens_plugin.cli.life import starting
from clip_lens_plugin.cli.outputs import check_result, free_place
from clip_lens_plugin.cli.printing import cell, print_path, say

if TYPE_CHECKING:
    from clip_lens_plugin.groups.spurious.result import SpuriousHeads

HEADS_PRINTED = 10
"""Heads of the greatest cue effect that are printed."""


@takes_options
def groups(
    choice: ModelChoice,
    asked: GroupsChoice,
    store: Annotated[str, typer.Argument(metavar="STORE", show_default=False, help="What 'collect' wrote.")],
    groups: Annotated[
        Path,
        typer.Option(
            "--groups",
            metavar="FILE",
            show_default=False,
            help=GROUPS_HELP,
        ),
    ],
    out: ResultOut = None,
    without_cue: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", show_default=False, help="Texts without the cue, as of --classes: what could be reached."
        ),
    ] = None,
    split_column: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Column of the splits: train, val and test, or 0, 1, 2; drawn if there is none."
        ),
    ] = "split",
    images: Annotated[
        Path | None,
        typer.Option(
            show_default=False, help="The data set that was collected, for total effects; looked for if not given."
        ),
    ] = None,
    direct: Annotated[bool, typer.Option("--direct", help="Direct effects alone, for which nothing is run.")] = False,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of splits, random heads and permuted cues.")] = 0,
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
            from clip_lens_plugin.groups.spurious.finding import spurious_heads
        check_result(out)
        plan = finished_in(store, with_rows=True)
        if images is not None and direct:
            raise ValueError(f"--images {images} is for total effects, which --direct leaves out.")
        pictures = None if images is None else as_source(images)
        chosen = ChosenModel.of(choice, None, plan, store)
        with console.status("loading the model"):
            loaded = chosen.load(console)
        opened = ContributionStore.open(store, loaded)
        known = asked.read(groups, opened, split_column)
        pairs, texts = asked.pairs(known), asked.classifier(loaded, known)
        ceiling = None if without_cue is None else asked.classifier(loaded, known, without_cue)
        found = spurious_heads(
            loaded,
            opened,
            texts,
            known,
            pairs,
            without_cue=ceiling,
            images=pictures,
            runs=not direct,
            seed=seed,
            progress=True,
        )
        _print_groups(console, found)
        print_path(found.save(out))
        say_next_of(console, opened, store, "groups")


def _print_groups(console: Console, found: SpuriousHeads) -> None:
    from rich.table import Column, Table

    from clip_lens_plugin.groups.spurious.accuracy import STAGES
    from clip_lens_plugin.plain_text import signed
    from clip_lens_plugin.views.heads.groups import by_chance, in_per_cent

    effects = found.effects.to_dataframe().query("part == 'head'")
    greatest = effects.sort_values("cue", key=abs, ascending=False).head(HEADS_PRINTED)
    table = Table("layer", "head", "cue", "p", "core", "core by cue", title="heads of the greatest cue effect (cosine)")
    for row in greatest.to_dict("records"):
        cue, *others = (signed(row[name], 4) for name in ("cue", "core", "core_by_cue"))
        table.add_row(str(row["layer"]), str(row["head"]), cue, f"{row['cue_family_p']:.3f}", *others)
    console.print(table)
    say(console, f"{found.effects.compared} p: how often permuted cues move any head as far.")
    say(console, f"Removed: {found.removed}. {found.about_splits}")
    shares = Table("right answers (%)", "worst group", "average", *(Column(cell(name)) for name in found.groups))
    for each in found.shares:
        shares.add_row(STAGES[each.stage], *map(in_per_cent, (each.worst, each.average, *each.groups)))
    for what, control in found.chance:
        shares.add_row(what, by_chance(control))
    console.print(shares)
    if found.note:
        say(console, found.note)
