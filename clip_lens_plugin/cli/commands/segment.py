"""``clip-lens segment``: how well maps of a text lie on what it names, by every method."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from clip_lens_plugin.cli.errors import one_line_ends
from clip_lens_plugin.cli.given.model import ModelChoice
from clip_lens_plugin.cli.given.option_sets import takes_options
from clip_lens_plugin.cli.given.options import refuse_address
from clip_lens_plugin.cli.life import starting
from clip_lens_plugin.cli.outputs import free_place
from clip_lens_plugin.cli.printing import cell, print_path, say

if TYPE_CHECKING:
    from clip_lens_plugin.segmentation.masked.dataset import SegmentationDataset
    from clip_lens_plugin.segmentation.result import SegmentationScores

N_SCENES = 200


@takes_options
def segment(
    choice: ModelChoice,
    masked: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER|FILE.mat]",
            show_default=False,
            help="A folder with images/ and masks/ (PNG), or ImageNet-Segmentation's gtsegs_ijcv.mat; drawn scenes if "
            "not given.",
        ),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="The name of each value of a folder's masks, as lines: 17,cat. Each image is scored once for each. "
            "For FILE.mat, texts of WordNet ids: n02085620,chihuahua.",
        ),
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="An image's name and its text on each line, for a folder whose masks are object and background; the "
            "folders inside images/ if not given.",
        ),
    ] = None,
    void: Annotated[
        list[int] | None,
        typer.Option(
            metavar="VALUE", show_default=False, help="Value of a folder's masks that is left out; again for more."
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(metavar="A,B", show_default=False, help="Names of methods, with commas; all if not given."),
    ] = None,
    mode: Annotated[
        Literal["original", "paper", "squash"],
        typer.Option(
            metavar="MODE",
            help="original (on the picture itself), paper (as Gandelsman et al.: the mask squashed), or squash (as "
            "Chefer et al.: picture and mask squashed).",
        ),
    ] = "original",
    contrast: Annotated[
        Literal["with", "without", "both"],
        typer.Option(metavar="HOW", help="Texts less the data set's other texts: with, without, or both."),
    ] = "both",
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default=False, help="Other texts in the place of the data set's own, one per line."
        ),
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(
            show_default=False, help="Such as 'a photo of a {}'; again for the mean of more; {} if not given."
        ),
    ] = None,
    objects: Annotated[
        int | None,
        typer.Option(metavar="N", show_default=False, help="Objects of a drawn scene: 1 or 2; 1 if not given."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", show_default=False, help="Most images, evenly spaced; of drawn scenes 200 if not given."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, metavar="N", help="Images in a run.")] = 16,
    show: Annotated[int, typer.Option(min=0, metavar="N", help="Images whose maps are drawn.")] = 6,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default=False, help="Keeps scores in this file, and goes on from it if it is there."
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="Page with the table and a grid of overlays (or a figure: .png, .svg, .pdf); a new page here if not "
            "given.",
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="The table as a file, and beside it one row per image and method in NAME-images.csv.",
        ),
    ] = None,
) -> None:
    """Scores maps of what texts name on masks, by this package's method and others, in one table."""
    console = Console(stderr=True, highlight=False)
    kept = "nothing was written" if resume is None else f"scores are kept in {resume}: run the same command again"
    with one_line_ends(console, lambda notes: kept):
        page = free_place(None if masked is None else str(masked), "segmentation", ".html") if html is None else html
        for name, given in (("--html", page), ("--csv", csv), ("--resume", resume)):
            if given is not None:
                refuse_address(name, given)
        with starting(console):
            from clip_lens_plugin.cli.bars import Bars
            from clip_lens_plugin.cli.given.chosen import ChosenModel
            from clip_lens_plugin.files.whole import check_place
            from clip_lens_plugin.labelling.lines import text_lines
            from clip_lens_plugin.plain_text import write_csv
            from clip_lens_plugin.segmentation.kinds import kinds_of
            from clip_lens_plugin.segmentation.scoring import segmentation_scores
            from clip_lens_plugin.shown import DRAWN
        if page.suffix.lower() not in DRAWN:
            raise ValueError(f"--html must end in one of {' '.join(DRAWN)}, got {page}.")
        tables = [] if csv is None else [csv, csv.with_name(f"{csv.stem}-images{csv.suffix}")]
        if csv is not None and csv.suffix.lower() != ".csv":
            raise ValueError(f"--csv must end in .csv, got {csv}.")
        for each in (page, *tables):
            check_place(each)
        chosen = None if methods is None else [name.strip() for name in methods.split(",")]
        kinds_of(chosen, "both", True)  # Misspelt names are refused before anything is loaded.
        others = None if against is None else [each for each in text_lines(against, "texts") if each.strip()]
        dataset = _data_set(masked, names, texts, void, objects, limit)
        with console.status("loading the model"):
            model = ChosenModel.of(choice, None).load(console)
        say(console, dataset.title)
        with Bars(console) as bars:
            found = segmentation_scores(
                model,
                chosen,
                dataset,
                mode,
                contrast=contrast,
                against=others,
                templates=template or ("{}",),
                batch_size=batch_size,
                overlays=show,
                resume=resume,
                on_progress=lambda done, total: bars.on_progress("images", done, total),
            )
        _print_scores(console, found)
        for each, table in zip(tables, (found.to_dataframe(), found.rows), strict=False):
            write_csv(table, each)
            print_path(each)
        print_path(found.save(page))


def _data_set(
    masked: Path | None,
    names: Path | None,
    texts: Path | None,
    void: list[int] | None,
    objects: int | None,
    limit: int | None,
) -> SegmentationDataset:
    from clip_lens_plugin.segmentation.masked.dataset import PartOfMasked
    from clip_lens_plugin.segmentation.masked.drawn import DrawnObjects
    from clip_lens_plugin.segmentation.masked.imagenet_file import ImageNetSegmentation
    from clip_lens_plugin.segmentation.masked.mask_folder import MaskFolder

    is_folder = masked is not None and masked.is_dir()
    of_folder = [name for name, given in (("--texts", texts), ("--void", void)) if given and not is_folder]
    of_folder += ["--names"] if names is not None and masked is None else []
    if of_folder:
        raise ValueError(f"{' and '.join(of_folder)} say what the masks of a folder mean, and no folder was given.")
    if masked is None:
        return DrawnObjects(limit or N_SCENES, 1 if objects is None else objects)
    if objects is not None:
        raise ValueError("--objects is for drawn scenes, and others were given.")
    if not masked.exists():
        raise FileNotFoundError(f"There is no folder or file {masked}.")
    if is_folder:
        found: SegmentationDataset = MaskFolder(masked, names=names, texts=texts, void=void)
    else:
        found = ImageNetSegmentation(masked, names)
    return found if limit is None or limit >= len(found) else PartOfMasked(found, limit)


def _print_scores(console: Console, scores: SegmentationScores) -> None:
    from rich.table import Table
    from rich.text import Text

    from clip_lens_plugin.views.words.segmentation import headings, lines_of, notes

    table = Table()
    for i, heading in enumerate(headings(scores, scores.reference)):
        table.add_column(heading, justify="right" if i else "left")
    for line in lines_of(scores):
        values = [Text(each.value, style="bold" if each.best else "") for each in line.cells]
        apart = f"{line.difference} ({line.difference_interval})" if line.difference else ""
        table.add_row(cell(line.label), *values, apart, line.milliseconds)
    console.print(table)
    for each in (*scores.verdicts(), *notes(scores)):
        say(console, each)
