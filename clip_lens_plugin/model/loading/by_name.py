"""Loads models by name: built by open_clip's own factory, filled with weights that were read and not run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
from open_clip.timm_model import TimmModel
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import Tensor, nn

from clip_lens_plugin.adapters.of_config import refuse_unsupported
from clip_lens_plugin.arguments import checked_device
from clip_lens_plugin.hints import given_as
from clip_lens_plugin.model.loading.errors import (
    ModelNotFoundError,
    UnfitError,
    first_line,
    is_network,
    quiet,
    refuse_machine_errors,
)
from clip_lens_plugin.model.loading.foreign import links_out, refuse_config
from clip_lens_plugin.model.loading.image_tower import ImageTower
from clip_lens_plugin.model.loading.names import Named, config_of, named, refuse_tag
from clip_lens_plugin.model.loading.options import Options, Tokenizer, checked_channels
from clip_lens_plugin.model.loading.recipe import Recipe
from clip_lens_plugin.model.loading.tokenizers import NoTexts, tokenizer_of
from clip_lens_plugin.model.loading.weight_files.fit import Fitted, Weights, put_into
from clip_lens_plugin.scenes.embedded import EMBEDDED
from clip_lens_plugin.scenes.tokens import scenes_tokenizer

_PRECISIONS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
NO_TEXT_TOWER = {"width": 8, "heads": 1, "layers": 1, "context_length": 8, "vocab_size": 8}
"""Config of a text tower that is built only to be left out."""


@dataclass(frozen=True)
class Origin:
    """Where a model came from, and what was decided while it was loaded.

    Attributes:
        name: as given.
        tag: of its weights, None where there is none.
        checkpoint: file that the user gave, None where there is none.
        quick_gelu: whether QuickGELU was asked of the factory; None where its config alone says so.
        preprocessing: open_clip's settings of it, None for a Hugging Face model.
        notes: what was said while loading.
        recipe: how to load it again; None where a tokenizer was given that cannot be written down.
    """

    name: str
    tag: str | None = None
    checkpoint: str | None = None
    quick_gelu: bool | None = None
    preprocessing: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    recipe: Recipe | None = None


@dataclass(frozen=True)
class Loaded:
    """A loaded model in open_clip's shape, and what belongs to it.

    Attributes:
        clip: the model.
        preprocess: PIL picture to [3, height, width]; None where the folder of a Hugging Face model has none.
        tokenizer: texts to token ids; None where there is none.
        title: the name of the model with its tag or file.
        origin: where it came from.
    """

    clip: nn.Module
    preprocess: Callable[..., Tensor] | None
    tokenizer: Tokenizer | None
    title: str
    origin: Origin = field(repr=False)


def load(
    name: str,
    pretrained: str | Path | None,
    device: str | torch.device | None,
    dtype: torch.dtype | None,
    options: Options,
) -> Loaded:
    """The model as its source has it, not hooked; ``HookedCLIP.from_pretrained`` wraps what this returns.

    Args:
        name, pretrained: as of ``HookedCLIP.from_pretrained``, where it is also said what is raised.
        device: CUDA where there is one, if not given.
        dtype: float32 if not given.
        options: of the kinds that ``from_pretrained`` takes as keywords: ``Options.checked(checkpoint=...)``.
    """
    if not isinstance(name, str) or not isinstance(pretrained, str | Path | None):
        raise ValueError(f"A model's name is a text and pretrained a tag or a path, got {name!r} and {pretrained!r}.")
    device = checked_device(("cuda" if torch.cuda.is_available() else "cpu") if device is None else device)
    dtype = torch.float32 if dtype is None else dtype
    if dtype not in (*_PRECISIONS, torch.float64):
        known = [str(known) for known in (*_PRECISIONS, torch.float64)]
        raise ValueError(f"dtype must be one of {known}, got {dtype}.")
    if not name.startswith("transformers:"):
        return _load_open_clip(named(name, pretrained, options), device, dtype, options)
    from clip_lens_plugin.model.loading.hub_model import load_transformers

    refuse_tag(name, pretrained)
    source = name.removeprefix("transformers:")
    found = load_transformers(source, device, dtype, options)
    links = links_out(Path(source)) if Path(source).is_dir() else None
    recipe = Recipe.of(name, None, None, options)
    return Loaded(*found, Origin(name, notes=() if links is None else (links,), recipe=recipe))


def refuse_unknown(name: str, pretrained: str | Path | None, options: Options) -> None:
    """Raises ModelNotFoundError for an unknown name or tag, or a file or folder that is not there; loads nothing."""
    if not name.startswith("transformers:"):
        named(name, pretrained, options)
        return
    folder = Path(name.removeprefix("transformers:"))
    if folder.is_absolute() and not folder.is_dir():  # Others may be names of the hub.
        raise ModelNotFoundError(f"There is no folder {folder}.")


def _load_open_clip(asked: Named, device: str | torch.device, dtype: torch.dtype, options: Options) -> Loaded:
    with quiet():
        source = _fetched(asked, asked.find_config)
        with _one_message(asked, None):
            config = config_of(source)
            refuse_config(config, asked.title)
        if asked.name.startswith("hf-hub:"):  # Before its weights are fetched; listed names are refused by themselves.
            refuse_unsupported(asked.title, config)
        _refuse_size(config, options, asked.title)
        path = Path(_fetched(asked, asked.find_weights))
        with _one_message(asked, path):
            weights = Weights.read(path)
            clip, without_text = _built(asked, source, config, weights, device, dtype, options)
            if dtype is torch.float64:  # Before the weights are put in: those of a file in float64 stay as they are.
                clip = clip.double()
            fitted = put_into(clip, weights, with_text=without_text is None)
            resized = _resized_timm(clip, options)
            clip, tokenizer = _with_texts(asked, clip, config, fitted, without_text, options)
    if dtype is torch.float64:
        clip = clip.double()
    preprocessing = clip.visual.preprocess_cfg
    with _one_message(asked, path):
        for step in ("mean", "std"):
            checked_channels(f"the {step} of its preprocess_cfg", preprocessing[step])
        preprocess = image_transform_v2(PreprocessCfg(**preprocessing), is_train=False)
    notes = _notes(asked, weights, fitted, resized)
    file = None if asked.file is None else str(asked.file)
    recipe = Recipe.of(asked.name, asked.tag, asked.file, options)
    origin = Origin(asked.name, asked.tag, file, _quick_gelu(asked, options), preprocessing, notes, recipe)
    return Loaded(clip, cast(Callable[..., Tensor], preprocess), tokenizer, asked.title, origin)


def _fetched(asked: Named, find: Callable[[], Any]) -> Any:
    """Where a config or the weights lie, after a download where they are not there yet."""
    try:
        return find()
    except Exception as error:
        refuse_machine_errors(error)
        what = f"{asked.name} {asked.tag}" if asked.tag else asked.name
        if not is_network(error):
            raise ModelNotFoundError(
                f"The weights of {what} could not be fetched, and it is not the network: {first_line(error)}."
            ) from error
        raise ModelNotFoundError(
            f"The weights of {what} are not in the local cache and could not be downloaded: {first_line(error)}. "
            f"Connect to the network, or download them elsewhere and give their path: "
            f"{Recipe(asked.name, asked.tag, '/path/to/open_clip_model.safetensors')}; the embedded model needs no "
            f"download: {Recipe('scenes')}."
        ) from error


@contextmanager
def _one_message(asked: Named, path: Path | None) -> Iterator[None]:
    """What can go wrong with a config or a file of weights, as one message that begins with it."""
    try:
        yield
    except UnfitError as error:
        raise ModelNotFoundError(f"The checkpoint {asked.name} {path} {error}.") from error
    except ModelNotFoundError:
        raise
    except Exception as error:
        refuse_machine_errors(error)
        raise ModelNotFoundError(
            f"The checkpoint {asked.title} could not be loaded: {first_line(error)}. Its config must be one that the "
            f"installed open_clip builds."
        ) from error


def _quick_gelu(asked: Named, options: Options) -> bool | None:
    if options.force_quick_gelu:
        return True
    return None if asked.settings is None else asked.settings.quick_gelu


def _built(
    asked: Named,
    source: str,
    config: dict[str, Any],
    weights: Weights,
    device: str | torch.device,
    dtype: torch.dtype,
    options: Options,
) -> tuple[Any, str | None]:
    """The model with random weights, and why it has no text tower, None where it has one."""
    settings = {} if asked.settings is None else asked.settings.preprocessing
    extra: dict[str, Any] = {}
    quick_gelu = _quick_gelu(asked, options)
    if quick_gelu is not None:
        extra["quick_gelu"] = quick_gelu
    if weights.has_logit_bias and "init_logit_bias" not in config:
        extra["init_logit_bias"] = 0.0
    is_timm = "timm_model_name" in config["vision_cfg"]

    def create(**more: Any) -> Any:
        return open_clip.create_model(
            source,
            load_weights=False,
            pretrained_text=False,
            precision=_PRECISIONS.get(dtype, "fp32"),
            device=device,
            # A timm tower is resized once it has its weights, as the factory does.
            force_image_size=None if is_timm else options.force_image_size,
            force_preprocess_cfg={**settings, **options.preprocessing},
            **extra,
            **more,
        )

    try:
        return create(), None
    except Exception as error:
        refuse_machine_errors(error)
        hub = config["text_cfg"].get("hf_model_name")
        if not hub or not isinstance(error, (OSError, ValueError)):
            raise
        why = (
            f"{asked.title} was loaded without its text tower, which needs the config of {hub} of the Hugging Face "
            f"hub: {first_line(error)}. For texts fetch it where there is a network (hf download {hub} config.json), "
            f"then load the model again. Images need none."
        )
        return create(text_cfg=dict(NO_TEXT_TOWER)), why


def _with_texts(
    asked: Named, clip: Any, config: dict[str, Any], fitted: Fitted, without: str | None, options: Options
) -> tuple[Any, Tokenizer]:
    """The model with its tokenizer, or its image tower alone with the reason in the tokenizer's place."""
    if without is None and not fitted.has_text:
        without = (
            f"The weights of {asked.title} are those of an image tower alone, so it has no texts. Give a checkpoint of "
            f"the whole model for them."
        )
    if without is None:
        return clip, _tokenizer(asked, config, options)
    return ImageTower(clip, fitted.has_scale, without), NoTexts(without)


