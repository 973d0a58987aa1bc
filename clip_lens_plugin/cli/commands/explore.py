"""``clip-lens explore``: a model and pictures in the browser."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from clip_lens_plugin.cli.errors import one_line_ends
from clip_lens_plugin.cli.given.groups import GROUPS_HELP, GroupsChoice
from clip_lens_plugin.cli.given.model import ModelChoice
from clip_lens_plugin.cli.given.option_sets import takes_options
from clip_lens_plugin.cli.given.options import check_source
from clip_lens_plugin.cli.life import starting
from clip_lens_plugin.cli.printing import say
from clip_lens_plugin.scenes.seeds import SCENES_SEED

if TYPE_CHECKING:
    from clip_lens_plugin.app.explored import Spelled
    from clip_lens_plugin.collection.store import ContributionStore
    from clip_lens_plugin.model.hooked_clip import HookedCLIP

N_SCENES, ATTRIBUTE = 200, "shape"
MOST_PHOTOGRAPHS = 500


@takes_options
def explore(
    choice: ModelChoice,
    asked: GroupsChoice,
    store: Annotated[
        str | None,
        typer.Argument(
            metavar="[STORE]",
            show_default=False,
            help="What 'collect --what contributions' wrote, to explore what is there already.",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            show_default=False,
            help="Folder of images, with its subfolders; drawn scenes if not given. With STORE the data set that was "
            "collected, for its pictures.",
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", show_default=False, help="What pictures are compared with at first; again for more."),
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option("--groups", metavar="FILE", show_default=False, help=f"For the cue of heads: {GROUPS_HELP}"),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=2, metavar="N", help=f"Most images; {N_SCENES} scenes or {MOST_PHOTOGRAPHS} photographs if not given."
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", show_default=False, help="Port of this machine; a free one if not given."),
    ] = None,
    at: Annotated[
        str,
        typer.Option(
            "--at",
            metavar="LINK",
            show_default=False,
            help="Open a page as it was: what its link says after the question mark, such as "
            "'tab=search&image=3&head=L5H3'.",
        ),
    ] = "",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, and open no page.")] = False,
) -> None:
    """Opens the explorer in the browser: pictures and texts, decisions, parts switched off, search by a head.

    Without arguments: the embedded model on drawn scenes, offline. It answers this machine alone, at an address with a
    token, until Ctrl-C.
    """
    console = Console(stderr=True, highlight=False)
    with one_line_ends(console, lambda notes: "the explorer ended"):
        given = store or images
        check_source(None if given is None else str(given))
        with starting(console):
            from clip_lens_plugin.app.pages import PAGES
            from clip_lens_plugin.app.server.serve import refuse_without_gradio
            from clip_lens_plugin.app.state import state_of_link
            from clip_lens_plugin.cli.given.chosen import ChosenModel
            from clip_lens_plugin.cli.given.stores import plan_with_rows
            from clip_lens_plugin.collection.store import ContributionStore
        refuse_without_gradio()
        if groups is None and asked != GroupsChoice():
            raise ValueError("Options of classes and cues are for --groups FILE, which is not there.")
        query = state_of_link(at, tuple(PAGES)).query()
        plan = None if store is None else plan_with_rows(store, limit, "Explore")
        chosen = ChosenModel.of(choice, None, plan, store or "")
        source, named = (None, "") if store is not None else _source(images, limit)
        with console.status("loading the model"):
            loaded = chosen.load(console)
        given_groups = None if groups is None else (groups, asked)
        if store is not None:
            rows = ContributionStore.open(store, loaded)
            spelled = _spelled(loaded, f"data = ContributionStore.open({store!r}, model)", rows, images)
            _explored(console, loaded, rows, spelled, given_groups, text, images, port, query, not no_browser)
            return
        assert source is not None
        if groups is not None:
            asked.check(groups, loaded, [source.name(at) for at in range(len(source))])
        with tempfile.TemporaryDirectory(prefix="clip-lens-explore-") as folder:
            from clip_lens_plugin.cli.given.stores import workers_for
            from clip_lens_plugin.collection.running.collecting import collect

            rows = collect(loaded, source, folder, "contributions", dtype="float32", workers=workers_for(loaded))
            opening = f"images = {named}\ndata = collect(model, images, 'collected', 'contributions')"
            spelled = _spelled(loaded, opening, rows, images)
            _explored(console, loaded, rows, spelled, given_groups, text, source, port, query, not no_browser)


def _source(images: Path | None, limit: int | None) -> tuple[Any, str]:
    """The data set, and how a script says it."""
    from clip_lens_plugin.datasets.choose import as_source
    from clip_lens_plugin.datasets.folder import FolderSource
    from clip_lens_plugin.scenes.dataset import ScenesDataset

    if images is None:
        n = limit or N_SCENES
        return as_source(ScenesDataset(n, SCENES_SEED, ATTRIBUTE)), f"ScenesDataset({n}, {SCENES_SEED}, {ATTRIBUTE!r})"
    return FolderSource(images, limit or MOST_PHOTOGRAPHS), repr(str(images.resolve()))


def _spelled(model: HookedCLIP, data: str, rows: ContributionStore, images: Path | None) -> Spelled:
    """How a script gets the model, the data that the lines make, and a picture.

    Args:
        images: the folder of the pictures; None for drawn scenes, and where it was not said.
    """
    from clip_lens_plugin.app.explored import Spelled

    recipe = None if model.origin is None else model.origin.recipe
    said = {} if recipe is None else recipe.said()
    arguments = ", ".join([repr(said.pop("name", "scenes")), *(f"{name}={value!r}" for name, value in said.items())])
    opening = f"""from clip_lens_plugin import ContributionStore, HookedCLIP, collect
from clip_lens_plugin.scenes import ScenesDataset

model = HookedCLIP.from_pretrained({arguments})
{data}"""

    def picture(row: int) -> str:
        if images is not None:
            return repr(str(images.resolve() / rows.names[row]))
        return (
            f"images[{int(rows.positions[row])}][0]" if "ScenesDataset(" in data else f"PICTURE  # {rows.names[row]!r}"
        )

    return Spelled(opening, picture)


def _explored(
    console: Console,
    model: HookedCLIP,
    rows: Any,
    spelled: Spelled,
    groups: tuple[Path, GroupsChoice] | None,
    text: list[str] | None,
    pictures: Any,
    port: int | None,
    query: str,
    browser: bool,
) -> None:
    from clip_lens_plugin.app.exploring import serve_data

    effects = None
    if groups is not None:
        path, asked = groups
        with console.status("comparing groups"):
            effects, lines = asked.effects(path, model, rows)
        spelled = replace(spelled, effects=lines)
    with console.status("starting the explorer"):
        server = serve_data(model, rows, spelled, texts=text, pictures=pictures, groups=effects, port=port)
    typer.echo(server.page(query))
    say(console, "The explorer answers this machine alone; Ctrl-C ends it.")
    if browser:
        server.open(query)
    server.wait()
