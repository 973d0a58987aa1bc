"""What a model's name and tag mean: where its config, its settings and its weights come from."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
from open_clip import factory

from clip_lens_plugin.adapters.of_config import refuse_unsupported
from clip_lens_plugin.dependencies.of_open_clip import checkpoint_in
from clip_lens_plugin.hints import given_as, hint
from clip_lens_plugin.model.loading.errors import ModelNotFoundError, quiet
from clip_lens_plugin.model.loading.foreign import json_of, links_out
from clip_lens_plugin.model.loading.options import Options
from clip_lens_plugin.model.loading.settings import Settings, file_settings, tag_settings
from clip_lens_plugin.scenes.embedded import EMBEDDED

SCENES_FOLDER = EMBEDDED["scenes"]
"""The folder of the embedded model: its config, weights and tokenizer."""

MOST_TAGS = 5
"""Tags that a message names at most."""

WEIGHTS = ("*.safetensors", "*.bin", "*.pth")
"""Files of an open_clip folder that are looked at."""


@dataclass(frozen=True)
class Named:
    """A model of open_clip as it was asked for.

    Attributes:
        name: as given.
        title: as shown.
        source: what open_clip's factory and tokenizers are asked for.
        find_config: gives what the factory builds from, a name of its list or a folder with a config.
        find_weights: gives the file; both may need the network.
        tag: of its weights, None where a file alone was given or the name brings its own.
        file: that the user gave.
        settings: activation and preprocessing; None where the config itself says them.
        doubt: sentences on what could not be known of a file.
        choice: sentences on the file that was chosen in a folder, where another could have been meant, and on links
            that lead out of it.
    """

    name: str
    title: str
    source: str
    find_weights: Callable[[], Path] = field(repr=False)
    find_config: Callable[[], str] = field(repr=False)
    tag: str | None = None
    file: Path | None = None
    settings: Settings | None = None
    doubt: str | None = None
    choice: str | None = None


def named(name: str, pretrained: str | Path | None, options: Options) -> Named:
    """What is meant.

    Raises:
        ModelNotFoundError: for an unknown name, tag or file; the nearest are suggested.
        UnsupportedTowerError: for a model of open_clip's list that is not supported, whatever its weights.
    """
    if name in EMBEDDED:
        refuse_tag(name, pretrained)
        return _folder(name, name, EMBEDDED[name], options)
    if name.startswith("local-dir:"):
        refuse_tag(name, pretrained)
        folder = Path(name.removeprefix("local-dir:"))
        return _folder(name, folder.name, folder, options)
    if name.startswith("hf-hub:"):
        refuse_tag(name, pretrained)
        return _hub(name, options)
    return _listed(name, pretrained, options)


def refuse_tag(name: str, pretrained: str | Path | None) -> None:
    """Raises ModelNotFoundError if a tag is given for a model that brings its weights."""
    if pretrained is not None:
        raise ModelNotFoundError(
            f"{name!r} brings its own weights and has no tags, got {str(pretrained)!r}. Other weights of the same "
            f"architecture are given as {hint('checkpoint=PATH', '--checkpoint PATH')}."
        )


def _title(name: str, options: Options) -> str:
    return name if options.checkpoint is None else f"{name} {options.checkpoint.name}"


def _folder(name: str, title: str, folder: Path, options: Options) -> Named:
    if not (folder / "open_clip_config.json").is_file():
        raise ModelNotFoundError(f"{folder} has no open_clip_config.json; it is not an open_clip model.")
    chosen, choice = options.checkpoint, None
    if chosen is None:
        found = [path for kind in WEIGHTS for path in folder.glob(kind)]
        if not found:
            raise ModelNotFoundError(f"{folder} has a config but no weights (*.safetensors, *.bin, *.pth).")
        chosen = checkpoint_in(folder)
        # Files of one stem are the same weights in two formats.
        if len({path.stem for path in found}) > 1 and chosen.stem not in _COMMON:
            others = ", ".join(sorted(path.name for path in found if path != chosen))
            choice = f"{folder} holds several files of weights: {chosen.name} was read, not {others}."
    choice = " ".join(each for each in (choice, links_out(folder)) if each) or None
    source = f"local-dir:{folder}"
    weights = chosen
    return Named(
        name,
        _title(title, options),
        source,
        find_weights=lambda: weights,
        find_config=lambda: source,
        file=options.checkpoint,
        choice=choice,
    )


_COMMON = {"open_clip_model", "open_clip_pytorch_model", "model", "pytorch_model"}
"""Names that open_clip's own export gives, which it prefers."""


def _hub(name: str, options: Options) -> Named:
    repository = name.removeprefix("hf-hub:")

    def config() -> str:
        path = Path(factory.download_pretrained_from_hf(repository, filename="open_clip_config.json"))
        return f"local-dir:{path.parent}"

    def weights() -> Path:
        return options.checkpoint or Path(factory.download_pretrained_from_hf(repository))

    return Named(name, _title(name, options), name, find_weights=weights, find_config=config, file=options.checkpoint)


