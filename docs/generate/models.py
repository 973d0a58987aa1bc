"""Writes the tables of supported models, from the package's catalogue: ``python docs/generate/models.py``."""

from __future__ import annotations

import re
from pathlib import Path

import open_clip
import pandas as pd

from clip_lens_plugin.model.catalogue import catalogue

PAGE = Path(__file__).parents[1] / "pages" / "supported.md"
TABLES = re.compile(r"(?<=<!-- tables -->\n).*", re.DOTALL)
"""What follows this comment is written here; what is before it, by hand."""


def tables(rows: pd.DataFrame) -> str:
    """The end of the page: how many models are supported, which, and why the others are not.

    Args:
        rows: what :func:`catalogue` returns.
    """
    good, bad = rows[rows["supported"]], rows[~rows["supported"]]
    tags = rows["tags"].map(len)
    count = (
        f"Of the {len(rows)} names that open_clip {open_clip.__version__} knows, {len(good)} are supported, and "
        f"{tags[rows['supported']].sum()} of the {tags.sum()} tags of pretrained weights."
    )
    yes = table(good, ["family", "layers", "heads", "width", "patch", "tags"])
    return f"\n{count}\n\n## Supported\n\n{yes}\n\n## Not supported\n\n{table(bad, ['family', 'reason'])}\n"


def table(rows: pd.DataFrame, columns: list[str]) -> str:
    """Rows of the catalogue in Markdown, the name first."""
    lines = ["| " + " | ".join(["name", *columns]) + " |", "|" + "---|" * (1 + len(columns))]
    for row in rows.to_dict("records"):
        lines.append("| " + " | ".join([f"`{row['name']}`", *(cell(row[column]) for column in columns)]) + " |")
    return "\n".join(lines)


def cell(value: object) -> str:
    """A value as it stands in a table."""
    if isinstance(value, tuple):
        return ", ".join(f"`{tag}`" for tag in value) or "none"
    return str(value).replace("|", "\\|")


if __name__ == "__main__":
    page = PAGE.read_text()
    PAGE.write_text(TABLES.sub(lambda _: tables(catalogue()), page))
