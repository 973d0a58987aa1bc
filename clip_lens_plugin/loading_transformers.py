"""Loads Hugging Face's CLIP and SigLIP models, from a folder or the hub's cache, with what prepares their input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.hub import cached_file

from clip_lens_plugin.adapters.tower import UnsupportedTowerError
from clip_lens_plugin.adapters.transformers import SUPPORTED, HuggingFaceCLIP
from clip_lens_plugin.loading import ModelNotFoundError, first_line, quiet

INTERPOLATION = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Pillow's number of a filter to open_clip's name."""


def load_transformers(
    source: str, device: str | torch.device, dtype: torch.dtype
) -> tuple[nn.Module, Callable[..., Tensor] | None, Callable[[list[str]], Tensor] | None, str]:
    """The model in open_clip's shape, its preprocessing and tokenizer where their files are there, and its name.

    Args:
        source: a folder that ``save_pretrained`` wrote, or "owner/name" of the hub.

    Raises:
        ModelNotFoundError: if there is no such model, or its files do not load. Weights load as safetensors only, and
            no code that comes with them is run.
        UnsupportedTowerError: if the model is of another class.
    """
    with _quiet():
        try:
            config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
        except Exception as error:
            raise ModelNotFoundError(_explain(source, error)) from error
        asked = next(iter(config.architectures or []), "no class")
        loader: Any = next((each for each in SUPPORTED if each.__name__ == asked), None)
        if loader is None:
            raise UnsupportedTowerError(
                f"{source} holds a model of {asked}; of Hugging Face's models "
                f"{', '.join(each.__name__ for each in SUPPORTED)} are supported."
            )
        try:
            model, told = loader.from_pretrained(
                source, use_safetensors=True, trust_remote_code=False, dtype=dtype, output_loading_info=True
            )
        except Exception as error:
            raise ModelNotFoundError(_explain(source, error)) from error
        if told["missing_keys"] or told.get("mismatched_keys"):
            lacking = sorted(map(str, [*told["missing_keys"], *told.get("mismatched_keys", ())]))
            raise ModelNotFoundError(
                f"The weights of {source} lack {len(lacking)} parameters of {asked} or hold them in another shape, "
                f"among them {lacking[:3]}."
            )
    return wrapped(model.to(device).eval(), source)


def wrapped(
    model: PreTrainedModel, source: str
) -> tuple[nn.Module, Callable[..., Tensor] | None, Callable[[list[str]], Tensor] | None, str]:
    """A loaded model in open_clip's shape, with what its source holds beside its weights.

    Args:
        source: as for :func:`load_transformers`.

    Raises:
        ModelNotFoundError: if the image processor has a step that is not known.
        UnsupportedTowerError: if the model is of another class.
    """
    with _quiet():
        preprocess, tokenizer = _preprocess(source, model), _tokenizer(source, model)
    name = Path(source).name if Path(source).is_dir() else source
    return HuggingFaceCLIP(model), preprocess, tokenizer, name


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own bars over the files of a model."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        with quiet():
            yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()


def _explain(source: str, error: Exception) -> str:
    if Path(source).is_dir():
        return (
            f"{source} could not be loaded: {first_line(error)}. It must be a folder that save_pretrained wrote, with "
            f"config.json and model.safetensors."
        )
    return (
        f"There is no folder {source}, and the hub's model of that name is neither in the local cache nor could it be "
        f"downloaded: {first_line(error)}."
    )


def _preprocess(source: str, model: Any) -> Callable[..., Tensor] | None:
    """The image processor's steps, done by open_clip's transforms; None where the model comes without one.

    Raises:
        ModelNotFoundError: if it has a step that they have not.
    """
    try:
        processor: Any = transformers.AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError):
        return None
    vision = getattr(model.config, "vision_config", model.config)
    scale = getattr(processor, "rescale_factor", 1 / 255)
    if not (processor.do_resize and processor.do_normalize and processor.do_rescale and abs(scale * 255 - 1) < 1e-6):
        raise ModelNotFoundError(
            f"{source}: its image processor does not resize, scale by 1/255 and normalise, which is all that is known. "
            f"Wrap the model with a preprocessing of your own: HookedCLIP.from_transformers(model, preprocess)."
        )
    cropped = bool(getattr(processor, "do_center_crop", False))
    size = getattr(vision, "image_size", None) or vision.patch_size * int(vision.num_patches**0.5)
    transform: Any = image_transform_v2(
        PreprocessCfg(
            size=int(size),
            mean=tuple(processor.image_mean),
            std=tuple(processor.image_std),
            interpolation=INTERPOLATION.get(int(processor.resample), "bicubic"),
            resize_mode="shortest" if cropped else "squash",
        ),
        is_train=False,
    )
    return transform


def _tokenizer(source: str, model: Any) -> Callable[[list[str]], Tensor] | None:
    """Texts to token ids, padded to the text tower's length as it was trained; None where there is no tokenizer."""
    # Without its files transformers makes a tokenizer with no words, which would read every text as the same one.
    files = ("tokenizer_config.json", "tokenizer.json")
    found = [cached_file(source, file, _raise_exceptions_for_missing_entries=False) for file in files]
    if not hasattr(model, "text_model") or not any(found):
        return None
    try:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError):
        return None
    return HuggingFaceTokenizer(tokenizer, model.config.text_config.max_position_embeddings)


class HuggingFaceTokenizer:
    """Texts to token ids [t, n].

    Args:
        tokenizer: of Hugging Face.
        context_length: n.
    """

    def __init__(self, tokenizer: Any, context_length: int) -> None:
        self.tokenizer, self.context_length = tokenizer, context_length

    def __call__(self, texts: list[str]) -> Tensor:
        told = self.tokenizer(
            texts, padding="max_length", max_length=self.context_length, truncation=True, return_tensors="pt"
        )
        return told["input_ids"]
