"""How a model was loaded, so that it can be loaded again: the arguments of ``HookedCLIP.from_pretrained``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import open_clip

from clip_lens_plugin.hints import hint, typed
from clip_lens_plugin.model.loading.options import Options, Said
from clip_lens_plugin.scenes.embedded import EMBEDDED

FOLDERS = ("local-dir:", "transformers:")
"""What stands before a folder in a model's name; after the second a name of the hub may stand too."""

PATH = "PATH"
"""Stands in the place of a file whose path is not known."""


@dataclass(frozen=True)
class Recipe(Said):
    """Arguments of ``HookedCLIP.from_pretrained``; None where nothing was said. Paths are absolute.

    Attributes:
        name: of the model.
        pretrained: tag of its weights.
        checkpoint: file with the weights.
        tokenizer: folder of a Hugging Face tokenizer.
    """

    name: str
    pretrained: str | None = None
    checkpoint: str | None = None
    tokenizer: str | None = None

    @classmethod
    def of(cls, name: str, tag: str | None, file: Path | None, options: Options) -> Recipe | None:
        """The recipe of a model that was loaded so; None with a function for a tokenizer, which cannot be written down.

        Args:
            name: as given.
            tag: of its weights.
            file: with them.
            options: the rest.
        """
        if options.tokenizer is not None and not isinstance(options.tokenizer, Path):
            return None
        said = {each.name: getattr(options, each.name) for each in fields(Said)}
        folder = None if options.tokenizer is None else _absolute(options.tokenizer)
        return cls(_named(name), tag, None if file is None else _absolute(file), folder, **said)

    @classmethod
    def from_json(cls, values: Any) -> Recipe:
        """Reads what :meth:`to_json` wrote.

        Raises:
            ValueError: if it is none; what a value means is checked where the model is loaded.
        """
        if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
            raise ValueError(f"it does not say how its model was loaded, got {values!r:.80}")
        unknown = set(values) - {each.name for each in fields(cls)}
        if unknown:
            raise ValueError(f"its model was loaded with an argument that is not known here, {min(unknown)!r}")
        kept: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        for name in ("pretrained", "checkpoint", "tokenizer"):
            if not isinstance(kept.get(name), str | None):
                raise ValueError(f"its model's {name} is no text, got {kept[name]!r:.80}")
        return cls(**kept)

    def to_json(self) -> dict[str, Any]:
        """What was said, as JSON's types."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.said().items()}

    def said(self) -> dict[str, Any]:
        """The arguments that were given."""
        # In this order they were written down before, and plans are compared byte by byte.
        names = ("name", "pretrained", "checkpoint", *(each.name for each in fields(Said)), "tokenizer")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def checked(self) -> Options:
        """All but the name and the tag, as it is loaded by.

        Raises:
            ModelNotFoundError: if there is no such checkpoint or folder of a tokenizer.
            ValueError: if a value is none.
        """
        return Options.checked(
            **{name: each for name, each in self.said().items() if name not in ("name", "pretrained")}
        )

    def without_path(self) -> Recipe:
        """The same with :data:`PATH` where a file, or the folder of the model, would stand."""
        prefix = next((each for each in FOLDERS if self.name.startswith(each)), None)
        if prefix is not None and os.path.isabs(self.name.removeprefix(prefix)):
            return replace(self, name=f"{prefix}FOLDER")
        return self if self.checkpoint is None else replace(self, checkpoint=PATH)

    def __str__(self) -> str:
        """The call in Python, or the options on the command line."""
        return hint(self.call(), self.options())

    def call(self) -> str:
        """The call as one writes it in Python."""
        said = self.said()
        given = [repr(said.pop("name")), *([repr(said.pop("pretrained"))] if "pretrained" in said else [])]
        return f"HookedCLIP.from_pretrained({', '.join([*given, *(f'{name}={said[name]!r}' for name in said)])})"

    def options(self) -> str:
        """The options as one types them on the command line."""
        said = self.said()
        return typed(*(word for name, value in said.items() for word in _OPTION.get(name, _one)(name, value)))


def recipe_of_title(title: str) -> Recipe | None:
    """What a model's title says of how it was loaded, :data:`PATH` for a file; None if it says nothing.

    Args:
        title: "scenes", "hf-hub:OWNER/REPOSITORY", or a name, a tag and the name of a file, of which one may lack.
    """
    name, *rest = title.split(" ")
    if name in EMBEDDED or name.startswith("hf-hub:"):
        return Recipe(name, checkpoint=PATH if rest else None)
    if name.replace("/", "-") not in open_clip.list_models():
        return None
    tag = rest.pop(0) if rest and open_clip.get_pretrained_cfg(name.replace("/", "-"), rest[0]) else None
    return Recipe(name, tag, PATH if rest else None) if tag or rest else None


def _named(name: str) -> str:
    """The name, with its folder as an absolute path."""
    for prefix in FOLDERS:
        folder = Path(name.removeprefix(prefix)).expanduser()
        if name.startswith(prefix) and folder.is_dir():
            return prefix + _absolute(folder)
    return name


def _absolute(path: Path) -> str:
    return os.path.abspath(path.expanduser())


def _one(name: str, value: Any) -> list[str]:
    return [f"--{name.replace('_', '-')}", str(value)]


def _channels(name: str, value: tuple[float, ...]) -> list[str]:
    return [f"--{name.replace('_', '-')}", *map(str, value)]


_OPTION: dict[str, Callable[[str, Any], list[str]]] = {
    "name": lambda _, value: ["--model", value],
    "force_quick_gelu": lambda _, value: ["--force-quick-gelu"] if value else [],
    "force_image_size": lambda name, value: _one(name, "x".join(map(str, value))),
    "image_mean": _channels,
    "image_std": _channels,
}
"""Options that are not typed as a name and a value."""