def _tokenizer(asked: Named, config: dict[str, Any], options: Options) -> Tokenizer:
    if asked.name in EMBEDDED and options.tokenizer is None:
        return scenes_tokenizer(EMBEDDED[asked.name])
    return tokenizer_of(asked.source, asked.title, config["text_cfg"], options.tokenizer)


def _refuse_size(config: dict[str, Any], options: Options, title: str) -> None:
    """A size that open_clip would read in silence with positions in the wrong order, or that holds no patch."""
    size, vision = options.force_image_size, config["vision_cfg"]
    patch = vision.get("patch_size")
    if size is None or not patch:
        return
    patches = _grid(size, patch)
    own = _grid(vision.get("image_size", 224), patch)
    if min(patches) == 0:
        raise ValueError(f"{given_as('force_image_size')} {size} is smaller than one patch of {title}, {patch} pixels.")
    if patches != own and patches[0] * patches[1] == own[0] * own[1]:
        raise ValueError(
            f"{given_as('force_image_size')} {size} makes {patches[0]} x {patches[1]} patches of {title}, as many as "
            f"its own {own[0]} x {own[1]}: open_clip would not resize the position embedding, and read it in the wrong "
            f"order."
        )


def _grid(size: Any, patch: Any) -> tuple[int, int]:
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    rows, columns = patch if isinstance(patch, (list, tuple)) else (patch, patch)
    return int(height) // int(rows), int(width) // int(columns)