def _listed(name: str, pretrained: str | Path | None, options: Options) -> Named:
    known = open_clip.list_models()
    cleaned = name.replace("/", "-")
    if cleaned not in known:
        raise ModelNotFoundError(
            f"Unknown model {name!r}.{_nearest(cleaned, [*known, *EMBEDDED])} All names: "
            f"{hint('open_clip.list_models()', 'clip-lens models')}, and 'scenes' for the embedded model."
        )
    with quiet():  # Before anything is said of weights, which would be fetched for nothing.
        refuse_unsupported(name, config_of(cleaned))
    tags = open_clip.list_pretrained_tags_by_model(cleaned)
    tag, file = _tag_and_file(name, pretrained, options, tags, cleaned)
    if tag is None:
        assert file is not None
        settings, doubt = file_settings(cleaned, options)
    else:
        settings, doubt = tag_settings(cleaned, tag), None

    def weights() -> Path:
        return file or Path(factory.download_pretrained(open_clip.get_pretrained_cfg(cleaned, str(tag))))

    parts = [name, *([str(pretrained)] if tag is not None else []), *([file.name] if file is not None else [])]
    return Named(
        name,
        " ".join(parts),
        cleaned,
        find_weights=weights,
        find_config=lambda: cleaned,
        tag=tag,
        file=file,
        settings=settings,
        doubt=doubt,
    )


def _tag_and_file(
    name: str, pretrained: str | Path | None, options: Options, tags: list[str], cleaned: str
) -> tuple[str | None, Path | None]:
    if pretrained is None:
        if options.checkpoint is not None:
            return None, options.checkpoint
        random = f" To wrap random weights, use HookedCLIP.from_open_clip(open_clip.create_model({name!r}))."
        raise ModelNotFoundError(
            f"{name} needs pretrained weights: {given_as('pretrained')} with one of its tags, or "
            f"{given_as('checkpoint')} with the path of a checkpoint. {_some(cleaned, tags, [])}{hint(random, '')}"
        )
    if isinstance(pretrained, str) and open_clip.get_pretrained_cfg(cleaned, pretrained):
        return pretrained, options.checkpoint
    path = Path(pretrained).expanduser()
    if not path.exists():
        raise ModelNotFoundError(
            f"{name} has no pretrained tag {str(pretrained)!r}, and there is no such file."
            f"{_nearest(str(pretrained), tags)} {_some(cleaned, tags, _near(str(pretrained), tags))}"
        )
    if options.checkpoint is not None:
        raise ModelNotFoundError(
            f"Two files are given, {given_as('pretrained')} {pretrained} and {given_as('checkpoint')} "
            f"{options.checkpoint}. Beside a checkpoint, {given_as('pretrained')} is the tag that it descends from."
        )
    return None, path


def _some(name: str, tags: list[str], near: list[str]) -> str:
    """A sentence with a few of a model's tags, the near ones first, and where the others are."""
    if not tags:
        return "It has no tags."
    first = list(dict.fromkeys([*near, *tags]))[:MOST_TAGS]
    shown = ", ".join(map(repr, first))
    every = hint(f"open_clip.list_pretrained_tags_by_model({name!r})", f"clip-lens models {name}")
    return (
        f"Its tags: {shown}."
        if len(tags) == len(first)
        else f"{len(first)} of its {len(tags)} tags: {shown}; all: {every}."
    )


def _near(given: str, known: list[str]) -> list[str]:
    lowered = {name.lower(): name for name in known}
    return [lowered[name] for name in difflib.get_close_matches(given.lower(), lowered, n=3, cutoff=0.5)]


def _nearest(given: str, known: list[str]) -> str:
    near = _near(given, known)
    return f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""


def config_of(source: str) -> dict[str, Any]:
    """The architecture's config: of open_clip's list, or of a folder.

    Raises:
        ValueError: if the folder's is none.
    """
    if not source.startswith("local-dir:"):
        return open_clip.get_model_config(source) or {}
    path = Path(source.removeprefix("local-dir:")) / "open_clip_config.json"
    held = json_of(path)
    config = held.get("model_cfg") if isinstance(held, dict) else None
    if not isinstance(config, dict) or not all(
        isinstance(config.get(part), dict) for part in ("vision_cfg", "text_cfg")
    ):
        raise ValueError(f"{path} holds no model_cfg with vision_cfg and text_cfg")
    return config


def source_config(name: str) -> dict[str, Any]:
    """The architecture's config of a model that was loaded by this name.

    Raises:
        ModelNotFoundError: if its folder is gone or it is out of reach.
        ValueError: if the folder's is none.
    """
    if name in EMBEDDED or name.startswith(("local-dir:", "hf-hub:")):
        return config_of(named(name, None, Options()).find_config())
    return config_of(name.replace("/", "-"))
