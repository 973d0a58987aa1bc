"""``clip-lens models``: which models of open_clip can be taken apart, and where to start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from clip_lens_plugin.cli.errors import one_line_ends
from clip_lens_plugin.cli.life import starting
from clip_lens_plugin.cli.printing import say_next
from clip_lens_plugin.hints import typed

if TYPE_CHECKING:
    from rich.table import Table

START = (
    ("ViT-B-32", "laion2b_s34b_b79k", "small: a first look, on a CPU too (0.6 GB)"),
    ("ViT-B-16", "laion2b_s34b_b88k", "finer patches: maps of photographs (0.6 GB)"),
    ("ViT-L-14", "laion2b_s32b_b82k", "large: heads that texts describe best (1.7 GB)"),
)
"""Name, tag and purpose of three models, by size; the last two are those of the TextSpan paper."""


def models(
    contains: Annotated[
        str,
        typer.Argument(
            metavar="[NAME]",
            show_default=False,
            help="A model, for its tags and all that is known of it; or a part of names, such as ViT-L.",
        ),
    ] = "",
) -> None:
    """Lists open_clip's models: supported or not, what they are, why not, and three to start with."""
    console, messages = Console(highlight=False), Console(stderr=True, highlight=False)
    with one_line_ends(messages, lambda notes: "nothing was listed"):
        with starting(messages):
            from clip_lens_plugin.cli.bars import Bars
            from clip_lens_plugin.model.catalogue import catalogue
        with Bars(messages, transient=True) as bars:
            found = catalogue(contains, lambda done, total: bars.on_progress("reading configs", done, total))
        if found.empty:
            raise ValueError(f"open_clip has no model with {contains!r} in its name; clip-lens models lists all.")
        rows = found.to_dict("records")
        named = [row for row in rows if row["name"].lower() == contains.lower()]
        if named:
            _print_one(console, named[0])
            if named[0]["tags"] and named[0]["supported"]:
                say_next(messages, "report", "--images", "DIR", "--model", named[0]["name"], *_pretrained(named[0]))
            return
        supported, others = (_part(rows, which) for which in (True, False))
        if not contains:
            _print_start(console)
        if supported:
            console.print(_table(supported))
            console.print()
        if others:
            console.print(_reasons(others))
        console.print(
            f"{len(supported)} of {len(rows)} models are supported, and {_tags(supported)} of their {_tags(rows)} "
            f"pretrained tags."
        )
        say_next(messages, "models", _example(supported))


def _part(rows: list[dict[Any, Any]], supported: bool) -> list[dict[Any, Any]]:
    return [row for row in rows if row["supported"] is supported]


def _example(rows: list[dict[Any, Any]]) -> str:
    """One of :data:`START` if it is listed, else the first that has weights."""
    starts = [START[1][0], *(name for name, _, _ in START)]
    listed = [row["name"] for row in rows if row["tags"]]
    return next((name for name in (*starts, *listed) if name in listed), starts[0])


def _pretrained(row: dict[Any, Any]) -> list[str]:
    """The tag that a model of :data:`START` is proposed with, else its first."""
    tag = next((tag for name, tag, _ in START if name == row["name"]), row["tags"][0])
    return ["--pretrained", tag]


def _print_one(console: Console, row: dict[Any, Any]) -> None:
    """All that is known of one model."""
    console.print(f"[bold]{escape(row['name'])}[/bold]")
    if not row["supported"]:
        console.print(f"not supported: {escape(row['family'])}, {escape(row['reason'])}", soft_wrap=True)
    else:
        console.print(
            f"{escape(row['family'])}: {row['layers']} layers of {row['heads']} heads, {row['width']} wide, patches of "
            f"{row['patch']} pixels",
            soft_wrap=True,
        )
    if not row["tags"]:
        console.print("no pretrained tags: give a file with --checkpoint")
        return
    console.print(f"{len(row['tags'])} tag{'' if len(row['tags']) == 1 else 's'}, for --pretrained:")
    for tag in row["tags"]:
        console.print(f"  {escape(tag)}", soft_wrap=True)


def _table(rows: list[dict[Any, Any]]) -> Table:
    """Supported models, one line each where the terminal is 80 columns wide or more."""
    from rich.table import Column, Table

    numbers = [Column(name, justify="right", no_wrap=True) for name in ("layers", "heads", "width", "patch", "tags")]
    named = Column("supported", overflow="fold", min_width=max(len(row["name"]) for row in rows))
    table = Table(named, *numbers, Column("family", overflow="fold"), box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for row in rows:
        rows_high, columns_wide = row["patch"].split(" x ")
        patch = rows_high if rows_high == columns_wide else f"{rows_high}x{columns_wide}"
        cells = [str(row[name]) for name in ("layers", "heads", "width")]
        family = row["family"].partition(" ")[2]  # Without the library that the tower is of.
        table.add_row(escape(row["name"]), *cells, patch, str(len(row["tags"])), escape(family))
    return table


def _reasons(rows: list[dict[Any, Any]]) -> Table:
    """Models that are not supported, by the reason."""
    from rich.table import Column, Table

    by_reason: dict[str, list[str]] = {}
    for row in rows:
        by_reason.setdefault(f"{row['family']}, {row['reason']}", []).append(row["name"])
    columns = (Column(name, overflow="fold", ratio=1) for name in ("model", "why not"))
    table = Table(*columns, box=None, padding=(0, 1, 1, 0), pad_edge=False)
    for reason, names in by_reason.items():
        table.add_row(escape(", ".join(names)), f"not supported: {escape(reason)}")
    return table


def _print_start(console: Console) -> None:
    console.print(
        "[bold]Where to start[/bold] (scenes, the embedded model, needs no download, and no --model; "
        "scenes-planted is the same with a spurious cue)"
    )
    for name, tag, purpose in START:
        console.print(f"  {purpose}\n    {typed('--model', name, '--pretrained', tag)}", soft_wrap=True)
    console.print()


def _tags(rows: list[dict[Any, Any]]) -> int:
    return sum(len(row["tags"]) for row in rows)
