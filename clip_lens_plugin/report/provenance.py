"""Where the numbers of a report come from: what a colleague needs to make them again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import open_clip
import torch

from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.model.identity.verification import Verification
from clip_lens_plugin.plain_text import one_line

PACKAGES = ("clip_lens_plugin", "torch", "transformer_lens", "open_clip_torch")
"""Whose versions are said: numbers can depend on each."""

POOLINGS = {
    "class_token": "its class token",
    "norm_then_mean": "the mean of its tokens",
    "mean_then_norm": "the mean of its tokens",
    "attention": "what an attention pool reads of its tokens",
}
"""What is projected into the joint space."""

MOST_OF_STEP = 200
"""Characters of one step of the preprocessing."""


@dataclass(frozen=True)
class ReportProvenance:
    """What a report was made of, with and when.

    Attributes:
        made: local date and time with its offset, as ISO 8601 writes it, to the second.
        command: as typed on the command line; None where a report was made in Python.
        versions: of packages, by name.
        model: its name, without the weights.
        weights: tag or file; None where the name says all.
        architecture: layers, heads, widths and pooling, in words.
        device, dtype: that the model ran on and in for this report.
        image_size: (height, width) of the input in pixels.
        preprocessing: the steps from a picture to the input, each in words; none where there is none.
        dataset: what it is, in words.
        fingerprint: of the data set's samples; None for images in memory.
        n_images: analysed.
        n_skipped: that could not be used.
        texts: the pool, in words.
        n_texts: of the pool.
        verified: the model's embedding beside the source's own.
    """

    made: str
    command: str | None
    versions: dict[str, str]
    model: str
    weights: str | None
    architecture: str
    device: str
    dtype: str
    image_size: tuple[int, int]
    preprocessing: tuple[str, ...]
    dataset: str
    fingerprint: str | None
    n_images: int
    n_skipped: int
    texts: str
    n_texts: int
    verified: Verification

    @classmethod
    def of(
        cls,
        model: HookedCLIP,
        data: Data,
        verified: Verification,
        *,
        dataset: str,
        texts: str,
        n_texts: int,
        n_skipped: int = 0,
        command: str | None = None,
    ) -> ReportProvenance:
        """The provenance of a report that is made now."""
        cfg = model.cfg
        name, weights = named_apart(cfg.model_name)
        known = data.provenance
        return cls(
            made=datetime.now().astimezone().isoformat(" ", "seconds"),
            command=command,
            versions={package: found for package in PACKAGES if (found := _version(package)) is not None},
            model=name,
            weights=weights,
            architecture=(
                f"{cfg.n_layers} layers of {cfg.n_heads} heads, {cfg.d_model} wide, patches of "
                f"{cfg.patch_size[0]} × {cfg.patch_size[1]} pixels; {POOLINGS[cfg.pooling]} is projected into a joint "
                f"space of {cfg.d_embed} dimensions"
            ),
            device=_device(model),
            dtype=str(cfg.dtype).removeprefix("torch."),
            image_size=cfg.image_size,
            preprocessing=preprocessing_steps(model.preprocess),
            dataset=dataset,
            fingerprint=None if known is None else known.fingerprint,
            n_images=len(data),
            n_skipped=n_skipped,
            texts=texts,
            n_texts=n_texts,
            verified=verified,
        )

    @property
    def full_name(self) -> str:
        """The model with its weights, for example "ViT-B-32, weights from vitb32.pt"."""
        return self.model if self.weights is None else f"{self.model}, weights from {self.weights}"


def named_apart(model_name: str) -> tuple[str, str | None]:
    """The name of a model as it was loaded, and its weights: tag, file, or both; None where the name says all."""
    name, _, weights = model_name.partition(" ")
    if not weights or name.replace("/", "-") not in open_clip.list_models():
        return model_name, None
    tag, _, file = weights.partition(" ")
    if file and tag in open_clip.list_pretrained_tags_by_model(name.replace("/", "-")):
        return name, f"{file} (a descendant of the tag {tag})"
    return name, weights


def preprocessing_steps(preprocess: Callable[..., Any] | None) -> tuple[str, ...]:
    """The steps of a preprocessing in words, without addresses in memory; none if there is no preprocessing."""
    if preprocess is None:
        return ()
    steps = getattr(preprocess, "transforms", [preprocess])
    return tuple(one_line(_step(step), MOST_OF_STEP) for step in steps)


def _step(step: Any) -> str:
    shown = repr(step)
    if " at 0x" in shown:  # What has no words of its own.
        return str(getattr(step, "__name__", type(step).__name__)).strip("_").replace("_", " ")
    return shown


def _device(model: HookedCLIP) -> str:
    device = model.cfg.device
    named = device.type == "cuda" and torch.cuda.is_initialized()  # It is, if weights really lie there.
    return f"{device} ({torch.cuda.get_device_name(device)})" if named else str(device)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