def _resized_timm(clip: Any, options: Options) -> str | None:
    """Resizes a timm tower to the size that was asked for; the sentence that says so."""
    size, visual = options.force_image_size, clip.visual
    if type(visual) is not TimmModel or size is None or tuple(size) == tuple(visual.image_size):
        return None
    trunk: Any = visual.trunk
    if not hasattr(trunk, "set_input_size"):  # Only some of timm's models have it, and it is public.
        raise UnfitError(f"has one image size, {clip.visual.image_size}: its {type(trunk).__name__} takes no other")
    before = tuple(clip.visual.image_size)
    clip.visual.set_input_size(size)
    settings: Any = clip.visual.preprocess_cfg
    settings["size"] = clip.visual.image_size
    return (
        f"Its position embedding was resized from images of {before} pixels to {tuple(size)}, by "
        f"{given_as('force_image_size')}."
    )


def _notes(asked: Named, weights: Weights, fitted: Fitted, resized: str | None) -> tuple[str, ...]:
    """What is said of the loading, a warning each: of the settings, of the file's wrappings, of what was changed."""
    notes = [] if asked.doubt is None else [f"{asked.title}: {asked.doubt}"]
    unwrapped = [*fitted.unwrapped]
    if not fitted.has_text:
        unwrapped.append("it holds no text tower, so texts are refused")
    if unwrapped:
        notes.append(f"{asked.title}: read from {weights.path.name} so: {'; '.join(unwrapped)}.")
    changed = [each for each in (*fitted.changed, resized, asked.choice) if each]
    if changed:
        notes.append(f"{asked.title}: {' '.join(changed)}")
    return tuple(notes)
