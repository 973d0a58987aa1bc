"""The command ``clip-lens``, one file per subcommand."""

from __future__ import annotations

from typing import Annotated

import typer

from clip_lens_plugin import __version__
from clip_lens_plugin.cli.commands import (
    ablate,
    collect,
    explore,
    groups,
    models,
    neurons,
    report,
    roles,
    segment,
    textspan,
    verify,
)
from clip_lens_plugin.cli.commands.images import explain, heatmap, words
from clip_lens_plugin.scenes.seeds import SCENES_SEED as SCENES_SEED

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Takes CLIP image encoders apart.",
)


def _show_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"clip-lens {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def main(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Takes CLIP image encoders apart: heads, tokens, MLPs and constants that sum to the embedding."""


for command in (
    report.report,
    collect.collect,
    textspan.textspan,
    ablate.ablate,
    heatmap.heatmap,
    explain.explain,
    words.words,
    neurons.neurons,
    roles.roles,
    segment.segment,
    groups.groups,
    explore.explore,
    verify.verify,
    models.models,
):
    app.command()(command)
