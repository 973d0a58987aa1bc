"""What a model's folder may not bring with it: programs of its own, and the names of files elsewhere.

Settings are read here as plain JSON, before any library acts on them. What would make one run code that came with the
model, or ask on the terminal whether to, is refused by name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import transformers
from transformers.utils.hub import cached_file

from clip_lens_plugin.model.loading.errors import ModelNotFoundError, first_line

CODE = "trust_remote_code"
CODE_KEYS = ("auto_map", "custom_pipeline", "custom_pipelines", CODE, "use_kernels")
KERNELS = "_implementation"
"""End of keys whose value can name code of the hub, "owner/name"."""

CONFIG, TOKENIZER, WEIGHTS_INDEX = "config.json", "tokenizer_config.json", "model.safetensors.index.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
CLEANING = ("clean", "strip_sep_token", "language")
"""What an open_clip config may say about a Hugging Face tokenizer: how texts are cleaned before it."""

SIMPLE = ("clean", "context_length", "additional_special_tokens", "reduction_mask")
"""What it may say about open_clip's own."""

ENDS = ("Tokenizer", "Backend", "ImageProcessor")
"""Ends of the names of transformers' own tokenizers and image processors."""

READ = (".json", ".safetensors", ".bin", ".pth", ".pt", ".txt", ".model")
"""Ends of the names of files in a model's folder that are read."""


