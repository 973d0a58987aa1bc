"""The maps of a batch of images, each kind timed by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.segmentation.kinds import Kind
from clip_lens_plugin.segmentation.plane import Plane
from clip_lens_plugin.segmentation.text_targets import TextTargets


@dataclass(frozen=True)
class TimedMaps:
    """Maps of b images, on the CPU in float64.

    Attributes:
        values: [b, rows, columns].
        seconds: for one image: the batch's, by the number of images; the model's run is part of it.
    """

    values: Float[Tensor, "b rows columns"]
    seconds: float


def maps_of(
    model: HookedCLIP, kind: Kind, pixels: Float[Tensor, "b 3 height width"], texts: Sequence[str], targets: TextTargets
) -> TimedMaps:
    """One kind of map of each image, for its text.

    Raises:
        ValueError: if the method gives something else than a finite value for each patch.
    """
    _wait(model)
    start = perf_counter()
    if kind.contrast:
        parts = targets.others(texts)
        order = torch.tensor([i for at, _ in parts for i in at], device="cpu")
        found = torch.cat(
            [
                kind.method.maps(model, pixels[at], targets.targets([texts[i] for i in at]), against).detach()
                for at, against in parts
            ]
        )
        found = found[order.argsort().to(found.device)]
    else:
        found = kind.method.maps(model, pixels, targets.targets(texts), None).detach()
    _wait(model)
    seconds = (perf_counter() - start) / len(pixels)
    expected = (len(pixels), *model.cfg.grid_size)
    if tuple(found.shape) != expected:
        raise ValueError(
            f"The method {kind.method.name} gives maps of shape {tuple(found.shape)}, expected one value for each "
            f"patch: {expected}."
        )
    return TimedMaps(found.to("cpu", torch.float64), seconds)


def pixels_of(model: HookedCLIP, planes: Sequence[Plane]) -> Float[Tensor, "b 3 height width"]:
    """What the model takes of some images, on its device and in its dtype."""
    cfg = model.cfg
    return model.prepare([each.picture for each in planes]).to(device=cfg.device, dtype=cfg.dtype)


def _wait(model: HookedCLIP) -> None:
    if model.cfg.device.type == "cuda":
        torch.cuda.synchronize(model.cfg.device)
