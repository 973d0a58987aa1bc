"""``clip-lens roles``: which theme each head has, if any, beside what chance gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from clip_lens_plugin.cli.errors import one_line_ends
from clip_lens_plugin.cli.given.model import ModelChoice
from clip_lens_plugin.cli.given.option_sets import takes_options
from clip_lens_plugin.cli.given.options import ResultOut, check_source, refuse_address
from clip_lens_plugin.cli.life import starting
from clip_lens_plugin.cli.outputs import check_result, free_place
from clip_lens_plugin.cli.printing import cell, print_path, say

if TYPE_CHECKING:
    from clip_lens_plugin.roles.result import HeadRoles

MOST_PRINTED, TEXTS_PRINTED = 24, 2


@takes_options
def roles(
    choice: ModelChoice,
    store: Annotated[str, typer.Argument(metavar="STORE", show_default=False, help="What 'collect' wrote.")],
    out: ResultOut = None,
    texts: Annotated[
        str | None,
        typer.Option(
            show_default=False,
            help="general, words, scenes, or a file of lines with a theme, a tab and a text; what fits the model if "
            "not given.",
        ),
    ] = None,
    picks: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            show_default=False,
            help="Texts per head, less than a quarter of its coordinates; 5, or as many as that allows, if not given.",
        ),
    ] = None,
    heads: Annotated[Literal["late", "all"], typer.Option(help="Heads of the last four layers, or all.")] = "late",
    nulls: Annotated[int, typer.Option(min=19, metavar="N", help="Draws of each null.")] = 200,
    bootstraps: Annotated[int, typer.Option(min=0, metavar="N", help="Bootstraps of images, for stability.")] = 50,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of the draws.")] = 0,
) -> None:
    """Says which theme the texts of each head have, and whether chance or other images would say as much."""
    console = Console(stderr=True, highlight=False)
    with one_line_ends(console, lambda notes: "nothing was written"):
        out = free_place(store, "roles", ".html") if out is None else out
        refuse_address("--out", out)
        check_source(store)
        with starting(console):
            from clip_lens_plugin.cli.answers import say_next_of
            from clip_lens_plugin.cli.bars import Bars
            from clip_lens_plugin.cli.given.chosen import ChosenModel
            from clip_lens_plugin.cli.given.stores import finished_in
            from clip_lens_plugin.cli.given.texts import pool_for, pool_named
            from clip_lens_plugin.collection.store import ContributionStore
            from clip_lens_plugin.roles.finding import checked_picks, head_roles
            from clip_lens_plugin.roles.themes import theme_codes
        check_result(out)
        plan = finished_in(store)
        checked_picks(picks, plan.shape[2])
        chosen = ChosenModel.of(choice, None, plan, store)
        pool = pool_for(chosen.name)[0] if texts is None else pool_named(texts)
        theme_codes(pool.themes)
        with console.status("loading the model"):
            loaded = chosen.load(console)
        opened = ContributionStore.open(store, loaded)
        with Bars(console) as bars:
            embeddings = pool.embed(loaded, on_progress=lambda done, n: bars.on_progress("encoding texts", done, n))
        found = head_roles(
            loaded,
            opened,
            pool,
            picks,
            heads,
            text_embeddings=embeddings,
            n_nulls=nulls,
            n_bootstraps=bootstraps,
            seed=seed,
            progress=True,
        )
        _print_roles(console, found)
        print_path(found.save(out))
        say_next_of(console, opened, store, "roles")


def _print_roles(console: Console, found: HeadRoles) -> None:
    from rich.table import Table
    from rich.text import Text

    shown = sorted(found, key=lambda each: -each.variance_share)[:MOST_PRINTED]
    table = Table("layer", "head", "role", "variance", "mass", "explained", "chance", "p", "stability", "first texts")
    for each in shown:
        texts = Text("\n").join(cell(text) for text in each.texts[:TEXTS_PRINTED])
        chance = f"{each.turned.mean:.0%}, {each.mirrored.mean:.0%}"
        stable = "" if each.stability != each.stability else f"{each.stability:.2f}"
        numbers = (f"{each.mass:.2f}", f"{each.explained:.0%}", chance, f"{each.turned.family_p:.3f}", stable)
        measured = numbers if each.texts else ("",) * 5
        table.add_row(str(each.layer), str(each.head), cell(each.role), f"{each.variance_share:.1%}", *measured, texts)
    console.print(table)
    if len(found) > MOST_PRINTED:
        console.print(f"and {len(found) - MOST_PRINTED:,} heads that vary less")
    say(
        console,
        f"{len(found.with_role)} of {len(found)} heads have a role. {found.about}. Chance: the mean of turned "
        f"pools, and of pools with the same covariance; p: family-wise, of the former, over all heads.",
    )
