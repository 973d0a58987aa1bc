"""What heads put out on the mean over images and tokens, as a bias can carry it."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.ablation.means import ActivationMeans
from clip_lens_plugin.ablation.total import image_batches
from clip_lens_plugin.bars import tracked
from clip_lens_plugin.decomposition.analysed import Analysed
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.model.hooks.interventions import refuse_hooks
from clip_lens_plugin.model.inputs.given import given_images
from clip_lens_plugin.model.inputs.pixels import unlooked


@takes_bridges
def head_means(
    model: HookedCLIP, data: Any, images: Any = None, batch_size: int = 32, progress: bool = False
) -> Float[Tensor, "l h k"]:
    """The mean of ``hook_z`` of every head, over images and tokens, for ``model.edited(remove=..., means=...)``.

    Take other images than those that the edited model is measured on.

    Args:
        model: runs the images.
        data: images (the path of a picture or of a folder, pictures, or preprocessed images [b, 3, height, width]);
            or contributions of pictures or a store, whose images are read again.
        images: of contributions or a store: their preprocessed images, or the data set that the store is of, where
            they do not know them or it is out of reach.
        batch_size: images in a run.
        progress: show a bar.

    Returns:
        [layers, heads, width], float32, or float64 for a float64 model.

    Raises:
        ValueError: if hooks are on the model, there is no image, an activation is NaN or infinite, ``batch_size`` is no
            whole number of at least 1, the images of the data are not in reach, or others are given.
        PixelError: if pixels are none of this model.
    """
    refuse_hooks(model, "Means are those of the plain model")
    if isinstance(data, Analysed):
        of_data = data.needed_source() if images is None else images
        if isinstance(of_data, Tensor) and len(of_data) != len(data):
            raise ValueError(f"The data hold {len(data)} images, but {len(of_data)} were given.")
        n, batches = len(data), image_batches(model, of_data, batch_size, data.provenance)
    elif images is not None:
        raise ValueError("images are those of contributions or of a store: give either data or images.")
    else:
        given = given_images(model, data)
        pixels = given if given.tensor is None else given.tensor
        n, batches = len(given), image_batches(model, pixels, batch_size, None)
    running = ActivationMeans(model, [f"blocks.{layer}.attn.hook_z" for layer in range(model.cfg.n_layers)])
    with unlooked():  # Pixels that were given have been looked at, all others are the model's own.
        for batch in tracked(batches(None), "averaging", progress, total=-(-n // batch_size)):
            running.add(batch)
    means = running.means()
    return torch.stack([means[f"blocks.{layer}.attn.hook_z"].mean(0) for layer in range(model.cfg.n_layers)])
