"""Means over images of activations, as mean ablation takes them.

Source: Gandelsman, Efros and Steinhardt, ICLR 2024, section 3 (mean ablation).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.bars import tracked
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.hooks.hook_names import nearest
from clip_lens_plugin.model.inputs.given import given_images
from clip_lens_plugin.model.protocol import ImageModel
from clip_lens_plugin.numerics.named_tensors import NamedTensors


class ActivationMeans:
    """Running means over images of named activations. Only sums are kept, in float64, however many images there are.

    Hooks that are on the model stay in force.

    Args:
        model: runs the images.
        names: a hook point's name, several, or a predicate on names, as TransformerLens's ``names_filter``.

    Attributes:
        n: images so far.

    Raises:
        ValueError: for a name that no hook point has, or if none is named.
    """

    def __init__(self, model: ImageModel, names: str | Sequence[str] | Callable[[str], bool]) -> None:
        self._model = model
        self._names = _hook_points(model, names)
        self._sums: dict[str, Tensor] = {}
        self.n = 0

    def add(self, images: Float[Tensor, "b 3 height width"]) -> None:
        """Runs the images as one batch.

        Raises:
            ValueError: if the shape is wrong, or an activation is NaN or infinite. Then nothing is added.
        """
        batch: dict[str, Tensor] = {}

        def keep(activation: Tensor, hook: HookPoint) -> None:
            assert hook.name is not None
            batch[hook.name] = activation.sum(0, dtype=torch.float64)

        with torch.no_grad(), self._model.hooks(fwd_hooks=[(name, keep) for name in self._names]):
            self._model(images)
        broken = [name for name, total in batch.items() if not bool(total.isfinite().all())]
        if broken:
            raise ValueError(f"{broken[0]} of these {len(images)} images has NaN or infinite values.")
        self._sums = {name: self._sums.get(name, 0.0) + total for name, total in batch.items()}
        self.n += len(images)

    def means(self) -> NamedTensors[str]:
        """Name to mean, in the activation's shape without the batch; float32, or float64 for a float64 model.

        Raises:
            ValueError: if there was no image.
        """
        if self.n == 0:
            raise ValueError("No image was added, so there is no mean; add a tensor [b, 3, height, width] with b ≥ 1.")
        dtype = torch.promote_types(self._model.cfg.dtype, torch.float32)
        return NamedTensors({name: (total / self.n).to(dtype) for name, total in self._sums.items()})


@takes_bridges
def activation_means(
    model: ImageModel,
    images: Any,
    names: str | Sequence[str] | Callable[[str], bool],
    batch_size: int = 32,
    progress: bool = False,
) -> NamedTensors[str]:
    """The means that :func:`~clip_lens_plugin.ablation.hooks.mean_ablation` takes.

    For images that stream there is :class:`ActivationMeans`.

    Args:
        images: the path of a picture or of a folder, pictures, or preprocessed images [b, 3, height, width].
        names: see :class:`ActivationMeans`.
        batch_size: images in a run.
        progress: show a progress bar.

    Raises:
        ValueError: see :class:`ActivationMeans`; if there is no image, or ``batch_size`` is no whole number of at
            least 1.
        PixelError: if the images are neither pictures nor a floating-point tensor of the model's shape, or hold NaN or
            infinity; doubtful pixels are a warning.
    """
    batch_size = checked_number("batch_size", batch_size)
    running = ActivationMeans(model, names)
    given = given_images(model, images)
    with given.checked():
        for start in tracked(range(0, len(given), batch_size), "averaging", progress):
            running.add(given.pixels(slice(start, start + batch_size)))
    return running.means()


def _hook_points(model: ImageModel, names: str | Sequence[str] | Callable[[str], bool]) -> list[str]:
    known = list(model.hook_dict)
    if callable(names):
        chosen = [name for name in known if names(name)]
    else:
        chosen = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    for name in chosen:
        if name not in model.hook_dict:
            raise ValueError(f"There is no hook point {name!r}; the nearest are {nearest(name, known, 3)}.")
    if not chosen:
        raise ValueError(f"No hook point was named; {model.cfg.model_name} has {known[:3]} and {len(known) - 3} more.")
    return chosen
