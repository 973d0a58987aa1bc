"""CLIP encoders as TransformerLens models, decomposed exactly into heads, tokens, MLPs and constants.

Names are loaded when first used, from where ``__init__.pyi`` says.
"""

from importlib import import_module
from types import ModuleType
from typing import Any

import lazy_loader

from clip_lens_plugin.bridge.registration import register

__version__ = "0.1.0"
FACES = ("ablation", "datasets", "retrieval", "scenes", "segmentation", "views")
"""Modules with further public names, which ``import clip_lens_plugin`` alone gives as well."""

_named, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any | ModuleType:
    """A public name, or one of the modules of :data:`FACES`."""
    return import_module(f"{__name__}.{name}") if name in FACES else _named(name)


register()
del register
