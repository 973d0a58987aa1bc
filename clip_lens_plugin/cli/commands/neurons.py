"""``clip-lens neurons``: what the neurons of a layer do through later heads, in texts and images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from clip_lens_plugin.cli.errors import one_line_ends
from clip_lens_plugin.cli.given.model import ModelChoice
from clip_lens_plugin.cli.given.option_sets import takes_options
from clip_lens_plugin.cli.given.options import ResultOut, check_source, refuse_address
from clip_lens_plugin.cli.life import starting
from clip_lens_plugin.cli.outputs import check_result, free_place
from clip_lens_plugin.cli.printing import cell, print_path, say
from clip_lens_plugin.plain_text import how_many

if TYPE_CHECKING:
    from clip_lens_plugin.retrieval.strongest import StrongestNeurons

IMAGES_PRINTED = 3


@takes_options
def neurons(
    choice: ModelChoice,
    store: Annotated[
        str,
        typer.Argument(metavar="STORE", show_default=False, help="What 'collect --neurons' wrote."),
    ],
    layer: Annotated[int, typer.Option(metavar="L", show_default=False, help="Layer of the neurons.")],
    out: ResultOut = None,
    texts: Annotated[
        str | None,
        typer.Option(
            show_default=False,
            help="general, words, scenes, or a file of texts, one per line; what fits the model if not given.",
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, metavar="N", help="Most neurons, the strongest first.")] = 20,
    images: Annotated[
        Path | None,
        typer.Option(
            show_default=False, help="The data set that was collected, for its pictures; looked for if not given."
        ),
    ] = None,
) -> None:
    """Describes the neurons of a layer that do most through later heads, by texts and images of either side."""
    console = Console(stderr=True, highlight=False)
    with one_line_ends(console, lambda notes: "nothing was written"):
        out = free_place(store, f"neurons-{layer}", ".html") if out is None else out
        refuse_address("--out", out)
        check_source(store)
        with starting(console):
            from clip_lens_plugin.cli.answers import say_next_of
            from clip_lens_plugin.cli.given.chosen import ChosenModel
            from clip_lens_plugin.cli.given.stores import finished_in
            from clip_lens_plugin.cli.given.texts import pool_for, pool_named
            from clip_lens_plugin.collection.checks.description import checked_neuron_layer
            from clip_lens_plugin.collection.store import ContributionStore
            from clip_lens_plugin.datasets.choose import as_source
            from clip_lens_plugin.retrieval.strongest import strongest_neurons
            from clip_lens_plugin.shown import TABLES
        check_result(out)
        plan = finished_in(store)
        checked_neuron_layer(plan, layer, store)
        pictures = None if images is None or out.suffix.lower() in TABLES else as_source(images)
        chosen = ChosenModel.of(choice, None, plan, store)
        pool = pool_for(chosen.name)[0] if texts is None else pool_named(texts)
        with console.status("loading the model"):
            loaded = chosen.load(console)
        opened = ContributionStore.open(store, loaded)
        with console.status("describing neurons"):
            found = strongest_neurons(opened, layer, pool, count)
        _print_neurons(console, found)
        print_path(found.save(out, **({} if pictures is None else {"images": pictures})))
        say_next_of(console, opened, store, "neurons")


def _print_neurons(console: Console, found: StrongestNeurons) -> None:
    from rich.table import Table
    from rich.text import Text

    from clip_lens_plugin.higher_order.frozen_run import FROZEN

    table = Table("neuron", "strength", "share", "+", "−", "images")
    for each in found.neurons:
        sides = (Text("\n").join(cell(one.text) for one in side) for side in (each.positive, each.negative))
        share = "" if each.share != each.share else f"{each.share:.0%}"
        captions = Text("\n").join(cell(image.caption) for image in each.images[:IMAGES_PRINTED])
        table.add_row(str(each.neuron), f"{each.strength:.2e}", share, *sides, captions)
    console.print(table)
    say(
        console,
        f"Layer {found.layer}, {how_many(found.n_images, 'image')}; {FROZEN}. Strength: the root of the variance of "
        f"what a neuron adds through later heads (cosine); share: of that along one direction, whose sides are + and "
        f"−.",
    )
