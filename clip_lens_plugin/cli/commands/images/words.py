"""``clip-lens words``: the few words that images are the sum of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from clip_lens_plugin.cli.errors import one_line_ends
from clip_lens_plugin.cli.given.model import ModelChoice
from clip_lens_plugin.cli.given.option_sets import takes_options
from clip_lens_plugin.cli.given.options import refuse_address
from clip_lens_plugin.cli.life import starting
from clip_lens_plugin.cli.outputs import check_result, free_place
from clip_lens_plugin.cli.printing import cell, print_path, say, say_next
from clip_lens_plugin.scenes.embedded import EMBEDDED

if TYPE_CHECKING:
    from clip_lens_plugin.describe.sparse_result import SparseText
    from clip_lens_plugin.texts.pool import TextPool

MOST_PRINTED, WORDS_PRINTED = 20, 8


@takes_options
def words(
    choice: ModelChoice,
    images: Annotated[
        str, typer.Argument(show_default=False, help="A picture, a folder of pictures, or what 'collect' wrote.")
    ],
    texts: Annotated[
        str | None,
        typer.Option(
            show_default=False,
            help="The vocabulary: words, general, scenes, or a file of texts, one per line; words, or scenes for the "
            "model of that name, if not given.",
        ),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            metavar="STORE",
            show_default=False,
            help="What 'collect' wrote, or a folder of pictures, whose mean images are centred by; that of IMAGES "
            "themselves, of which there are two then, if not given.",
        ),
    ] = None,
    penalty: Annotated[
        float | None, typer.Option(show_default=False, help="Greater for fewer words; 0.25 if not given.")
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(
            "--k", min=1, metavar="N", show_default=False, help="So many words per image, in place of a penalty."
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", show_default=False, help="Most images of a folder, evenly spaced; all if not given."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            show_default=False,
            help=".html for a page; .png, .svg or .pdf for a figure; .csv or .parquet for the table; a new page here, "
            "named after IMAGES, if not given.",
        ),
    ] = None,
) -> None:
    """Says what images show as a sum of few words of a vocabulary, with their weights."""
    console = Console(stderr=True, highlight=False)
    with one_line_ends(console, lambda notes: "nothing was written"):
        out = free_place(images, "words", ".html") if out is None else out
        refuse_address("--out", out)
        with starting(console):
            from clip_lens_plugin.cli.given.chosen import ChosenModel
            from clip_lens_plugin.cli.given.stores import finished_in, is_store
            from clip_lens_plugin.collection.store import ContributionStore
            from clip_lens_plugin.datasets.image_folder import find_images
            from clip_lens_plugin.describe.sparse import checked_aim, sparse_text
        check_result(out)
        checked_aim(penalty, k)
        plans = {each: finished_in(each, each == images) for each in (images, mean) if each and is_store(each)}
        if images in plans and limit is not None:
            raise ValueError(f"{images} is collected already: --limit is for a folder of pictures.")
        of_images = images if images in plans or Path(images).is_file() else find_images(images, limit)
        address = next(iter(plans), "")
        chosen = ChosenModel.of(choice, None, plans.get(address), address)
        pool = vocabulary(texts, chosen.name)
        with console.status("loading the model"):
            loaded = chosen.load(console)
        opened = {each: ContributionStore.open(each, loaded) for each in plans}
        with console.status("running the model, and looking for words"):
            given = opened.get(images, of_images) if isinstance(of_images, str) else of_images
            found = sparse_text(loaded, given, pool, penalty, k=k, mean=opened.get(mean or "", mean))
        _print_words(console, found)
        print_path(found.save(out))
        typed = [] if images in plans else chosen.choice.typed()
        if of_images == images and images not in plans:
            seen = [word for text, _ in found.words(0)[:2] for word in ("--text", text)]
            say_next(console, "heatmap", images, *(seen or ("--text", pool.texts[0])), *typed)
        else:
            say_next(console, "report", images, *typed)


def vocabulary(texts: str | None, model: str) -> TextPool:
    """The pool of texts that was asked for; common words, or what can be said of scenes, if none was."""
    from clip_lens_plugin.cli.given.texts import pool_named

    return pool_named(texts if texts is not None else "scenes" if model in EMBEDDED else "words")


def _print_words(console: Console, found: SparseText) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("image", "words", "cosine")
    for row, name in enumerate(found.names[:MOST_PRINTED]):
        weights = found.words(row)
        listed = Text(", ").join(cell(text).append(f" {weight:.2f}") for text, weight in weights[:WORDS_PRINTED])
        if len(weights) > WORDS_PRINTED:
            listed.append(f" and {len(weights) - WORDS_PRINTED} more")
        table.add_row(
            cell(name), listed if weights else "no word is worth its penalty", f"{float(found.cosine[row]):.2f}"
        )
    console.print(table)
    if len(found) > MOST_PRINTED:
        console.print(f"and {len(found) - MOST_PRINTED:,} more images")
    say(console, f"{found.about}.")
