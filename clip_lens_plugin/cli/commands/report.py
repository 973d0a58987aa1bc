"""``clip-lens report``: one page on a model, and its numbers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from clip_lens_plugin.cli.errors import one_line_ends
from clip_lens_plugin.cli.given.model import ModelChoice
from clip_lens_plugin.cli.given.option_sets import takes_options
from clip_lens_plugin.cli.given.options import ChosenOut, check_source, out_folder
from clip_lens_plugin.cli.life import starting
from clip_lens_plugin.cli.outputs import free_place
from clip_lens_plugin.cli.printing import print_path, say, say_next
from clip_lens_plugin.plain_text import how_many
from clip_lens_plugin.scenes.embedded import EMBEDDED
from clip_lens_plugin.scenes.seeds import SCENES_SEED

if TYPE_CHECKING:
    from clip_lens_plugin.collection.store import ContributionStore
    from clip_lens_plugin.datasets.source import ImageSource
    from clip_lens_plugin.report.pictures import Pictures
    from clip_lens_plugin.texts.pool import TextPool

N_SCENES = 600
MOST_PHOTOGRAPHS = 2000
PAGE = "report.html"
TEMPLATES = ("{}", "a photo of a {}", "a picture of a {}")


@dataclass(frozen=True)
class About:
    """What a report says of the images beside their contributions: arguments of ``report_on``."""

    images_from: str
    pictures: Pictures | None = None
    more: dict[str, Any] = field(default_factory=dict)


@takes_options
def report(
    choice: ModelChoice,
    store: Annotated[
        str | None,
        typer.Argument(
            metavar="[STORE]",
            show_default=False,
            help="What 'collect --what contributions' wrote, to report on what is there already.",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of images, with its subfolders; drawn scenes if not given. With STORE the data set that was "
            "collected, for the pictures of the page."
        ),
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(help="Texts for TextSpan, one per line; a pool of the package if not given.")
    ] = None,
    out: ChosenOut = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=2, metavar="N", help=f"Most images; {N_SCENES} scenes or {MOST_PHOTOGRAPHS} photographs if not given."
        ),
    ] = None,
    roles: Annotated[
        bool,
        typer.Option(
            "--roles", help="Find the role of each late head, too, beside chance: about a minute of ViT-B-16."
        ),
    ] = False,
) -> None:
    """Writes one page, and its numbers as parquet, on what each layer and head of a CLIP does.

    Without arguments: the embedded model on drawn scenes, offline.

    More than 5 % of the images skipped is exit code 3, and the page is of the others.
    """
    from clip_lens_plugin.files.whole import check_place

    console = Console(stderr=True, highlight=False)
    with one_line_ends(console, lambda notes: "nothing was written"), ExitStack() as held:
        given = store or images
        place = free_place(None if given is None else str(given), "report") if out is None else out
        check_source(None if given is None else str(given))
        held.enter_context(out_folder(place))
        check_place(place / PAGE)
        with starting(console):
            from clip_lens_plugin.cli.answers import say_next_of
            from clip_lens_plugin.cli.bars import Bars
            from clip_lens_plugin.cli.given.chosen import ChosenModel
            from clip_lens_plugin.cli.given.stores import end_if_many_skipped, plan_with_rows
            from clip_lens_plugin.cli.in_explorer import in_explorer
            from clip_lens_plugin.collection.store import ContributionStore
            from clip_lens_plugin.roles.themes import theme_codes
            from clip_lens_plugin.views.report.report import write_report
        # Folder and texts first: loading a model can take minutes.
        plan = None if store is None else plan_with_rows(store, limit, "Report on")
        source = None if store is not None else _source(console, images, limit)
        chosen = ChosenModel.of(choice, None, plan, store or "")
        with console.status("loading the model"):
            pool, pool_name = _pool(texts, chosen.name)
            if roles:
                theme_codes(pool.themes)
            loaded = chosen.load(console)
        if store is None and images is not None and chosen.name in EMBEDDED:
            console.print("The embedded model knows drawn scenes only; --model chooses one for photographs.")

        def written(rows: ContributionStore, about: About) -> Path:
            from clip_lens_plugin.cli.given.typed import command_line
            from clip_lens_plugin.report.analyses import report_on

            with Bars(console) as bars:
                found = report_on(
                    rows,
                    pool=pool,
                    pool_name=pool_name,
                    images_from=about.images_from,
                    pictures=about.pictures,
                    skipped=rows.skipped,
                    command=command_line(),
                    roles=roles,
                    on_progress=bars.on_progress,
                    **about.more,
                )
                return write_report(found, place, in_explorer(found, _explore(choice, store, images, source)))

        if store is not None:
            rows = ContributionStore.open(store, loaded)
            with _threads(chosen.name, len(rows)):
                page = written(rows, _about_store(console, rows, store, images))
        else:
            assert source is not None
            with _threads(chosen.name, len(source)):
                page, rows = _collected(loaded, source, place, written, images)
        if rows.skipped:
            files = how_many(len(rows.skipped), "file")
            console.print(f"Skipped {files} that could not be read; the report lists them.")
        print_path(page)
        if store is not None:
            say_next_of(console, rows, store, "report")
        else:
            say_next(console, *_next(images, source, chosen.choice))
        if store is None:
            end_if_many_skipped(console, rows)


def _threads(name: str, n: int) -> AbstractContextManager[None]:
    """One thread of the processor for few images of a small model: others would wait for longer than they work.

    Args:
        name: of the model.
        n: images.
    """
    from clip_lens_plugin.numerics.threads import on_threads

    return on_threads(1) if name in EMBEDDED and n <= N_SCENES else nullcontext()


def _explore(
    choice: ModelChoice, store: str | None, images: Path | None, source: ImageSource | None
) -> list[str | Path]:
    """The command that explores the same pictures by the same model, as its words were typed for the report."""
    data: list[str | Path] = [] if store is None else [store]
    data += [] if images is None else ["--images", images]
    data += [] if source is None else ["--limit", str(len(source))]
    return ["clip-lens", "explore", *data, *choice.typed()]


def _next(images: Path | None, source: ImageSource | None, choice: ModelChoice) -> list[str]:
    """The command to try after a report: a map of its first picture, or models for photographs."""
    if images is None or source is None:
        return ["models"]
    return ["heatmap", str(images / source.name(0)), "--text", "a dog", "--text", "a cat", *choice.typed()]


def _source(console: Console, images: Path | None, limit: int | None) -> ImageSource:
    """The folder's images, or drawn scenes."""
    from clip_lens_plugin.datasets.choose import as_source
    from clip_lens_plugin.datasets.folder import FolderSource
    from clip_lens_plugin.datasets.part import PartOfSource
    from clip_lens_plugin.labelling.names import notes_of
    from clip_lens_plugin.scenes.dataset import ScenesDataset

    if images is None:
        return as_source(ScenesDataset(limit or N_SCENES, SCENES_SEED))
    whole = FolderSource(images)
    for note in notes_of(whole):
        say(console, note)
    _readable(whole.classes or ())
    if len(whole) <= (limit or MOST_PHOTOGRAPHS):
        return whole
    part = PartOfSource(whole, limit or MOST_PHOTOGRAPHS)
    console.print(f"Using {len(part)} of {len(whole)} images, evenly spaced (see --limit).")
    return part


