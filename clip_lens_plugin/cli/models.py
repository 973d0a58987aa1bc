"""``clip-lens models``: which models of open_clip can be taken apart."""

from __future__ import annotations

from typing import Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clip_lens_plugin.catalogue import catalogue


def models(
    contains: Annotated[
        str, typer.Argument(metavar="[PART]", show_default=False, help="Only names that hold this, for example ViT-L.")
    ] = "",
) -> None:
    """Lists open_clip's models with the tags of their weights: supported or not, what they are, and why not."""
    console = Console(highlight=False)
    with Console(stderr=True).status("reading open_clip's configs"):
        found = catalogue(contains)
    if found.empty:
        Console(stderr=True).print(f"clip-lens: open_clip has no model with {contains!r} in its name.", markup=False)
        raise typer.Exit(2)
    rows = found.to_dict("records")
    supported = [row for row in rows if row["supported"]]
    table = Table("model", "tags", "supported", "family", "layers", "heads", "width", "patch", "why not")
    for row in rows:
        numbers = ["" if pd.isna(row[name]) else str(row[name]) for name in ("layers", "heads", "width", "patch")]
        cells = ["\n".join(row["tags"]), "yes" if row["supported"] else "no", row["family"], *numbers, row["reason"]]
        table.add_row(escape(row["name"]), *(escape(cell) for cell in cells))
    console.print(table)
    console.print(
        f"{len(supported)} of {len(rows)} models are supported, and {_tags(supported)} of their {_tags(rows)} "
        f"pretrained tags."
    )


def _tags(rows: list[dict]) -> int:
    return sum(len(row["tags"]) for row in rows)
