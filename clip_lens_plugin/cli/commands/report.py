"""``clip-lens report``: one page on a model, and its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from clip_lens_plugin.cli.dataset import SCENES_SEED
from clip_lens_plugin.cli.errors import one_line_errors
from clip_lens_plugin.cli.model import ModelChoice, takes_model
from clip_lens_plugin.cli.options import check_out
from clip_lens_plugin.cli.printing import print_path, say

if TYPE_CHECKING:
    from clip_lens_plugin.cli.bars import Bars
    from clip_lens_plugin.datasets.image_folder import Skipped
    from clip_lens_plugin.model.hooked_clip import HookedCLIP
    from clip_lens_plugin.texts.pool import TextPool

N_SCENES = 600
MOST_PHOTOGRAPHS = 2000
PAGE = "report.html"


@takes_model
def report(
    choice: ModelChoice,
    images: Annotated[
        Path | None, typer.Option(help="Folder of images, with its subfolders; drawn scenes if not given.")
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(help="Texts for TextSpan, one a line; a pool of the package if not given.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for report.html and the tables.")] = Path("clip-lens-report"),
    limit: Annotated[
        int | None,
        typer.Option(min=2, help=f"Most images; {N_SCENES} scenes or {MOST_PHOTOGRAPHS} photographs if not given."),
    ] = None,
) -> None:
    """Writes one page, and its numbers as parquet, on what each layer and head of a CLIP does.

    Without options: the embedded model on drawn scenes, offline.
    """
    from clip_lens_plugin.cli.bars import Bars
    from clip_lens_plugin.files.whole import check_place

    console = Console(stderr=True, highlight=False)
    with one_line_errors(console):
        check_out(out)
        check_place(out / PAGE)
        # Folder and texts first: loading a model can take minutes.
        folder_given = images is not None
        left_out: list[Skipped] = []
        if images is not None:
            from clip_lens_plugin.datasets.image_folder import evenly_spaced, find_images

            every = find_images(images, left_out=left_out)
            paths = evenly_spaced(every, limit or MOST_PHOTOGRAPHS)
            if len(paths) < len(every):
                console.print(f"Using {len(paths)} of {len(every)} images, evenly spaced (see --limit).")
        with console.status("loading"):
            pool, pool_name = _pool(texts, choice.model)
            loaded = choice.load(console)
        if folder_given and choice.model == "scenes":
            console.print("The embedded model knows drawn scenes only; --model chooses one for photographs.")
        with Bars(console) as bars:
            if images is not None:
                page, n_skipped = _report_on_folder(loaded, images, paths, left_out, pool, pool_name, out, bars)
            else:
                page = _report_on_scenes(loaded, limit or N_SCENES, pool, pool_name, out, bars)
                n_skipped = 0
    if n_skipped:
        files = "1 file" if n_skipped == 1 else f"{n_skipped} files"
        console.print(f"Skipped {files} that could not be read; the report lists them.")
    print_path(page)


def _report_on_folder(
    model: HookedCLIP,
    folder: Path,
    paths: list[Path],
    left_out: list[Skipped],
    pool: TextPool,
    pool_name: str,
    out: Path,
    bars: Bars,
) -> tuple[Path, int]:
    import torch

    from clip_lens_plugin.datasets.image_folder import load_images
    from clip_lens_plugin.labelling.folders import folder_classes
    from clip_lens_plugin.labelling.wordnet import worded
    from clip_lens_plugin.report.analyses import Question, analyse
    from clip_lens_plugin.views.report import write_report

    classes = folder_classes([path.relative_to(folder).as_posix() for path in paths])
    for note in classes.told(worded(classes.names)):
        say(bars.console, note)
    images = load_images(
        folder,
        paths,
        model.preprocess,
        lambda done, total: bars.on_progress("reading images", done, total),
    )
    questions = []
    if classes.names:
        readable = _readable(list(worded(classes.names)))
        label = dict(zip(paths, classes.labels, strict=True))
        answers = torch.tensor([label[path] for path in images.paths])
        templates = ("{}", "a photo of a {}", "a picture of a {}")
        questions.append(Question("folder", readable, answers, templates))
    found = analyse(
        model,
        images.tensor,
        names=images.names,
        pool=pool,
        pool_name=pool_name,
        images_from=f"{len(images.names):,} images of the folder {folder.resolve().name}",
        questions=questions,
        photograph=images.photograph,
        skipped=[*images.skipped, *left_out],
        on_progress=bars.on_progress,
    )
    return write_report(found, out), len(images.skipped) + len(left_out)


def _readable(folders: list[str]) -> tuple[str, ...]:
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


def _report_on_scenes(model: HookedCLIP, n: int, pool: TextPool, pool_name: str, out: Path, bars: Bars) -> Path:
    import torch

    from clip_lens_plugin.report.analyses import Question, analyse
    from clip_lens_plugin.scenes.attributes import ATTRIBUTES, sample_scenes
    from clip_lens_plugin.scenes.captions import TEMPLATES, caption, prompts
    from clip_lens_plugin.scenes.drawing import draw
    from clip_lens_plugin.views.report import write_report

    if model.preprocess is None:
        raise ValueError("The model was loaded without preprocessing.")
    scenes, tensors = sample_scenes(n, SCENES_SEED), []
    for scene in scenes:
        tensors.append(model.preprocess(draw(scene)))
        bars.on_progress("drawing scenes", len(tensors), n)
    codes = torch.tensor([scene.codes() for scene in scenes])
    found = analyse(
        model,
        torch.stack(tensors),
        names=[f"scene {i}: {caption(scene.attributes())}" for i, scene in enumerate(scenes)],
        pool=pool,
        pool_name=pool_name,
        images_from=f"{n:,} drawn scenes it was not trained on (seed {SCENES_SEED})",
        questions=[Question(name, tuple(prompts(name)), codes[:, a], TEMPLATES) for a, name in enumerate(ATTRIBUTES)],
        photograph=lambda i: draw(scenes[i]),
        captions=[caption({"colour": scene.colour, "shape": scene.shape}) for scene in scenes],
        on_progress=bars.on_progress,
    )
    return write_report(found, out)


def _pool(texts: Path | None, model: str) -> tuple[TextPool, str]:
    from clip_lens_plugin.cli.texts import pool_for
    from clip_lens_plugin.texts.pool import TextPool

    return pool_for(model) if texts is None else (TextPool.from_file(texts), f"the file {texts.name}")
