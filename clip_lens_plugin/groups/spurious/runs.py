"""The margins of a running model without some heads, at every token or at the class token alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.ablation.hooks import mean_ablation
from clip_lens_plugin.ablation.means import ActivationMeans
from clip_lens_plugin.ablation.total import image_batches
from clip_lens_plugin.decisions.removal import cosines
from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.groups.spurious.accuracy import Stage
from clip_lens_plugin.groups.spurious.splitting import Rows
from clip_lens_plugin.model.hooks.interventions import refuse_hooks
from clip_lens_plugin.model.inputs.pixels import once_a_call
from clip_lens_plugin.model.protocol import ImageModel

ROUNDING = 0.05
"""Greatest difference of an image's margin in the data and in a run that the dtype of a store may make."""

Head = tuple[int, int]


@once_a_call()
def run_margins(
    model: ImageModel,
    data: Data,
    images: Any,
    rows: Rows,
    heads: Sequence[Head],
    direction: Float[Tensor, " e"],
    known: Float[np.ndarray, " n"],
    batch_size: int,
    moved: Callable[[int], object],
) -> dict[Stage, Float[np.ndarray, " r"]]:
    """The margins of the test images in runs without some heads, whose ``hook_z`` is its mean at each token.

    Args:
        model: the plain model.
        data: that the images are of.
        images: preprocessed images of all rows, pictures, or the data set.
        rows: of the images that means are taken of, and of the test images.
        heads: that are removed.
        direction: the second text less the first.
        known: the margin of each row of the data, which the plain run must give as well.
        batch_size: images in a run.
        moved: called with the number of images after each run.

    Returns:
        "total", and "class_token" where the model pools the class token alone.

    Raises:
        ValueError: if hooks are on the model, or the images are not those of the data.
    """
    refuse_hooks(model, "Total effects are measured on the plain model")
    if isinstance(images, Tensor) and len(images) != len(data):
        raise ValueError(f"The data hold {len(data)} images, but {len(images)} were given.")
    batches = image_batches(model, images, batch_size, data.provenance)
    points = {layer: f"blocks.{layer}.attn.hook_z" for layer, _ in heads}
    running = ActivationMeans(model, sorted(points.values()))
    for batch in batches(rows["means"].tolist()):
        running.add(batch)
        moved(len(batch))
    means = running.means()
    stages: dict[Stage, list[int] | None] = {"total": None}
    if data.readout.pooling.reads_class_token_alone:
        stages["class_token"] = [0]
    found: dict[str, list[np.ndarray]] = {"plain": [], **{stage: [] for stage in stages}}
    with torch.no_grad():
        for batch in batches(rows["test"].tolist()):
            found["plain"].append(_margins(model(batch), direction))
            for stage, positions in stages.items():
                hooks: list[Any] = [
                    (name, mean_ablation(means, [h for l, h in heads if l == layer], positions))
                    for layer, name in points.items()
                ]
                with model.hooks(fwd_hooks=hooks):
                    found[stage].append(_margins(model(batch), direction))
                moved(len(batch))
    away = np.abs(np.concatenate(found["plain"]) - known[rows["test"]])
    if not (away < ROUNDING).all():
        row = int(rows["test"][int(np.argmax(away))])
        name = row if data.names is None else repr(data.names[row])
        raise ValueError(
            f"The images are not those of the data: the margin of image {name} is {float(known[row]):.3f} in the data, "
            f"and {float(away.max()):.3f} away from that in a run of the model."
        )
    return {stage: np.concatenate(found[stage]) for stage in stages}


def _margins(embedding: Float[Tensor, "b e"], direction: Float[Tensor, " e"]) -> Float[np.ndarray, " b"]:
    return cosines(embedding, direction[None])[:, 0].double().cpu().numpy()
