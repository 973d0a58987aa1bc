"""``clip-lens textspan``: what each head writes, in texts."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from clip_lens_plugin.cli.errors import one_line_ends
from clip_lens_plugin.cli.given.model import ModelChoice
from clip_lens_plugin.cli.given.option_sets import takes_options
from clip_lens_plugin.cli.given.options import (
    AGAIN,
    ChosenOut,
    Format,
    FormatOption,
    LimitOption,
    PrecisionOption,
    SourceArgument,
    check_source,
    out_folder,
)
from clip_lens_plugin.cli.life import starting
from clip_lens_plugin.cli.outputs import COLLECTED, free_place
from clip_lens_plugin.cli.printing import cell, print_path

if TYPE_CHECKING:
    from clip_lens_plugin.describe.spans import TextSpanResult

TEXTS_PRINTED = 3


@takes_options
def textspan(
    choice: ModelChoice,
    source: SourceArgument = None,
    out: ChosenOut = None,
    precision: PrecisionOption = None,
    texts: Annotated[
        str | None,
        typer.Option(
            help="general, words, scenes, or a file of texts, one per line; what fits the model if not given."
        ),
    ] = None,
    directions: Annotated[int, typer.Option(min=1, metavar="N", help="Most texts per head.")] = 60,
    heads: Annotated[Literal["late", "all"], typer.Option(help="Those of the last four layers, or all.")] = "late",
    figure_format: FormatOption = "png",
    limit: LimitOption = None,
) -> None:
    """Describes heads by texts (TextSpan), as tables and a figure of the variance that they explain."""
    console = Console(stderr=True, highlight=False)
    with one_line_ends(console, AGAIN), ExitStack() as held:
        out = free_place(source, "textspan") if out is None else out
        check_source(source)
        held.enter_context(out_folder(out))
        with starting(console):
            from clip_lens_plugin.cli.answers import say_next_of
            from clip_lens_plugin.cli.bars import Bars
            from clip_lens_plugin.cli.given.chosen import ChosenModel
            from clip_lens_plugin.cli.given.stores import (
                data_set_of,
                end_if_many_skipped,
                finished_in,
                open_or_collect,
                print_store,
            )
            from clip_lens_plugin.cli.given.texts import pool_for, pool_named
            from clip_lens_plugin.describe.spans import text_span
        data = data_set_of(source, limit, attribute=None)
        address = str(source) if data is None else str(out / COLLECTED)
        chosen = ChosenModel.of(choice, precision, finished_in(source) if data is None else None, address)
        pool = pool_for(chosen.name)[0] if texts is None else pool_named(texts)
        with console.status("loading the model"):
            loaded = chosen.load(console)
        store = open_or_collect(source, data, loaded, out, "moments", "all" if heads == "all" else None)
        if heads == "all":
            store.moments.refuse_left_out(0)
        print_store(console, store)
        with Bars(console) as bars:
            embeddings = pool.embed(loaded, on_progress=lambda done, n: bars.on_progress("encoding texts", done, n))
        with console.status("picking texts"):
            found = text_span(loaded, store.moments, pool, directions, heads, embeddings)
        _print_texts(console, found)
        for path in _write(found, out, figure_format):
            print_path(path)
        say_next_of(console, store, address, "textspan")
        if data is not None:
            end_if_many_skipped(console, store)


def _print_texts(console: Console, found: TextSpanResult) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("layer", "head", "first texts", "explained")
    for span in found:
        texts = Text("\n").join(cell(text) for text in span.texts[:TEXTS_PRINTED])
        share = f"{span.explained_variance[-1]:.0%} by {len(span.texts)}" if span.texts else "nothing varies"
        table.add_row(str(span.layer), str(span.head), texts, share)
    console.print(table)


def _write(found: TextSpanResult, out: Path, figure_format: Format) -> list[Path]:
    from clip_lens_plugin.files.whole import whole_files
    from clip_lens_plugin.plain_text import write_csv
    from clip_lens_plugin.views.drawing.figure_files import save_figure
    from clip_lens_plugin.views.figures.summaries import explained_variance_figure

    table = found.to_dataframe()
    paths = [out / name for name in ("text_span.parquet", "text_span.csv", f"explained_variance.{figure_format}")]
    with whole_files() as beside:
        table.to_parquet(beside(paths[0]), index=False)
        write_csv(table, beside(paths[1]))
        save_figure(explained_variance_figure(table), beside(paths[2]))
    return paths
