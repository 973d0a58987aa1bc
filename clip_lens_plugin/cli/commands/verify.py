"""``clip-lens verify``: whether the wrapped model gives its source's embeddings, and a collection what was written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from clip_lens_plugin.cli.errors import DAMAGED, one_line_errors
from clip_lens_plugin.cli.model import ModelChoice, takes_model
from clip_lens_plugin.cli.options import LimitOption, PrecisionOption
from clip_lens_plugin.plain_text import one_line

if TYPE_CHECKING:
    from clip_lens_plugin.datasets.image_folder import Skipped
    from clip_lens_plugin.model.hooked_clip import HookedCLIP

PROBES = 16
"""Pictures of a folder that are compared, evenly spaced, unless --limit says otherwise."""


@takes_model
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
    precision: PrecisionOption = "float32",
    limit: LimitOption = None,
) -> None:
    """Compares the wrapped model's embedding with that of open_clip's or Hugging Face's own model.

    Of a collection every file is read first and compared with what was written, which needs no model: a line says what
    is damaged and what is good, and damage is exit code 4.
    """
    import torch

    from clip_lens_plugin.cli.stores import is_store

    console = Console(stderr=True, highlight=False)
    with one_line_errors(console):
        if source is not None and is_store(source):
            _check_files(source)
            if not _is_own(choice, source):
                typer.echo("not compared with its model: give --model and --pretrained, as when it was collected")
                return
        with console.status("loading"):
            loaded = choice.load(console, getattr(torch, precision))
        for line in _lines(loaded, source, limit or PROBES):
            typer.echo(one_line(line))


def _check_files(store: str) -> None:
    """Says what the files of a collection hold. Exits if one is damaged."""
    from clip_lens_plugin.collection.checks.store import check_store

    check = check_store(store)
    for line in str(check).splitlines():
        typer.echo(one_line(f"{store}: {line}"))
    if not check.is_whole:
        raise typer.Exit(DAMAGED)


def _is_own(choice: ModelChoice, store: str) -> bool:
    """Whether a model was chosen, or the one that is taken where none is may be the collection's."""
    from clip_lens_plugin.collection.checks.description import read_plan
    from clip_lens_plugin.collection.place import Place

    plan = read_plan(Place(store))
    return choice.model != "scenes" or (plan is not None and plan.model_name == "scenes")


def _lines(model: HookedCLIP, source: str | None, limit: int) -> list[str]:
    from clip_lens_plugin.cli.stores import is_store
    from clip_lens_plugin.collection.store import ContributionStore
    from clip_lens_plugin.datasets.image_folder import find_images, load_images

    name = model.cfg.model_name
    if source is None:
        return [f"{name}: {model.verify()}"]
    if is_store(source):
        store = ContributionStore.open(source, model)
        then = "not recorded, the store is of an earlier version" if store.verified is None else str(store.verified)
        return [
            f"{source}: collected with this model, {len(store):,} samples; parts sum to the embedding to "
            f"{store.completeness_error:.1e}",
            f"when it was collected: {then}",
            f"now: {model.verify()}",
        ]
    left_out: list[Skipped] = []
    loaded = load_images(Path(source), find_images(source, limit, left_out), model.preprocess)
    skipped = [f"skipped {each.name}: {each.reason}" for each in (*loaded.skipped, *left_out)]
    return [*skipped, f"{name}: {model.verify(loaded.tensor)}"]
