"""``clip-lens explain``: why a picture is nearer to one text than to another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from clip_lens_plugin.cli.errors import one_line_ends
from clip_lens_plugin.cli.given.model import ModelChoice
from clip_lens_plugin.cli.given.option_sets import takes_options
from clip_lens_plugin.cli.given.options import check_source, refuse_address
from clip_lens_plugin.cli.life import starting
from clip_lens_plugin.cli.outputs import check_result, free_place
from clip_lens_plugin.cli.printing import print_path, say, say_next

if TYPE_CHECKING:
    from clip_lens_plugin.model.hooked_clip import HookedCLIP


@takes_options
def explain(
    choice: ModelChoice,
    image: Annotated[Path, typer.Argument(help="A picture.", show_default=False)],
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text",
            show_default=False,
            help="Twice: the two texts; more often: the two nearest are compared; the classes of --means if not given.",
        ),
    ] = None,
    means: Annotated[
        str | None,
        typer.Option(
            metavar="STORE",
            show_default=False,
            help="What 'collect' wrote, or a folder of pictures: removed heads write their mean over it, and are "
            "described by it; they write nothing if not given.",
        ),
    ] = None,
    texts: Annotated[
        str | None,
        typer.Option(
            show_default=False,
            help="What heads are described by: general, words, scenes, or a file of texts, one per line; what fits the "
            "model if not given.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            show_default=False,
            help=".html for a page; .png, .svg or .pdf for a figure; .csv or .parquet for the tables; a new page here, "
            "named after the picture, if not given.",
        ),
    ] = None,
) -> None:
    """Explains why a picture is nearer to one text than to another, and removes heads until the answer flips."""
    console = Console(stderr=True, highlight=False)
    with one_line_ends(console, lambda notes: "nothing was written"):
        out = free_place(str(image), "explain", ".html") if out is None else out
        refuse_address("--out", out)
        if not image.is_file():
            raise FileNotFoundError(f"There is no file {image}.")
        if text is not None and len(text) < 2:
            raise ValueError("One --text has nothing to be compared with: give two, or more.")
        check_source(means)
        with starting(console):
            from clip_lens_plugin.cli.given.chosen import ChosenModel
            from clip_lens_plugin.cli.given.stores import finished_in, is_store
            from clip_lens_plugin.cli.given.texts import pool_for, pool_named
            from clip_lens_plugin.collection.store import ContributionStore
            from clip_lens_plugin.decisions.explaining import explain as explain_decision
        check_result(out)
        plan = finished_in(means) if means is not None and is_store(means) else None
        if text is None and (plan is None or plan.classes is None):
            raise ValueError("Give two texts, --text A --text B, or --means STORE, a store with classes.")
        chosen = ChosenModel.of(choice, None, plan, means or "")
        pool = pool_named(texts) if texts is not None else pool_for(chosen.name)[0] if means is not None else None
        with console.status("loading the model"):
            loaded = chosen.load(console)
        data = means if means is None or plan is None else ContributionStore.open(means, loaded)
        with console.status("explaining the decision"):
            found = explain_decision(loaded, image, *_asked(loaded, text, data), means=data, texts=pool)
        for each in found.sentences():
            say(console, each)
        print_path(found.save(out))
        named = [word for each in found.texts for word in ("--text", each)]
        say_next(console, "heatmap", image, *named, *chosen.choice.typed())


def _asked(model: HookedCLIP, text: list[str] | None, store: Any) -> list[Any]:
    """Two texts, or a classifier of more or of the store's classes."""
    from clip_lens_plugin.zero_shot.by_names import classifier_of_data
    from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier

    if text is None:
        return [classifier_of_data(store)]
    return text if len(text) == 2 else [ZeroShotClassifier.from_labels(model, text)]
