"""Weights of a file put into a model: what open_clip would resize, fill in or convert without a word is said."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.convert import convert_state_dict, load_big_vision_weights
from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed, resize_text_pos_embed
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor

from clip_lens_plugin.hints import hint
from clip_lens_plugin.model.loading.errors import UnfitError, first_line, refuse_machine_errors
from clip_lens_plugin.model.loading.weight_files.checkpoint import counted, read_weights, some
from clip_lens_plugin.model.loading.weight_files.wrappings import TOWER, plain_names

BIG_VISION = (".npz", ".npy")
LOGIT = ("logit_scale", "logit_bias")
POSITIONS = "visual.positional_embedding"
NO_WEIGHTS = (
    *("input_resolution", "context_length", "vocab_size", "text.transformer.embeddings.position_ids"),
    "n_averaged",
)
"""Entries of OpenAI's own state dicts, of older text towers and of averaged models that no forward reads."""


@dataclass(frozen=True)
class Weights:
    """What a file holds, read but not yet fitted to a model.

    Attributes:
        path: of the file.
        tensors: by name; None for a file of big_vision, which open_clip reads itself.
        said: what was unwrapped, as parts of a sentence.
    """

    path: Path
    tensors: dict[str, Tensor] | None
    said: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Weights:
        """Raises UnfitError, MemoryError, OSError as :func:`read_weights`."""
        if path.suffix in BIG_VISION and path.is_file():
            return cls(path, None, ("converted from big_vision's names",))
        tensors, said = read_weights(path)
        return cls(path, tensors, tuple(said))

    @property
    def has_logit_bias(self) -> bool:
        """Whether it was trained as SigLIP is, with a bias beside the scale."""
        return any(name.rsplit(".", 1)[-1] == "logit_bias" for name in self.tensors or ())


@dataclass(frozen=True)
class Fitted:
    """What was done to the weights.

    Attributes:
        unwrapped: parts of a sentence on the file's wrappings.
        changed: sentences on weights that are not those of the file.
        has_text: whether the file holds the text tower.
        has_scale: whether it holds the logit scale.
    """

    unwrapped: list[str]
    changed: list[str]
    has_text: bool
    has_scale: bool


def put_into(clip: Any, weights: Weights, with_text: bool = True) -> Fitted:
    """Loads the weights into an open_clip model, each into its place, all or none of the text tower.

    Args:
        clip: filled.
        weights: read from a file.
        with_text: False where the model's text tower is only a placeholder, so that the file's is left out.

    Raises:
        UnfitError: if a weight is missing, left over or of another shape.
    """
    if weights.tensors is None:
        return Fitted([*weights.said], _put_big_vision(clip, weights.path), True, True)
    expected: dict[str, Tensor] = clip.state_dict()
    unwrapped, changed = [*weights.said], []
    state = convert_state_dict(clip, weights.tensors)
    if state is not weights.tensors:
        unwrapped.append("converted from MobileCLIP's names")
    else:
        state, said = plain_names(state, expected)
        unwrapped += said
    state = {name: weight for name, weight in state.items() if name in expected or name not in NO_WEIGHTS}
    if "positional_embedding" in state and "positional_embedding" not in expected:
        state = convert_to_custom_text_state_dict(state)
    texts = {name for name in expected if not _of_images(name)}
    has_text = not texts.isdisjoint(state)
    if not with_text:
        has_text = any(not _of_images(name) for name in state)
        state = {name: weight for name, weight in state.items() if _of_images(name)}
    if not has_text or not with_text:
        expected = {name: weight for name, weight in expected.items() if name not in texts}
    has_scale = "logit_scale" in state
    _fill_in(state, expected, has_text, has_scale, changed)
    _resize(clip, state, expected, changed)
    _refuse_misfits(clip, state, expected)
    floating = {name for name, each in expected.items() if each.is_floating_point()}
    whole = [name for name, each in state.items() if name in floating and not each.is_floating_point()]
    if whole:
        raise UnfitError(
            f"holds {state[whole[0]].dtype} numbers in {some(whole)}, where the model has floating point ones; give "
            f"the weights as they were trained"
        )
    # Without the text tower nothing of it is read; the caller leaves it out.
    clip.load_state_dict(state, strict=False)
    return Fitted(unwrapped, changed, has_text, has_scale)


def _of_images(name: str) -> bool:
    return name.startswith(TOWER) or name in LOGIT


def _fill_in(
    state: dict[str, Tensor], expected: dict[str, Tensor], has_text: bool, has_scale: bool, changed: list[str]
) -> None:
    """The logits' scale and bias: their shape, and where there is none."""
    for name in LOGIT:
        if name in state and name in expected and state[name].numel() == 1:
            state[name] = state[name].reshape(expected[name].shape)
    if not has_text and not has_scale:
        for name in LOGIT:
            expected.pop(name, None)
    elif "logit_bias" in expected and "logit_bias" not in state:
        state["logit_bias"] = torch.zeros_like(expected["logit_bias"])
        changed.append("It has no logit_bias, which this model adds to its logits: 0 is used, as open_clip does.")


