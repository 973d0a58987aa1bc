"""``clip-lens ablate``: zero-shot accuracy, whole and with components ablated."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from clip_lens_plugin.cli.errors import one_line_ends
from clip_lens_plugin.cli.given.dataset import source_of
from clip_lens_plugin.cli.given.model import ModelChoice
from clip_lens_plugin.cli.given.option_sets import takes_options
from clip_lens_plugin.cli.given.options import (
    AGAIN,
    AttributeOption,
    ChosenOut,
    Format,
    FormatOption,
    LabelColumnOption,
    LabelOrderOption,
    LabelsOption,
    LimitOption,
    PrecisionOption,
    SourceArgument,
    check_source,
    out_folder,
)
from clip_lens_plugin.cli.life import starting
from clip_lens_plugin.cli.outputs import COLLECTED, free_place
from clip_lens_plugin.cli.printing import print_path, say
from clip_lens_plugin.plain_text import how_many

if TYPE_CHECKING:
    import pandas as pd

    from clip_lens_plugin.datasets.source import ImageSource
    from clip_lens_plugin.zero_shot.classifier import ZeroShotAccuracy

Effect = Literal["direct", "total"]

FIVE = 5
"""Classes that top-5 is of."""


@takes_options
def ablate(
    choice: ModelChoice,
    source: SourceArgument = None,
    out: ChosenOut = None,
    precision: PrecisionOption = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="imagenet, or a file with the data set's classes, one per line in any order, or with one, a tab and "
            "the text for it; the data set's own if not given."
        ),
    ] = None,
    ablation: Annotated[
        Literal["mean", "zero", "resample"],
        typer.Option(
            metavar="WHAT",
            help="mean, zero or resample: put the mean, zero, or what another image has in a component's place.",
        ),
    ] = "mean",
    effect: Annotated[
        Effect, typer.Option(help="In the sum alone, or in the model, where later layers react.")
    ] = "direct",
    images: Annotated[
        str | None,
        typer.Option(
            help="Data set that SOURCE was collected from, for total effects, if it is not in reach; 'scenes' for "
            "drawn scenes, with the --limit and --attribute of its store."
        ),
    ] = None,
    figure_format: FormatOption = "png",
    attribute: AttributeOption = None,
    limit: LimitOption = None,
    labels: LabelsOption = None,
    label_column: LabelColumnOption = None,
    label_order: LabelOrderOption = None,
) -> None:
    """Measures zero-shot accuracy with attention layers, MLPs and the class token's self-attention ablated."""
    console = Console(stderr=True, highlight=False)
    with one_line_ends(console, AGAIN), ExitStack() as held:
        out = free_place(source, "ablation") if out is None else out
        check_source(source)
        held.enter_context(out_folder(out))
        with starting(console):
            import torch

            from clip_lens_plugin.ablation.curve import mean_ablation_curve
            from clip_lens_plugin.cli.answers import say_next_of
            from clip_lens_plugin.cli.bars import Bars
            from clip_lens_plugin.cli.given.chosen import ChosenModel
            from clip_lens_plugin.cli.given.classes import chosen_classes, classifier_of
            from clip_lens_plugin.cli.given.stores import (
                data_set_of,
                end_if_many_skipped,
                finished_in,
                open_or_collect,
                print_classes,
                print_store,
                store_labels,
            )
            from clip_lens_plugin.collection.origins.own_pictures import needed_source
            from clip_lens_plugin.collection.place import Place
            from clip_lens_plugin.labelling.names import notes_of
        label_options = (labels, label_column, label_order)
        data = data_set_of(source, None if images else limit, None if images else attribute, *label_options)
        plan = finished_in(source, with_rows=True) if data is None else None
        pictures = _pictures(data, images, limit, attribute, effect)
        if pictures is None and plan is not None and effect == "total":
            pictures = needed_source(plan, Place(str(source)).folder)
        chosen = None if data is None else chosen_classes(classes, data.classes)
        if data is not None and notes_of(data) and notes_of(data)[0].startswith("no labels"):
            raise ValueError(f"There is nothing to measure accuracy by: {notes_of(data)[0]}.")
        address = str(source) if data is None else str(out / COLLECTED)
        model = ChosenModel.of(choice, precision, plan, address)
        with console.status("loading the model"):
            loaded = model.load(console)
        if data is not None:
            print_classes(console, data)
        store = open_or_collect(source, data, loaded, out, "contributions")
        own, truth = store.classes, store.labels
        if data is None and labels is not None:
            given = store_labels(store, labels, label_order, label_column)
            own, truth = given.classes, torch.tensor(given.labels)
            say(console, given.note)
        if not bool((truth >= 0).any()):
            raise ValueError(
                f"No sample of the {store.plan.dataset} has a label: give labels by name, --labels FILE with a name "
                f"and a label on each line, or collect class folders or shards with labels."
            )
        chosen = chosen or chosen_classes(classes, own)
        if chosen.note is not None:
            say(console, chosen.note)
        print_store(console, store)
        with Bars(console) as bars:
            classifier = classifier_of(
                loaded, chosen, lambda done, n: bars.on_progress("encoding class texts", done, n)
            )
        with console.status("measuring accuracy"):
            accuracy = store.accuracy(classifier, truth)
        curve = mean_ablation_curve(
            store, classifier, truth, ablation=ablation, effect=effect, images=pictures, progress=True
        )
        _print_accuracy(console, accuracy, curve)
        for path in _write(accuracy, curve, out, figure_format):
            print_path(path)
        say_next_of(console, store, address, "ablate" if data is None else "collect", source)
        if data is not None:
            end_if_many_skipped(console, store)


