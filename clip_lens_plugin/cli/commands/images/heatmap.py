"""``clip-lens heatmap``: what each patch of a photograph adds to its similarity to texts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from clip_lens_plugin.cli.errors import one_line_ends
from clip_lens_plugin.cli.given.model import ModelChoice
from clip_lens_plugin.cli.given.option_sets import takes_options
from clip_lens_plugin.cli.given.options import refuse_address
from clip_lens_plugin.cli.life import starting
from clip_lens_plugin.cli.outputs import free_place
from clip_lens_plugin.cli.printing import print_path, say_next
from clip_lens_plugin.plain_text import printable

if TYPE_CHECKING:
    from clip_lens_plugin.model.hooked_clip import HookedCLIP


@takes_options
def heatmap(
    choice: ModelChoice,
    image: Annotated[Path, typer.Argument(help="A picture.", show_default=False)],
    text: Annotated[list[str], typer.Option("--text", help="What to look for; again for more.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            show_default=False,
            help=".html to explore heads, texts and patches; .png, .svg or .pdf for a figure; a new file here, named "
            "after the picture, if not given.",
        ),
    ] = None,
    head: Annotated[
        list[str] | None, typer.Option("--head", help="LAYER.HEAD, for a figure; again for more; all if not given.")
    ] = None,
    contrast: Annotated[
        bool, typer.Option("--contrast", help="Each text minus the mean of the others (figure).")
    ] = False,
    smooth: Annotated[bool, typer.Option("--smooth", help="Show maps interpolated; the numbers stay.")] = False,
) -> None:
    """Maps a picture's similarity to texts onto its patches, on the whole picture."""
    console = Console(stderr=True, highlight=False)
    with one_line_ends(console, lambda notes: "nothing was written"):
        out = free_place(str(image), "heatmap", ".html") if out is None else out
        refuse_address("--out", out)
        if not image.is_file():
            raise FileNotFoundError(f"There is no file {image}.")
        heads = [_head(each) for each in head] if head else None
        with starting(console):
            from clip_lens_plugin.arguments import checked_texts
            from clip_lens_plugin.files.whole import check_place
            from clip_lens_plugin.images.pictures import open_upright
            from clip_lens_plugin.maps.patch_text import head_text_scores, patch_text_map
            from clip_lens_plugin.shown import DRAWN
            from clip_lens_plugin.views.figures.maps.maps import named_heads
            from clip_lens_plugin.views.maps.patch_text import head_text_view, patch_text_view
        if out.suffix not in DRAWN:
            raise ValueError(f"--out must end in one of {' '.join(DRAWN)}, got {out}.")
        check_place(out)
        if out.suffix == ".html" and (head or contrast):
            raise ValueError("--head and --contrast are chosen on the page itself; give them for .png, .svg or .pdf.")
        if not all(each.strip() for each in checked_texts("--text", text)):
            raise ValueError("--text is blank: say what to look for.")
        try:
            picture = open_upright(image)
        except ValueError as error:
            raise ValueError(f"{image} cannot be used: {error}.") from error
        with console.status("loading the model"):
            loaded = choice.load(console)
        for each in heads or ():
            _check_head(loaded, *each)
        name, how = printable(image.name), "bilinear" if smooth else "nearest"
        if out.suffix == ".html":
            view = head_text_view(head_text_scores(loaded, picture, text), name=name, interpolation=how)
        else:
            maps = patch_text_map(loaded, picture, text, heads)
            title = None
            if contrast:
                maps = maps.contrast()
                title = f"Patch-text maps, {named_heads(maps.heads)}; each text minus the mean of the others"
            view = patch_text_view(maps, names=[name], title=title, interpolation=how)
        print_path(view.save(out))
        folder = image.parent
        say_next(console, "collect", folder, "--out", free_place(str(folder), "collected"), *choice.typed())


def _head(given: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)\.(\d+)", given)
    if found is None:
        raise ValueError(f"--head is LAYER.HEAD, for example 11.3, got {given!r}.")
    return int(found[1]), int(found[2])


def _check_head(model: HookedCLIP, layer: int, head: int) -> None:
    try:
        model.cfg.checked_head(layer, head)
    except IndexError as error:
        raise ValueError(f"--head {layer}.{head}: {error}") from error