def _collected(
    model: Any, source: ImageSource, out: Path, written: Callable[[ContributionStore, About], Path], images: Path | None
) -> tuple[Path, ContributionStore]:
    """Collects into a folder that is removed again, beside the page: a folder of the system may be in memory."""
    from clip_lens_plugin.cli.given.stores import workers_for
    from clip_lens_plugin.collection.running.collecting import collect
    from clip_lens_plugin.report.in_reach import pictures_of

    with tempfile.TemporaryDirectory(dir=out, prefix=".collecting-") as folder:
        rows = collect(
            model, source, folder, "contributions", dtype="float32", workers=workers_for(model), heads="late"
        )
        pictures = pictures_of(rows, source)
        if images is None:
            return written(rows, _about_scenes(len(rows), pictures)), rows
        title = f"{len(rows):,} images of the folder {images.resolve().name}"
        return written(rows, About(title, pictures, {"questions": _questions("folder", rows)})), rows


def _about_scenes(n: int, pictures: Pictures) -> About:
    import torch

    from clip_lens_plugin.report.analyses import Question
    from clip_lens_plugin.scenes.attributes import ATTRIBUTES, sample_scenes
    from clip_lens_plugin.scenes.captions import TEMPLATES, caption, prompts

    scenes = sample_scenes(n, SCENES_SEED)
    codes = torch.tensor([scene.codes() for scene in scenes])
    more = {
        "names": [f"scene {i}: {caption(scene.attributes())}" for i, scene in enumerate(scenes)],
        "questions": [
            Question(name, tuple(prompts(name)), codes[:, a], TEMPLATES) for a, name in enumerate(ATTRIBUTES)
        ],
        "captions": [caption({"colour": scene.colour, "shape": scene.shape}) for scene in scenes],
    }
    return About(f"{n:,} drawn scenes it was not trained on (seed {SCENES_SEED})", pictures, more)


def _about_store(console: Console, rows: ContributionStore, store: str, images: Path | None) -> About:
    from clip_lens_plugin.report.in_reach import given_pictures, pictures_in_reach

    pictures = pictures_in_reach(rows) if images is None else given_pictures(rows, images)
    if pictures is None:
        say(
            console,
            f"The pictures of the {rows.plan.dataset} are not in reach, so the page shows names only: --images DIR "
            f"gives them.",
        )
    title = f"{len(rows):,} samples of the {rows.plan.dataset}"
    return About(title, pictures, {"questions": _questions("classes", rows)})


def _questions(name: str, rows: ContributionStore) -> list[Any]:
    """Which class an image is of, where there are classes."""
    from clip_lens_plugin.report.analyses import Question

    if rows.classes is None:
        return []
    return [Question(name, _readable(rows.classes), rows.labels, TEMPLATES)]


def _readable(folders: tuple[str, ...]) -> tuple[str, ...]:
    """Names of folders as phrases. Raises ValueError if two become the same."""
    phrases: dict[str, str] = {}
    for folder in folders:
        phrase = folder.replace("_", " ")
        if phrase in phrases:
            raise ValueError(
                f"The class folders {phrases[phrase]!r} and {folder!r} both read {phrase!r}: rename or join them."
            )
        phrases[phrase] = folder
    return tuple(phrases)


def _pool(texts: Path | None, model: str) -> tuple[TextPool, str]:
    from clip_lens_plugin.cli.given.texts import pool_for
    from clip_lens_plugin.texts.pool import TextPool

    return pool_for(model) if texts is None else (TextPool.from_file(texts), f"the file {texts.name}")
