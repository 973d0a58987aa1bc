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

from clip_lens_plugin.adapters.tower import UnsupportedTowerError
from clip_lens_plugin.adapters.transformers_tower import SUPPORTED, HuggingFaceCLIP, image_side, supported_classes
from clip_lens_plugin.hints import given_as, hint
from clip_lens_plugin.model.loading.errors import (
    ModelNotFoundError,
    first_line,
    is_network,
    quiet,
    refuse_machine_errors,
)
from clip_lens_plugin.model.loading.foreign import refuse_model_code, refuse_processor_code
from clip_lens_plugin.model.loading.options import Options, Tokenizer, checked_channels
from clip_lens_plugin.model.loading.settings import STEPS
from clip_lens_plugin.model.loading.tokenizers import hugging_face_tokenizer

WRAP = ", or wrap the model with a preprocessing of your own: HookedCLIP.from_transformers(model, preprocess)"
INTERPOLATION = {2: "bilinear", 3: "bicubic"}
"""Pillow's number of a filter to open_clip's name."""


def load_transformers(
    source: str, device: str | torch.device, dtype: torch.dtype, options: Options
) -> tuple[nn.Module, Callable[..., Tensor] | None, Tokenizer | None, str]:
    """The model in open_clip's shape, its preprocessing and tokenizer where their files are there, and its name.

    Args:
        source: a folder that ``save_pretrained`` wrote, or "owner/name" of the hub.
        device: of the weights.
        dtype: of the weights.
        options: those of the preprocessing and the tokenizer; others are of open_clip's models.

    Raises:
        ModelNotFoundError: if there is no such model, or its files do not load. Weights load as safetensors only, and
            no code that comes with them is run.
        UnsupportedTowerError: if the model is of another class.
    """
    for name in ("checkpoint", "force_quick_gelu", "force_image_size"):
        if getattr(options, name) is not None:
            raise ModelNotFoundError(
                f"{given_as(name)} is for open_clip's models; a Hugging Face model is what the config in its folder "
                f"says: give one with other weights, hidden_act or image_size."
            )
    with without_bars():
        refuse_model_code(source)
        try:
            config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
        except Exception as error:
            refuse_machine_errors(error)
            raise ModelNotFoundError(_explain(source, error)) from error
        named = config.architectures
        asked = str(next(iter(named), "no class")) if isinstance(named, list) else "no class"
        loader: Any = next((each for each in supported_classes() if each.__name__ == asked), None)
        if loader is None:
            raise UnsupportedTowerError(
                f"{source} holds a model of {asked}; of Hugging Face's models {', '.join(SUPPORTED)} are supported."
            )
        try:
            model, loading_info = loader.from_pretrained(
                source, use_safetensors=True, trust_remote_code=False, dtype=dtype, output_loading_info=True
            )
        except Exception as error:
            refuse_machine_errors(error)
            raise ModelNotFoundError(_explain(source, error)) from error
        if loading_info["missing_keys"] or loading_info.get("mismatched_keys"):
            lacking = sorted(map(str, [*loading_info["missing_keys"], *loading_info.get("mismatched_keys", ())]))
            raise ModelNotFoundError(
                f"The weights of {source} lack {len(lacking)} parameters of {asked} or hold them in another shape, "
                f"among them {lacking[:3]}."
            )
    return wrapped(model.to(device).eval(), source, options)


def wrapped(
    model: PreTrainedModel, source: str, options: Options | None = None
) -> tuple[nn.Module, Callable[..., Tensor] | None, Tokenizer | None, str]:
    """A loaded model in open_clip's shape, with what its source holds beside its weights.

    Args:
        model: loaded.
        source: as for :func:`load_transformers`.
        options: likewise.

    Raises:
        ModelNotFoundError: if the image processor has a step that is not known.
        UnsupportedTowerError: if the model is of another class.
    """
    with without_bars():
        options = options or Options()
        preprocess = _preprocess(source, model, options)
        tokenizer = hugging_face_tokenizer(source, model, options.tokenizer)
    name = Path(source).name if Path(source).is_dir() else source
    return HuggingFaceCLIP(model), preprocess, tokenizer, name