def _pictures(
    data: ImageSource | None, images: str | None, limit: int | None, attribute: str | None, effect: Effect
) -> ImageSource | None:
    """The data set that a total effect runs the model on; None where it is the store's own."""
    if images is not None and (data is not None or effect == "direct"):
        raise ValueError(f"--images {images} is for total effects on a store; here nothing would read it.")
    if effect == "direct" or data is not None:
        return data
    if images is None:
        return None
    return source_of(None if images == "scenes" else images, limit, attribute)


def _print_accuracy(console: Console, accuracy: ZeroShotAccuracy, curve: pd.DataFrame) -> None:
    from rich.table import Table

    n_classes = len(accuracy.per_class)
    accuracies = [("top-1", accuracy.top1), *([("top-5", accuracy.top5)] if n_classes > FIVE else [])]
    for name, share in accuracies:  # Among five or fewer classes the true one is always one of the nearest five.
        console.print(
            f"zero-shot {name} {_per_cent(share.value, share.low, share.high)}, {how_many(accuracy.n, 'sample')}, "
            f"{n_classes:,} classes"
        )
    ablation, effect = curve["ablation"].iloc[0], curve["effect"].iloc[0]
    table = Table("ablated", "accuracy (95 % interval)", title=f"{ablation} ablation, {effect} effect")
    for row in curve.to_dict("records"):
        table.add_row(row["ablated"], _per_cent(row["accuracy"], row["low"], row["high"]))
    console.print(table)


def _per_cent(share: float, low: float, high: float) -> str:
    return f"{100 * share:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _write(accuracy: ZeroShotAccuracy, curve: pd.DataFrame, out: Path, figure_format: Format) -> list[Path]:
    from clip_lens_plugin.files.whole import whole_files
    from clip_lens_plugin.plain_text import write_csv
    from clip_lens_plugin.views.drawing.figure_files import save_figure
    from clip_lens_plugin.views.figures.summaries import ablation_figure

    names = ("ablation.parquet", "ablation.csv", "zero_shot.csv", f"ablation.{figure_format}")
    paths = [out / name for name in names]
    with whole_files() as beside:
        curve.to_parquet(beside(paths[0]), index=False)
        for table, path in ((curve, paths[1]), (accuracy.per_class, paths[2])):
            write_csv(table, beside(path))
        save_figure(ablation_figure(curve), beside(paths[3]))
    return paths
