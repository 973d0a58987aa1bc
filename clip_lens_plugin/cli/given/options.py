"""Options that several commands share, and the checks that need no model."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Literal

import typer

from clip_lens_plugin.files.whole import make_folder

Precision = Literal["float32", "bfloat16", "float16"]
Format = Literal["png", "svg", "pdf"]

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        show_default=False,
        help="'scenes', an open_clip model name, local-dir:FOLDER or hf-hub:OWNER/NAME, or in Hugging Face's format "
        "transformers:FOLDER or transformers:OWNER/NAME; a store's own, or scenes, if not given.",
    ),
]
PretrainedOption = Annotated[
    str | None, typer.Option("--pretrained", help="Tag of the model's weights, or a checkpoint.")
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device", help="cpu, cuda, cuda:1, mps or xpu, or another of torch's; cuda where there is one, else cpu."
    ),
]
PrecisionOption = Annotated[
    Precision | None,
    typer.Option(
        "--precision",
        metavar="DTYPE",
        show_default=False,
        help="float32, bfloat16 or float16, that the model is loaded in; that of a store's own, or float32, if "
        "not given.",
    ),
]
AttributeOption = Annotated[
    str | None,
    typer.Option(
        "--attribute", help="What drawn scenes are labelled with, for example colour; background if not given."
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option("--limit", min=1, metavar="N", help="Most samples of the data set, evenly spaced; all if not given."),
]
LabelsOption = Annotated[
    str | None,
    typer.Option(
        "--labels",
        metavar="FILE",
        show_default=False,
        help="Labels by name in the place of the data set's own: CSV, TSV or text with a name and a label on each line "
        "or one label per line for the sorted names; for ImageNet's flat validation folder its devkit (folder or "
        "tar.gz).",
    ),
]
LabelColumnOption = Annotated[
    str | None,
    typer.Option(
        "--label-column",
        metavar="NAME",
        show_default=False,
        help="Column of --labels, or of shards the members' suffix or key of .json, that holds the labels.",
    ),
]
LabelOrderOption = Annotated[
    Literal["imagenet"] | None,
    typer.Option(
        "--label-order", show_default=False, help="The whole numbers in --labels are positions in ImageNet's classes."
    ),
]
AGAIN = "run the same command again to go on"
"""For commands that go on with a store by themselves."""

ChosenOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        show_default=False,
        help="Folder for what is written; a new one here, named after SOURCE, if not given.",
    ),
]

ResultOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        show_default=False,
        help=".html for a page; .png, .svg or .pdf for a figure; .csv or .parquet for the table; a new page here, "
        "named after the store, if not given.",
    ),
]

FormatOption = Annotated[Format, typer.Option("--format", help="Format of the figure.")]
SourceArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[SOURCE]",
        show_default=False,
        help="What 'collect' wrote (a folder or an address), or a data set, which is collected into OUT/collected "
        "first; drawn scenes if not given.",
    ),
]


def refuse_address(name: str, path: Path) -> None:
    """Raises ValueError if an address was given for a path: "file:///results" would become a folder named "file:"."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        raise ValueError(f"{name} {path} is an address, expected a path on this machine.")


@contextmanager
def out_folder(out: Path) -> Iterator[None]:
    """Makes the folder, and at the end removes what it made of it that nothing was written into.

    Raises:
        ValueError: if it is a file or an address.
        OSError: if it cannot be written to.
    """
    refuse_address("--out", out)
    if os.path.exists(out) and not out.is_dir():
        raise ValueError(f"--out {out} is a file, expected a folder.")
    made = [each for each in (out, *out.parents) if not os.path.exists(each)]
    try:
        make_folder(out)
        if not os.access(out, os.W_OK):
            raise PermissionError(f"--out {out} may not be written to.")
        yield
    finally:
        for each in made:
            with suppress(OSError):  # It is not empty, or could not be made.
                each.rmdir()


def check_source(source: str | None) -> None:
    """Raises FileNotFoundError if a folder is not there, before anything is imported that reads one."""
    # Addresses and names of shards are for those who read them.
    if source is not None and not re.search(r"://|\.tar$|\{", source) and not os.path.lexists(source):
        raise FileNotFoundError(f"There is no folder {source}.")


def check_device(device: str | None) -> None:
    """Raises ValueError if torch cannot use it."""
    if device is not None:
        from clip_lens_plugin.arguments import checked_device

        checked_device(device)
