"""Loads open_clip models, and turns what can go wrong into one message that says what to do."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import open_clip
import torch
from torch import Tensor, nn

SCENES_FOLDER = Path(__file__).parent / "scenes" / "weights"
_PRECISIONS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


class ModelNotFoundError(ValueError):
    """No such model, tag or checkpoint, or its weights cannot be had."""


def load(
    name: str,
    pretrained: str | None,
    device: str | torch.device | None,
    dtype: torch.dtype | None,
) -> tuple[nn.Module, Callable[..., Tensor] | None, Callable[[list[str]], Tensor] | None, str]:
    """The model, its evaluation preprocessing, its tokenizer and its name; see ``HookedCLIP.from_pretrained``."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or torch.float32
    if dtype not in (*_PRECISIONS, torch.float64):
        known = [str(known) for known in (*_PRECISIONS, torch.float64)]
        raise ValueError(f"dtype must be one of {known}, got {dtype}.")
    torch.empty(0, device=device)  # A device that is not there is refused here, in torch's own words.
    if not name.startswith("transformers:"):
        return _load_open_clip(name, pretrained, device, dtype)
    from clip_lens_plugin.loading_transformers import load_transformers

    _refuse_tag(name, pretrained)
    return load_transformers(name.removeprefix("transformers:"), device, dtype)


def _load_open_clip(
    name: str, pretrained: str | None, device: str | torch.device, dtype: torch.dtype
) -> tuple[nn.Module, Callable[..., Tensor], Callable[[list[str]], Tensor], str]:
    source, tag, title = _resolve(name, pretrained)
    with quiet():
        try:
            # Without require_pretrained, weights that open_clip cannot find leave random ones and a log line.
            clip, _, preprocess = open_clip.create_model_and_transforms(
                source,
                pretrained=tag,
                precision=_PRECISIONS.get(dtype, "fp32"),
                device=device,
                require_pretrained=True,
            )
            tokenizer = _tokenizer(name, source)
        except Exception as error:
            raise ModelNotFoundError(_explain(name, pretrained, error)) from error
    if dtype is torch.float64:
        clip = clip.double()
    return clip, cast(Callable[..., Tensor], preprocess), tokenizer, title


def _resolve(name: str, pretrained: str | None) -> tuple[str, str | None, str]:
    """What open_clip's factory is asked for, and the name that is shown."""
    if name == "scenes":
        _refuse_tag(name, pretrained)
        return f"local-dir:{SCENES_FOLDER}", None, "scenes"
    if name.startswith("local-dir:"):
        _refuse_tag(name, pretrained)
        folder = Path(name.removeprefix("local-dir:"))
        if not (folder / "open_clip_config.json").is_file():
            raise ModelNotFoundError(f"{folder} has no open_clip_config.json; it is not an open_clip model.")
        if not [path for kind in ("*.safetensors", "*.bin", "*.pth") for path in folder.glob(kind)]:
            raise ModelNotFoundError(f"{folder} has a config but no weights (*.safetensors, *.bin, *.pth).")
        return name, None, folder.name
    if name.startswith("hf-hub:"):
        _refuse_tag(name, pretrained)
        return name, None, name
    known = open_clip.list_models()
    cleaned = name.replace("/", "-")
    if cleaned not in known:
        raise ModelNotFoundError(
            f"Unknown model {name!r}.{_nearest(cleaned, [*known, 'scenes'])} All names: open_clip.list_models(), "
            f"and 'scenes' for the embedded model."
        )
    tags = open_clip.list_pretrained_tags_by_model(cleaned)
    if pretrained is None:
        raise ModelNotFoundError(
            f"{name} needs pretrained weights: one of its tags {tags} or the path of a checkpoint. To wrap random "
            f"weights, use HookedCLIP.from_open_clip(open_clip.create_model({name!r}))."
        )
    if pretrained.lower().replace("-", "_") not in tags and pretrained not in tags:
        if not Path(pretrained).is_file():
            raise ModelNotFoundError(
                f"{name} has no pretrained tag {pretrained!r}, and there is no such file."
                f"{_nearest(pretrained, tags)} Its tags: {tags}."
            )
        return cleaned, pretrained, f"{name} {Path(pretrained).name}"
    return cleaned, pretrained, f"{name} {pretrained}"


def _refuse_tag(name: str, pretrained: str | None) -> None:
    if pretrained is not None:
        raise ModelNotFoundError(f"{name!r} brings its own weights and has no tags, got {pretrained!r}.")


def _nearest(given: str, known: list[str]) -> str:
    lowered = {name.lower(): name for name in known}
    near = [lowered[name] for name in difflib.get_close_matches(given.lower(), lowered, n=3, cutoff=0.5)]
    return f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""


def _tokenizer(name: str, source: str) -> Callable[[list[str]], Tensor]:
    if name == "scenes":
        from clip_lens_plugin.scenes.tokens import scenes_tokenizer

        return scenes_tokenizer(SCENES_FOLDER)
    return open_clip.get_tokenizer(source)


def _explain(name: str, pretrained: str | None, error: Exception) -> str:
    asked = f"{name} {pretrained}" if pretrained else name
    reason = first_line(error)
    if (pretrained and Path(pretrained).is_file()) or name.startswith("local-dir:") or name == "scenes":
        return (
            f"The checkpoint {asked} could not be loaded: {reason}. It must be a state dict of this very "
            f"architecture, as safetensors or as a file that torch.load opens with weights_only=True."
        )
    return (
        f"The weights of {asked} are not in the local cache and could not be downloaded: {reason}. Connect to the "
        f"network, or download them elsewhere and give their path: HookedCLIP.from_pretrained({name!r}, "
        f"'/path/to/open_clip_model.safetensors'); the embedded model needs no download: "
        f"HookedCLIP.from_pretrained('scenes')."
    )


def first_line(error: Exception) -> str:
    """What an error says first, without its full stop; its class where it says nothing."""
    return next(iter(str(error).strip().splitlines()), "").rstrip(".") or type(error).__name__


@contextmanager
def quiet():
    """open_clip logs each step, and each failure once more before it raises; the message here says it once."""
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(previous)