def _resize(clip: Any, state: dict[str, Tensor], expected: dict[str, Tensor], changed: list[str]) -> None:
    """Position embeddings of another length, by open_clip's own interpolation."""
    found, wanted = state.get(POSITIONS), expected.get(POSITIONS)
    own = isinstance(clip.visual, VisionTransformer)  # open_clip resizes no other tower's.
    if own and found is not None and wanted is not None and _other_length(found, wanted):
        side = math.isqrt(len(found) - 1)
        if side * side != len(found) - 1:
            raise UnfitError(
                f"has a position embedding of {len(found)} tokens, {_wanted(wanted)}; only square grids with a class "
                f"token are resized"
            )
        state[POSITIONS] = found.float()  # Half precision has no bicubic filter on every device.
        resize_pos_embed(state, clip)
        height, width = (int(side * patch) for patch in clip.visual.patch_size)
        size = height if height == width else (height, width)
        typed = height if height == width else f"{height}x{width}"
        forced = hint(f"force_image_size={size}", f"--force-image-size {typed}")
        changed.append(
            f"Its position embedding is of images of {height} x {width} pixels ({side} x {side} patches) and was "
            f"resized to {clip.visual.grid_size[0]} x {clip.visual.grid_size[1]} patches. {forced} "
            f"keeps it as it was trained."
        )
    for name in ("positional_embedding", "text.positional_embedding"):
        if name in state and name in expected and _other_length(state[name], expected[name]):
            before = len(state[name])
            resize_text_pos_embed(state, clip)
            changed.append(
                f"Its text position embedding of {before} tokens was resized to {len(expected[name])}: texts read "
                f"otherwise than where it was trained."
            )


def _other_length(found: Tensor, wanted: Tensor) -> bool:
    return found.ndim == wanted.ndim == 2 and len(found) != len(wanted) and found.shape[1] == wanted.shape[1]


def _wanted(wanted: Tensor) -> str:
    return f"expected are {len(wanted)}"


def _refuse_misfits(clip: Any, state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    missing, left = [name for name in expected if name not in state], [name for name in state if name not in expected]
    if missing or left:
        raise UnfitError(
            f"could not be loaded: {counted(missing, 'weight is', 'weights are')} missing ({some(missing)}), and "
            f"{counted(left, 'is', 'are')} not of this architecture ({some(left)}). It must be a state dict of this "
            f"very architecture: choose the name that it was trained under, clip-lens models lists them"
        )
    other = [name for name in expected if state[name].shape != expected[name].shape]
    if not other:
        return
    shapes = [f"{name} {list(state[name].shape)} instead of {list(expected[name].shape)}" for name in other]
    raise UnfitError(
        f"could not be loaded: {counted(other, 'weight is', 'weights are')} of another shape, {'; '.join(shapes[:3])}. "
        f"It must be a state dict of this very architecture{_image_size(clip, state, expected)}"
    )


def _image_size(clip: Any, state: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    """The way out where a timm tower's positions are of another image size: open_clip does not resize those."""
    name = "visual.trunk.pos_embed"
    of_timm = isinstance(clip.visual, TimmModel)
    if name not in state or not of_timm or state[name].shape[1:2] == expected[name].shape[1:2]:
        return ""
    found, trunk = state[name].shape[1], clip.visual.trunk
    rows, columns = trunk.patch_embed.grid_size
    others = expected[name].shape[1] - rows * columns
    side = math.isqrt(max(found - others, 0))
    if side * side != found - others:
        return ""
    height, width = (side * patch for patch in trunk.patch_embed.patch_size)
    return (
        f"; its position embedding is of images of about {height} x {width} pixels, and the name for that size ends in "
        f"it, as in ViT-B-16-SigLIP-384"
    )


def _put_big_vision(clip: Any, path: Path) -> list[str]:
    try:
        with np.load(path, allow_pickle=False) as held:
            kernels = [held[name].shape for name in held.files if name.endswith("img/embedding/kernel")]
        load_big_vision_weights(clip, str(path))
    except Exception as error:
        refuse_machine_errors(error)
        raise UnfitError(
            f"could not be loaded: {type(error).__name__}, {first_line(error)}. Only big_vision's SigLIP checkpoints "
            f"are read from {path.suffix}, into open_clip's SigLIP name of the same size"
        ) from error
    rows, columns = clip.visual.trunk.patch_embed.patch_size
    return [
        f"Its patches are of {shape[0]} x {shape[1]} pixels, resampled to {rows} x {columns}."
        for shape in kernels
        if tuple(shape[:2]) != (rows, columns)
    ]