def json_of(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ModelNotFoundError: if it is none, is not UTF-8, or is nested without end.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ModelNotFoundError(
            f"{path} could not be loaded: it is nested more deeply than JSON of a model is."
        ) from error
    except ValueError as error:  # UnicodeDecodeError is one.
        raise ModelNotFoundError(
            f"{path} could not be loaded: it is no JSON in UTF-8 ({first_line(error)})."
        ) from error


def settings_of(source: str | Path, file: str) -> dict[str, Any]:
    """What a file of settings says, {} where the model has none or it is out of reach.

    Args:
        source: a folder, or "owner/name" of the hub.
        file: its name.

    Raises:
        ModelNotFoundError: if it holds anything else than a JSON object.
    """
    try:
        path = cached_file(
            os.fspath(source),
            file,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
        )
    except (OSError, ValueError):  # No such model: whoever loads it says so.
        return {}
    held = {} if path is None else json_of(Path(path))
    if not isinstance(held, dict):
        raise ModelNotFoundError(f"{path} holds a {type(held).__name__}, expected a JSON object.")
    return held


def refuse_code(what: str, settings: Any, mend: str) -> None:
    """Refuses settings that ask for code which comes with the model, however deep inside.

    Args:
        what: has these settings, which the message begins with.
        settings: JSON.
        mend: a sentence on what to give instead.

    Raises:
        ModelNotFoundError: that names the key.
    """
    for key, value in _entries(settings):
        kernel = key.endswith(KERNELS) and isinstance(value, str) and "/" in value
        if (key in CODE_KEYS and value) or kernel:
            raise ModelNotFoundError(
                f"{what} asks for code that comes with it to be run ({key}), which is never done. {mend}"
            )


def refuse_model_code(source: str) -> None:
    """Refuses a Hugging Face model whose config asks for code, or whose list of weights leads out of its folder.

    Raises:
        ModelNotFoundError: that names what.
    """
    mend = "Only the classes of transformers itself are supported: give a folder that their save_pretrained wrote."
    refuse_code(f"{CONFIG} of {source}", settings_of(source, CONFIG), mend)
    listed = settings_of(source, WEIGHTS_INDEX).get("weight_map", {})
    for file in set(map(str, listed.values() if isinstance(listed, dict) else [])):
        if not _is_beside(file):
            raise ModelNotFoundError(f"{WEIGHTS_INDEX} of {source} names {file!r}, which is not a file beside it.")


def refuse_processor_code(source: str) -> None:
    """Refuses an image processor that asks for code, or whose class is not one of transformers.

    Raises:
        ModelNotFoundError: that names what.
    """
    mend = "Give image_mean, image_std, image_interpolation and image_resize_mode, and it is not read."
    for file in PROCESSORS:
        settings = settings_of(source, file)
        refuse_code(f"{file} of {source}", settings, mend)
        inner = settings.get("image_processor")
        for each in (settings, inner if isinstance(inner, dict) else {}):
            _refuse_class(f"{file} of {source}", "image_processor_type", each, transformers.ImageProcessingMixin, mend)


def refuse_tokenizer_code(source: str | Path, name: str, mend: str) -> None:
    """Refuses a Hugging Face tokenizer that asks for code, or whose class is not one of transformers.

    Args:
        source: where it lies.
        name: of the model, as shown.
        mend: a sentence on what to give instead.

    Raises:
        ModelNotFoundError: that names what.
    """
    for file in (TOKENIZER, CONFIG):
        settings = settings_of(source, file)
        what = f"The tokenizer of {name}, in {file} of {source},"
        refuse_code(what, settings, mend)
        _refuse_class(what, "tokenizer_class", settings, transformers.PreTrainedTokenizerBase, mend)
        for key, value in settings.items():
            if key.endswith("_file") and isinstance(value, str) and not _is_beside(value):
                raise ModelNotFoundError(f"{what} names {key} {value!r}, which is not a file beside it. {mend}")


def refuse_config(config: dict[str, Any], title: str) -> None:
    """Refuses an open_clip config that asks for code or names a model that lies elsewhere on this machine.

    Args:
        config: with vision_cfg and text_cfg.
        title: of the model.

    Raises:
        ModelNotFoundError: that names what.
    """
    mend = "Give a config without it."
    tower = config["vision_cfg"].get("timm_model_name")
    if tower is not None and (not isinstance(tower, str) or ":" in tower or "/" in tower):
        raise ModelNotFoundError(f"The config of {title} asks timm for {tower!r}, expected one of its names. {mend}")
    # What it says about the tokenizer is judged where texts are first used: images need none.
    rest = {**config, "text_cfg": {key: each for key, each in config["text_cfg"].items() if key != "tokenizer_kwargs"}}
    refuse_code(f"The config of {title}", rest, mend)
    text = config["text_cfg"].get("hf_model_name")
    if not text:
        return
    if not isinstance(text, str) or not _is_hub_name(text):
        raise ModelNotFoundError(f"The config of {title} takes its text tower from {text!r}, no name of the hub.")
    refuse_code(f"The text tower of {title}, {text},", settings_of(text, CONFIG), mend)


def refuse_hub_path(name: str, title: str, mend: str) -> None:
    """Raises ModelNotFoundError if what should be a tokenizer's name on the hub is a path."""
    if not _is_hub_name(name):
        raise ModelNotFoundError(f"The config of {title} takes its tokenizer from {name!r}, no name of the hub. {mend}")


def tokenizer_settings(text_cfg: dict[str, Any], name: str, mend: str) -> dict[str, Any]:
    """The tokenizer's settings in the config of an open_clip model, only those that are known to be harmless.

    Args:
        text_cfg: of the config.
        name: of the model.
        mend: a sentence on what to give instead.

    Raises:
        ModelNotFoundError: if it asks for code, or for anything else.
    """
    said, wanted = text_cfg.get("tokenizer_kwargs", {}), text_cfg.get("hf_tokenizer_name") or ""
    if not isinstance(said, dict) or not isinstance(wanted, str):
        raise ModelNotFoundError(f"The config of {name} says nothing that can be read about its tokenizer. {mend}")
    refuse_code(f"The tokenizer of {name}", said, mend)
    known = CLEANING if wanted else SIMPLE
    others = [key for key in said if key not in (*known, CODE)]
    if others:
        raise ModelNotFoundError(
            f"The config of {name} sets {', '.join(map(repr, others))} of its tokenizer; known are {', '.join(known)}. "
            f"{mend}"
        )
    return {key: value for key, value in said.items() if key != CODE}


def links_out(folder: Path) -> str | None:
    """A sentence that names the files of a folder that lie elsewhere, by symbolic links; None where none does.

    Those of the hub's cache, where each file is a link to where the cache keeps it, lie inside it.
    """
    inside = folder.resolve()
    if inside.parent.name == "snapshots":
        inside = inside.parent.parent
    out = [
        f"{path.name} (to {path.resolve()})"
        for path in sorted(folder.iterdir())
        if path.suffix in READ and path.is_symlink() and not path.resolve().is_relative_to(inside)
    ]
    return f"{folder} holds symbolic links that lead out of it, which were followed: {', '.join(out)}." if out else None


def _entries(settings: Any) -> Iterator[tuple[str, Any]]:
    """Every key and its value, however deep inside."""
    waiting = [settings]
    while waiting:
        held = waiting.pop()
        if isinstance(held, dict):
            yield from ((str(key), value) for key, value in held.items())
            waiting.extend(held.values())
        elif isinstance(held, list):
            waiting.extend(held)


def _refuse_class(what: str, key: str, settings: dict[str, Any], base: type, mend: str) -> None:
    """Refuses a class that transformers does not have, in whose place it would take another."""
    name = settings.get(key)
    if name is None:
        return
    plain = str(name).removesuffix("Fast")
    # By the end of their names first, since asking transformers for a class imports its module.
    found = (getattr(transformers, each, None) for each in (plain, f"{plain}Fast") if plain.endswith(ENDS))
    if not any(isinstance(each, type) and issubclass(each, base) for each in found):
        raise ModelNotFoundError(f"{what} has a class of its own, {name!r}, which transformers does not have. {mend}")


def _is_beside(file: str) -> bool:
    """Whether it is the plain name of a file."""
    return file == Path(file).name and file not in ("", ".", "..") and "\\" not in file


def _is_hub_name(name: str) -> bool:
    """Whether it can be a name or "owner/name" of the hub, and no path."""
    parts = name.split("/")
    return len(parts) <= 2 and all(_is_beside(part) and not part.startswith(("~", ".")) for part in parts)
