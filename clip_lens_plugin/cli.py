"""The command ``clip-lens``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from clip_lens_plugin.hooked_clip import HookedCLIP
    from clip_lens_plugin.texts.pool import TextPool

N_SCENES = 600
MOST_PHOTOGRAPHS = 2000
SCENES_SEED = 20_261
"""Neither the training scenes' seed nor that of the scenes that accuracy is measured on."""

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Takes CLIP image encoders apart.",
)


def _show_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"clip-lens {version('clip_lens_plugin')}")
        raise typer.Exit
    return wanted


@app.callback()
def main(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Takes CLIP image encoders apart: heads, tokens, MLPs and constants that sum to the embedding."""


@app.command()
def report(
    images: Annotated[
        Path | None, typer.Option(help="Folder of images, with its subfolders; drawn scenes if not given.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(help="'scenes', an open_clip model name, local-dir:FOLDER or hf-hub:OWNER/REPOSITORY."),
    ] = "scenes",
    pretrained: Annotated[str | None, typer.Option(help="Tag of the model's weights, or a checkpoint.")] = None,
    texts: Annotated[
        Path | None, typer.Option(help="Texts for TextSpan, one a line; a pool of the package if not given.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for report.html and the tables.")] = Path("clip-lens-report"),
    limit: Annotated[
        int | None,
        typer.Option(min=2, help=f"Most images; {N_SCENES} scenes or {MOST_PHOTOGRAPHS} photographs if not given."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda where there is one.")] = None,
) -> None:
    """Writes one page, and its numbers as parquet, on what each layer and head of a CLIP does.

    Without options: the embedded model on drawn scenes, offline.
    """
    console = Console(stderr=True, highlight=False)
    with _one_line_errors(console):
        _check_out(out)
        # Folder and texts first: loading a model can take minutes.
        folder_given = images is not None
        if images is not None:
            from clip_lens_plugin.images import find_images

            every = find_images(images)
            most = limit or MOST_PHOTOGRAPHS
            paths = find_images(images, most)
            if len(paths) < len(every):
                console.print(f"Using {len(paths)} of {len(every)} images, evenly spaced (see --limit).")
        with console.status("loading"):
            from clip_lens_plugin.hooked_clip import HookedCLIP

            pool, pool_name = _pool(texts, model)
            _check_device(device)
            loaded = HookedCLIP.from_pretrained(model, pretrained, device)
        if folder_given and model == "scenes":
            console.print("The embedded model knows drawn scenes only; --model chooses one for photographs.")
        with _Bars(console) as bars:
            if images is not None:
                page, n_skipped = _report_on_folder(loaded, images, paths, pool, pool_name, out, bars)
            else:
                page = _report_on_scenes(loaded, limit or N_SCENES, pool, pool_name, out, bars)
                n_skipped = 0
    if n_skipped:
        files = "1 file" if n_skipped == 1 else f"{n_skipped} files"
        console.print(f"Skipped {files} that could not be read; the report lists them.")
    typer.echo(page)


class _Bars(Progress):
    """One bar a stage, on stderr."""

    def __init__(self, console: Console) -> None:
        label = TextColumn("{task.description:<24}")
        super().__init__(label, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console)
        self._stages: dict[str, TaskID] = {}

    def on_progress(self, stage: str, done: int, total: int) -> None:
        if stage not in self._stages:
            self._stages[stage] = self.add_task(stage, total=total)
        self.update(self._stages[stage], completed=done, total=total)


def _report_on_folder(
    model: HookedCLIP, folder: Path, paths: list[Path], pool: TextPool, pool_name: str, out: Path, bars: _Bars
) -> tuple[Path, int]:
    import torch

    from clip_lens_plugin.images import load_images
    from clip_lens_plugin.report import Question, analyse
    from clip_lens_plugin.views.html import write_report

    images = load_images(
        folder,
        paths,
        model.preprocess,
        lambda done, total: bars.on_progress("reading images", done, total),
    )
    labels = images.folder_labels()
    questions = []
    if labels is not None:
        classes = sorted(set(labels))
        answers = torch.tensor([classes.index(label) for label in labels])
        readable = tuple(name.replace("_", " ") for name in classes)
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
        skipped=images.skipped,
        on_progress=bars.on_progress,
    )
    return write_report(found, out), len(images.skipped)


def _report_on_scenes(model: HookedCLIP, n: int, pool: TextPool, pool_name: str, out: Path, bars: _Bars) -> Path:
    import torch

    from clip_lens_plugin.report import Question, analyse
    from clip_lens_plugin.scenes.attributes import ATTRIBUTES, sample_scenes
    from clip_lens_plugin.scenes.captions import TEMPLATES, caption, prompts
    from clip_lens_plugin.scenes.drawing import draw
    from clip_lens_plugin.views.html import write_report

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
        captions=[caption({"colour": scene.colour, "shape": scene.shape}) for scene in scenes],
        on_progress=bars.on_progress,
    )
    return write_report(found, out)


def _pool(texts: Path | None, model: str) -> tuple[TextPool, str]:
    from clip_lens_plugin.texts.pool import TextPool

    if texts is not None:
        return TextPool.from_file(texts), f"the file {texts.name}"
    if model == "scenes":
        return TextPool.scenes(), "captions of drawn scenes"
    return TextPool.general(), "general image descriptions"


def _check_out(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file, expected a folder.")
    out.mkdir(parents=True, exist_ok=True)


def _check_device(device: str | None) -> None:
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"The device {device!r} cannot be used: {str(error).splitlines()[0]}") from error


@contextmanager
def _one_line_errors(console: Console) -> Iterator[None]:
    """What a user can mend ends in one line and exit code 2; what is a defect of ours keeps its traceback."""
    try:
        yield
    except (ValueError, OSError, NotImplementedError) as error:
        message = " ".join(str(error).split())
        console.print(f"clip-lens: {message}", markup=False, soft_wrap=True)
        raise typer.Exit(2) from None
