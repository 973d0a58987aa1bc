"""``clip-lens collect``: a data set is run once, and what analyses need is kept."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from clip_lens_plugin.cli.errors import one_line_errors, one_line_interrupt, terminated_as_interrupted
from clip_lens_plugin.cli.given.dataset import source_of
from clip_lens_plugin.cli.given.model import ModelChoice
from clip_lens_plugin.cli.given.option_sets import takes_options
from clip_lens_plugin.cli.given.options import (
    AttributeOption,
    LabelColumnOption,
    LabelOrderOption,
    LabelsOption,
    LimitOption,
    PrecisionOption,
    check_source,
)
from clip_lens_plugin.cli.life import is_alone, is_first, starting
from clip_lens_plugin.cli.printing import print_path, say_next
from clip_lens_plugin.collection.errors import NOTHING_KEPT

GO_ON = "go on with --resume"


@takes_options
def collect(
    choice: ModelChoice,
    out: Annotated[str, typer.Option(help="Empty folder, or address, for the store.", show_default=False)],
    dataset: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATASET]",
            show_default=False,
            help="Folder of images or of class folders, or .tar shards, braces allowed; drawn scenes if not given.",
        ),
    ] = None,
    what: Annotated[
        Literal["moments", "contributions"],
        typer.Option(
            metavar="WHAT", help="moments of the heads, or contributions: one compact row per sample as well."
        ),
    ] = "contributions",
    dtype: Annotated[
        Literal["float16", "float32"], typer.Option(metavar="DTYPE", help="Type of the rows: float16 or float32.")
    ] = "float16",
    precision: PrecisionOption = None,
    autocast: Annotated[
        Literal["bfloat16", "float16", "none"],
        typer.Option(metavar="DTYPE", help="Type of the model's matrix products: bfloat16, float16 or none."),
    ] = "none",
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Samples in a run of the model.")] = 32,
    workers: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Processes that read ahead; 0 on the CPU and 8 on a GPU if not given."),
    ] = None,
    heads: Annotated[
        Literal["late", "all"] | None,
        typer.Option(
            show_default=False,
            help="Whose moments are kept: those of the last four layers, or all; late for a model with an attention "
            "pool, whose moments are large, and all for others if not given.",
        ),
    ] = None,
    neurons: Annotated[
        str | None,
        typer.Option(
            metavar="LAYERS",
            show_default=False,
            help="Also keep what neurons do through later heads: 4,5 for all of these layers, 4:0-99 for some of one, "
            "with commas between them.",
        ),
    ] = None,
    attribute: AttributeOption = None,
    limit: LimitOption = None,
    labels: LabelsOption = None,
    label_column: LabelColumnOption = None,
    label_order: LabelOrderOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a store that was cut off.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first sample that cannot be read.")] = False,
) -> None:
    """Runs a data set of any size once, and keeps what the other commands need.

    More than 5 % of the samples skipped is exit code 3, and the store stays usable.

    On several GPUs: torchrun --nproc-per-node N -m clip_lens_plugin collect ...
    """
    console = Console(stderr=True, highlight=False)
    if is_alone():  # Of several processes, none ends before the others hear why.
        with one_line_errors(console):
            check_source(dataset)
    with one_line_interrupt(console, lambda notes: "nothing was collected", shown=is_first()), starting(console):
        import torch

        from clip_lens_plugin.cli.answers import next_of_collected, print_answers
        from clip_lens_plugin.cli.given.chosen import ChosenModel
        from clip_lens_plugin.cli.given.stores import (
            begun_in,
            end_if_many_skipped,
            print_classes,
            print_store,
            workers_for,
        )
        from clip_lens_plugin.collection.processes.ranks import Ranks, joined
        from clip_lens_plugin.collection.running.collecting import collect as run
        from clip_lens_plugin.higher_order.chosen_names import neurons_of_text

    def kept(notes: list[str]) -> str:
        if not notes:
            return GO_ON if begun_in(out) is not None else "nothing was collected"
        again = "begin again with --resume" if notes[0].startswith(NOTHING_KEPT) else GO_ON
        return "; ".join([*notes, again])

    with joined() as own_device:
        ranks = Ranks.current()
        who = "clip-lens" if ranks.world == 1 else f"clip-lens, process {ranks.rank}"
        with (
            one_line_errors(console, who, GO_ON),
            one_line_interrupt(console, kept, shown=ranks.is_first),
            terminated_as_interrupted(),
            Ranks.together(),
        ):
            asked = None if neurons is None else neurons_of_text(neurons)
            source = source_of(dataset, limit, attribute, labels, label_column, label_order)
            chosen = ChosenModel.of(choice, precision, begun_in(out) if resume else None, out)
            with console.status("loading the model") if ranks.is_first else nullcontext():
                loaded = chosen.load(console, own_device)
            if ranks.is_first:
                print_classes(console, source)
            store = run(
                loaded,
                source,
                out if "://" in out else Path(out),
                what,
                dtype=dtype,
                batch_size=batch_size,
                workers=workers_for(loaded) if workers is None else workers,
                autocast=None if autocast == "none" else getattr(torch, autocast),
                resume=resume,
                strict=strict,
                heads=heads,
                neurons=asked,
            )
            if ranks.is_first:
                print_store(console, store)
                print_answers(console, store, out)
                print_path(out)
                say_next(console, *next_of_collected(store, out, dataset))
            end_if_many_skipped(console if ranks.is_first else Console(quiet=True), store)
