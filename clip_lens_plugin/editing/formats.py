"""The two kinds of folder that a model is saved to, each written for its own library and read by it."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
from open_clip.model import CustomTextCLIP
from safetensors.torch import save_file
from torch import Tensor, nn

from clip_lens_plugin.adapters.text.logits import logit_bias_of
from clip_lens_plugin.adapters.transformers_tower import HuggingFaceCLIP
from clip_lens_plugin.files.whole import whole_files
from clip_lens_plugin.model.loading.errors import first_line, quiet, refuse_machine_errors
from clip_lens_plugin.model.loading.hub_model import without_bars
from clip_lens_plugin.model.loading.image_tower import ImageTower
from clip_lens_plugin.model.loading.names import source_config

PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")


class OpenClipFolder:
    """That of an open_clip model.

    Args:
        model: a ``HookedCLIP``.
        model_cfg: its config; that by which it was loaded if not given.

    Attributes:
        loader: who loads it.
        has_preprocessing: whether its settings are known.

    Raises:
        ValueError: if there is no config, or the model is an image tower alone.
    """

    loader = "open_clip"

    def __init__(self, model: Any, model_cfg: Mapping[str, Any] | None) -> None:
        name = model.cfg.model_name
        if isinstance(model.clip, ImageTower):
            raise ValueError(
                f"{name} was loaded without its text tower, and open_clip loads whole models alone: {model.clip.why}"
            )
        self._clip, self._origin = model.clip, model.origin
        if model_cfg is None and self._origin is None:
            raise ValueError(
                f"{name} was not loaded by this package, so open_clip's config of it is not known: give "
                f"model_cfg=open_clip.get_model_config(NAME), or the dictionary that it was built by."
            )
        if model_cfg is not None and not isinstance(model_cfg, Mapping):
            raise ValueError(f"model_cfg is a dictionary, open_clip's config, got {type(model_cfg).__name__}.")
        given = source_config(self._origin.name) if model_cfg is None else model_cfg
        if not all(isinstance(given.get(part), Mapping) for part in ("vision_cfg", "text_cfg")):
            raise ValueError(f"model_cfg must have a vision_cfg and a text_cfg, got {sorted(map(str, given))}.")
        self._config = self._adapted(copy.deepcopy(dict(given)), model.cfg.image_size)
        settings = open_clip.get_model_preprocess_cfg(self._clip)
        self._preprocessing = {step: settings[step] for step in PREPROCESSING if settings.get(step) is not None}

    @property
    def has_preprocessing(self) -> bool:
        return bool(self._preprocessing)

    def _adapted(self, config: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
        """The config of the model as it is: its activation and size, and nothing to be fetched."""
        vision, text = dict(config["vision_cfg"]), dict(config["text_cfg"])
        vision["image_size"] = size[0] if size[0] == size[1] else list(size)
        if "timm_model_name" in vision:
            vision["timm_model_pretrained"] = False
        if "hf_model_name" in text:
            text["hf_model_pretrained"] = False
        config |= {"vision_cfg": vision, "text_cfg": text}
        if self._origin is not None and self._origin.quick_gelu is not None:
            config["quick_gelu"] = self._origin.quick_gelu
        if type(self._clip) is CustomTextCLIP:
            config["custom_text"] = True
        if logit_bias_of(self._clip) is not None and config.get("init_logit_bias") is None:
            config["init_logit_bias"] = 0.0
        return config

    def write(self, folder: Path) -> None:
        """Writes config and weights."""
        held: dict[str, Any] = {"model_cfg": self._config}
        if self._preprocessing:
            held["preprocess_cfg"] = self._preprocessing
        try:
            config_text = json.dumps(held, indent=2)
        except (TypeError, ValueError) as error:
            raise ValueError(f"model_cfg cannot be written as JSON: {first_line(error)}.") from error
        with whole_files() as beside:
            beside(folder / "open_clip_config.json").write_text(config_text + "\n", encoding="utf-8")
            save_file(_own_tensors(self._clip), beside(folder / "open_clip_model.safetensors"))

    def load(self, folder: Path) -> Any:
        """What open_clip makes of the folder.

        Raises:
            ValueError: if it cannot.
        """
        try:
            with quiet():
                return open_clip.create_model(f"local-dir:{folder}", device="cpu", pretrained_text=False).eval()
        except Exception as error:
            refuse_machine_errors(error)
            raise ValueError(
                f"open_clip cannot load what was written: {first_line(error)}. The config must be that of this very "
                f"model; give it as model_cfg."
            ) from error


class HuggingFaceFolder:
    """That of a model of Hugging Face's; see :class:`OpenClipFolder`."""

    has_preprocessing = False
    """By itself: its image processor is a file beside."""

    def __init__(self, model: Any) -> None:
        self._original = model.clip._original[0]
        self.loader = type(self._original).__name__

    def write(self, folder: Path) -> None:
        """As the model's own ``save_pretrained``."""
        with without_bars():
            self._original.save_pretrained(folder)

    def load(self, folder: Path) -> Any:
        """What the model's own class makes of the folder, in open_clip's shape."""
        dtype = next(self._original.parameters()).dtype
        with without_bars():
            loaded = type(self._original).from_pretrained(folder, use_safetensors=True, dtype=dtype)
        return HuggingFaceCLIP(loaded.eval())


def _own_tensors(clip: nn.Module) -> dict[str, Tensor]:
    """The weights on the CPU, each in memory of its own as safetensors asks for."""
    seen: set[int] = set()
    found = {}
    for name, value in clip.state_dict().items():
        tensor = value.detach().to("cpu").contiguous()
        place = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return found
