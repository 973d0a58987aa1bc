"""``clip-lens models``: which models of open_clip can be taken apart."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from clip_lens_plugin.cli.printing import say


def models(
    contains: Annotated[
        str, typer.Argument(metavar="[PART]", show_default=False, help="Only names that hold this, for example ViT-L.")
    ] = "",
) -> None:
    """Lists open_clip's models with the tags of their weights: supported or not, what they are, and why not."""
    import pandas as pd
    from rich.box import SIMPLE_HEAD
    from rich.table import Column, Table

    from clip_lens_plugin.model.catalogue import catalogue

    console = Console(highlight=False)
    with Console(stderr=True).status("reading open_clip's configs"):
        found = catalogue(contains)
    if found.empty:
        say(Console(stderr=True, highlight=False), f"clip-lens: open_clip has no model with {contains!r} in its name.")
        raise typer.Exit(2)
    rows = found.to_dict("records")
    supported = [row for row in rows if row["supported"]]
    table = Table(
        Column("model, and its tags", overflow="fold"),
        Column("family, or why not", overflow="fold"),
        *(Column(name, no_wrap=True) for name in ("layers", "heads", "width", "patch")),
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for row in rows:
        numbers = ["" if pd.isna(row[name]) else str(row[name]) for name in ("layers", "heads", "width", "patch")]
        kind = row["family"] if row["supported"] else f"not supported: {row['family']}, {row['reason']}"
        table.add_row(_lines(row["name"], row["tags"]), escape(kind), *numbers)
    if not console.is_terminal:
        console.width = max(console.width, console.measure(table, options=console.options.update(width=1000)).maximum)
    console.print(table)
    console.print(
        f"{len(supported)} of {len(rows)} models are supported, and {_tags(supported)} of their {_tags(rows)} "
        f"pretrained tags."
    )


def _lines(name: str, tags: tuple[str, ...]) -> str:
    return "\n".join([f"[bold]{escape(name)}[/bold]", *(f"  {escape(tag)}" for tag in tags)])


def _tags(rows: list[dict]) -> int:
    return sum(len(row["tags"]) for row in rows)