@contextmanager
def without_bars() -> Iterator[None]:
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
    if not is_network(error):
        reason = first_line(error)
        return f"There is no folder {source}, and the hub's model of that name could not be loaded: {reason}."
    return (
        f"There is no folder {source}, and the hub's model of that name is neither in the local cache nor could it be "
        f"downloaded: {first_line(error)}."
    )


def _preprocess(source: str, model: Any, options: Options) -> Callable[..., Tensor] | None:
    """The image processor's steps, done by open_clip's transforms; None where the model comes without one.

    Raises:
        ModelNotFoundError: if it has a step that they have not.
    """
    size = image_side(model.vision_model.config)
    said = options.preprocessing
    if len(said) < len(STEPS):
        found = _processor(source, size, set(said))
        if found is None:
            if said:
                raise ModelNotFoundError(
                    f"{source} comes without an image processor (preprocessor_config.json) that could be read here. "
                    f"Put it there, or give all of its steps: {_steps_given()}."
                )
            return None
        said = {**found, **said}
    transform: Any = image_transform_v2(PreprocessCfg(size=size, **said), is_train=False)
    return transform


def _processor(source: str, size: int, said: set[str]) -> dict[str, Any] | None:
    """The steps of the image processor, apart from those that were said otherwise; None where there is none."""
    refuse_processor_code(source)
    try:
        processor: Any = transformers.AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        refuse_machine_errors(error)
        return None
    except Exception as error:
        raise ModelNotFoundError(f"The image processor of {source} could not be read: {first_line(error)}.") from error
    try:
        return _steps(source, processor, size, said)
    except ModelNotFoundError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unknown(source, f"has settings that cannot be read ({first_line(error)})") from error


def _steps(source: str, processor: Any, size: int, said: set[str]) -> dict[str, Any]:
    """The steps of an image processor of transformers under open_clip's names."""
    scaled = processor.do_rescale and abs(processor.rescale_factor * 255 - 1) < 1e-6
    if not (processor.do_resize and processor.do_normalize and scaled):
        raise _unknown(source, "does not resize, scale by 1/255 and normalise, which is all that is known")
    filters = int(processor.resample)
    if filters not in INTERPOLATION and "interpolation" not in said:
        known = " and ".join(INTERPOLATION.values())
        raise _unknown(source, f"resizes with Pillow's filter {filters}; {known} are known")
    # SigLIP's processors crop nothing and have no such setting; CLIP's have one.
    of_clip = type(processor).__name__.startswith("CLIP")
    cropped = bool(processor.do_center_crop if of_clip else getattr(processor, "do_center_crop", False))
    sizes = {*_sizes(processor, "size"), *(_sizes(processor, "crop_size") if cropped else ())}
    if sizes - {size} and "resize_mode" not in said:
        raise _unknown(
            source,
            f"resizes or crops to {', '.join(map(str, sorted(sizes)))} pixels, and the model takes {size}: only a "
            f"resize to the model's size is known",
        )
    return {
        "mean": checked_channels("image_mean", processor.image_mean),
        "std": checked_channels("image_std", processor.image_std),
        "interpolation": INTERPOLATION.get(filters),
        "resize_mode": "shortest" if cropped else "squash",
    }


def _sizes(processor: Any, name: str) -> set[int]:
    given = getattr(processor, name)
    if given is None or isinstance(given, int):
        return set() if given is None else {given}
    return {int(each) for each in dict(given).values() if each is not None}


def _unknown(source: str, what: str) -> ModelNotFoundError:
    return ModelNotFoundError(f"{source}: its image processor {what}. Give {_steps_given()}{hint(WRAP, '')}.")


def _steps_given() -> str:
    return ", ".join(given_as(f"image_{step}") for step in STEPS)
