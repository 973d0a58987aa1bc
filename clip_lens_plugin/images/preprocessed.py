"""Pictures as one batch of the model's own preprocessing, and back: what the model sees of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from clip_lens_plugin.hints import given_as, hint
from clip_lens_plugin.images.pictures import Picture, upright_pictures


def prepared(
    pictures: Picture | Iterable[Picture],
    preprocess: Callable[..., Any] | None,
    model_name: str,
    image_size: tuple[int, int],
) -> Float[Tensor, "b 3 height width"]:
    """Pictures, turned upright and converted to RGB as those of a folder are, preprocessed, as one batch.

    Args:
        pictures: PIL pictures or paths of files, or one of them.
        preprocess: PIL picture to [3, height, width].
        model_name, image_size: of the model that takes them.

    Raises:
        ValueError: if there is no picture, no preprocessing, or it makes something else than [3, *image_size].
        UnreadableImageError: if a picture cannot be used; the message says which and why.
        TypeError: if something is neither a picture nor a path.
    """
    if preprocess is None:
        raise ValueError(
            f"{model_name} was wrapped without its preprocessing. Give it: "
            f"{hint('HookedCLIP.from_open_clip(clip, preprocess, tokenizer), or ', '')}where a Hugging Face folder has "
            f"no preprocessor_config.json, {given_as('image_mean')}, {given_as('image_std')}, "
            f"{given_as('image_interpolation')} and {given_as('image_resize_mode')}{hint(' of from_pretrained', '')}."
        )
    made = [preprocess(picture) for picture in upright_pictures(pictures)]
    for each in made:
        found = list(each.shape) if isinstance(each, Tensor) else f"a {type(each).__name__}"
        if found != [3, *image_size]:
            raise ValueError(
                f"The preprocessing that {model_name} was wrapped with makes {found} of a picture, expected a tensor "
                f"of shape {[3, *image_size]}. Give the model's own: model.preprocess = ..."
            )
    return torch.stack(made)


def shown_pictures(
    images: Float[Tensor, "b 3 height width"], preprocess: Callable[..., Any] | None
) -> list[Image.Image]:
    """The pictures as the model sees them, cropped and scaled: ``preprocess`` with its Normalize undone.

    Args:
        images: preprocessed, as of ``model.prepare``.
        preprocess: the model's own, with torchvision's steps.

    Raises:
        ValueError: if ``preprocess`` has no Normalize step.
    """
    steps = getattr(preprocess, "transforms", [preprocess])
    normalize = [step for step in steps if hasattr(step, "mean") and hasattr(step, "std")]
    if not normalize:
        raise ValueError(
            "preprocess has no Normalize step with mean and std, so what the model sees cannot be restored."
        )
    mean, std = (torch.as_tensor(values, device="cpu").float() for values in (normalize[-1].mean, normalize[-1].std))
    pixels = images.detach().float().cpu() * std.reshape(-1, 1, 1) + mean.reshape(-1, 1, 1)
    rounded = (pixels * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    return [Image.fromarray(picture.numpy()) for picture in rounded]
