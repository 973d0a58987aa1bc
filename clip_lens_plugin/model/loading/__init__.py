"""Loads open_clip's and Hugging Face's models, and turns what can go wrong into one message that says what to do."""

from __future__ import annotations

from clip_lens_plugin.model.loading.by_name import Loaded, Origin, load
from clip_lens_plugin.model.loading.errors import LoadingWarning, ModelNotFoundError
from clip_lens_plugin.model.loading.names import SCENES_FOLDER
from clip_lens_plugin.model.loading.options import Options

__all__ = ["SCENES_FOLDER", "Loaded", "LoadingWarning", "ModelNotFoundError", "Options", "Origin", "load"]
