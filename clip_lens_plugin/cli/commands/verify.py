"""``clip-lens verify``: whether the wrapped model gives its source's embeddings, and a store what was written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from clip_lens_plugin.cli.errors import DAMAGED, one_line_ends
from clip_lens_plugin.cli.given.model import ModelChoice
from clip_lens_plugin.cli.given.option_sets import takes_options
from clip_lens_plugin.cli.given.options import LimitOption, PrecisionOption, check_source
from clip_lens_plugin.cli.life import starting
from clip_lens_plugin.cli.printing import say_next
from clip_lens_plugin.plain_text import how_many, one_line
from clip_lens_plugin.scenes.embedded import EMBEDDED

if TYPE_CHECKING:
    from clip_lens_plugin.datasets.image_folder import Skipped
    from clip_lens_plugin.model.hooked_clip import HookedCLIP

PROBES = 16
"""Pictures of a folder that are compared, evenly spaced, unless --limit says otherwise."""


@takes_options
def verify(
    choice: ModelChoice,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[STORE | IMAGES]",
            show_default=False,
            help="What 'collect' wrote, or a folder of pictures to compare on; an image of noise if not given.",
        ),
    ] = None,
    precision: PrecisionOption = None,
    limit: LimitOption = None,
) -> None:
    """Compares the wrapped model's embedding with that of open_clip's or Hugging Face's own model.

    Of a store every file is read first and compared with what was written, which needs no model.

    A line says what is damaged and what is good, and damage is exit code 4.
    """
    console = Console(stderr=True, highlight=False)
    with one_line_ends(console, lambda notes: "not all was compared"):
        check_source(source)
        with starting(console):
            from clip_lens_plugin.cli.answers import next_words
            from clip_lens_plugin.cli.given.chosen import ChosenModel
            from clip_lens_plugin.cli.given.stores import begun_in, is_store
            from clip_lens_plugin.collection.origins.own_model import OwnModelError
        plan = None
        if source is not None and is_store(source):
            _check_files(console, source)
            plan = begun_in(source)
        try:
            chosen = ChosenModel.of(choice, precision, plan, source or "")
            with console.status("loading the model"):
                loaded = chosen.load(console)
        except OwnModelError as error:  # The files are compared, which needs no model.
            typer.echo(one_line(f"not compared with its model: {error}"))
            return
        of_texts = _of_texts(loaded)
        for line in [*_lines(console, loaded, source, limit or PROBES), *of_texts]:
            typer.echo(one_line(line))
        if plan is not None:
            say_next(console, *next_words(plan, str(source)))
        elif source is not None:
            say_next(console, "report", "--images", source, *chosen.choice.typed())
        else:
            say_next(
                console, "report", *([] if chosen.name in EMBEDDED else ["--images", "DIR"]), *chosen.choice.typed()
            )


def _check_files(console: Console, store: str) -> None:
    """Says what the files of a store hold. Exits if one is damaged."""
    from clip_lens_plugin.collection.checks.store import check_store

    with console.status("reading the store's files"):
        check = check_store(store)
    for line in str(check).splitlines():
        typer.echo(one_line(f"{store}: {line}"))
    if not check.is_whole:
        raise typer.Exit(DAMAGED)


def _of_texts(model: HookedCLIP) -> list[str]:
    """Why texts cannot be taken apart; nothing where they can, and are compared with the images then."""
    try:
        _ = model.text
    except ValueError as error:
        return [f"not compared: {error}"]
    return []


def _lines(console: Console, model: HookedCLIP, source: str | None, limit: int) -> list[str]:
    from clip_lens_plugin.cli.bars import Bars
    from clip_lens_plugin.cli.given.stores import is_store
    from clip_lens_plugin.collection.store import ContributionStore
    from clip_lens_plugin.datasets.image_folder import find_images, load_images

    name, comparing = model.cfg.model_name, "comparing the model with its source"
    if source is None:
        with console.status(comparing):
            return [f"{name}: {model.verify()}"]
    if is_store(source):
        with console.status(comparing):
            store, now = ContributionStore.open(source, model), model.verify()
        then = "not recorded, the store is of an earlier version" if store.verified is None else str(store.verified)
        return [
            f"{source}: collected with this model, {how_many(len(store), 'sample')}; parts sum to the embedding to "
            f"{store.completeness_error:.1e}",
            f"when it was collected: {then}",
            f"now: {now}",
        ]
    left_out: list[Skipped] = []
    found = find_images(source, limit, left_out)
    with Bars(console, transient=True) as bars:
        loaded = load_images(
            Path(source), found, model.preprocess, lambda done, n: bars.on_progress("reading pictures", done, n)
        )
    skipped = [f"skipped {each.name}: {each.reason}" for each in (*loaded.skipped, *left_out)]
    with console.status(comparing):
        return [*skipped, f"{name}: {model.verify(loaded.tensor)}"]
