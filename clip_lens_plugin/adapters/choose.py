"""Which adapter reads a model's image tower, and its text tower."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from open_clip.model import CLIP
from open_clip.timm_model import TimmModel
from open_clip.transformer import TextTransformer, VisionTransformer
from torch import nn

from clip_lens_plugin.adapters.checks.structure import UNWRAP, refuse_foreign, refuse_mixed_dtypes, title, way_out
from clip_lens_plugin.adapters.open_clip_tower import open_clip_parts
from clip_lens_plugin.adapters.text.text_tower import TextOfCLIP, text_of_clip_parts, text_transformer_parts
from clip_lens_plugin.adapters.text.transformers_text import transformers_text_parts
from clip_lens_plugin.adapters.timm_tower import timm_parts
from clip_lens_plugin.adapters.tower import ImageParts, TextParts, TowerParts, UnsupportedTowerError, refusal
from clip_lens_plugin.adapters.transformers_tower import HuggingFaceText, HuggingFaceVision, transformers_parts
from clip_lens_plugin.dependencies.names import renamed
from clip_lens_plugin.dependencies.of_open_clip import held_by

READERS: dict[type, Callable[[Any, str], ImageParts]] = {
    VisionTransformer: open_clip_parts,
    TimmModel: timm_parts,
    HuggingFaceVision: transformers_parts,
}


TEXT_READERS: dict[type, Callable[[Any, str], TextParts]] = {
    TextOfCLIP: text_of_clip_parts,
    TextTransformer: text_transformer_parts,
    HuggingFaceText: transformers_text_parts,
}

Parts = TypeVar("Parts", bound=TowerParts)

LIBRARIES = {"open_clip": "open_clip_torch", "timm": "timm", "torch": "torch", "transformers": "transformers"}
"""Packages that source modules are of, and what they are installed as."""


def tower_parts(clip: Any, model_name: str) -> ImageParts:
    """The parts of ``clip.visual``.

    Raises:
        UnsupportedTowerError: if the tower, or a feature of it, is not supported; the message names it.
        SourceMismatchError: if it holds modules that compute something else than their weights say.
        AttributeError: if this release of the library that the tower is of has renamed what its adapter reads.
    """
    tower: Any = held_by(clip, "visual", __name__)  # Whatever is given: what has none is refused below.
    if isinstance(tower, VisionTransformer | TimmModel | HuggingFaceVision):
        refuse_foreign(tower, model_name)
    reader = READERS.get(type(tower))
    if reader is not None:
        parts = _read(reader, tower, model_name)
        refuse_mixed_dtypes(tower, model_name)
        return _even(parts, model_name)
    found = type(clip if tower is None or type(clip).__name__ in UNWRAP else tower)
    raise UnsupportedTowerError(
        f"{model_name}: expected a model whose `visual` is a vision transformer of open_clip, timm or Hugging Face, "
        f"got {f'no `visual` tower in a {title(found)}' if tower is None else title(found)}. "
        f"{way_out(found) or 'Other towers are not supported.'}"
    )


def text_tower(clip: Any, model_name: str) -> nn.Module:
    """The text tower of ``clip``, as a module whose parameters are its own.

    Raises:
        UnsupportedTowerError: if there is none, or it is of another architecture; the message names it.
    """
    if isinstance(clip, CLIP):
        return TextOfCLIP(clip)
    tower: Any = held_by(clip, "text", __name__)
    if type(tower) in TEXT_READERS:
        return tower
    found = "there is none" if tower is None else f"it is a {title(type(getattr(tower, 'transformer', tower)))}"
    raise UnsupportedTowerError(
        f"{model_name}: its text tower cannot be taken apart: {found}. Supported are open_clip's own text transformer "
        f"and those of Hugging Face's CLIPModel, SiglipModel and Siglip2Model. Its images can be, as before."
    )


def text_parts(tower: nn.Module, model_name: str) -> TextParts:
    """The parts of a tower that :func:`text_tower` gave.

    Raises:
        UnsupportedTowerError: if a feature of it is not supported; the message names it.
        SourceMismatchError: if it holds modules that compute something else than their weights say.
        AttributeError: if this release of the library that the tower is of has renamed what its adapter reads.
    """
    refuse_foreign(tower, model_name, "text")
    parts = _read(TEXT_READERS[type(tower)], tower, model_name)
    refuse_mixed_dtypes(tower, model_name, "text")
    return _even(parts, model_name)


def _read(reader: Callable[[Any, str], Parts], tower: Any, model_name: str) -> Parts:
    """The tower's parts. Raises AttributeError that names the adapter where a library's class lacks what it reads."""
    try:
        return reader(tower, model_name)
    except AttributeError as error:
        owner = type(error.obj)
        library = LIBRARIES.get(owner.__module__.partition(".")[0])
        if library is None:
            raise
        raise renamed(library, f"{owner.__name__}.{error.name}", reader.__module__) from error


def _even(parts: Parts, model_name: str) -> Parts:
    """The same parts. Raises UnsupportedTowerError if blocks have different widths, as in towers that were pruned."""
    for what, given in (
        ("heads", {block.attn.n_heads for block in parts.blocks}),
        ("widths of heads", {block.attn.W_Q.shape[-1] for block in parts.blocks}),
        ("neurons", {block.mlp.W_in.shape[1] for block in parts.blocks}),
    ):
        if len(given) > 1:
            raise refusal(model_name, f"blocks with different numbers of {what} ({sorted(given)})")
    return parts
