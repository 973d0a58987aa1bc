"""Makes TransformerLens know our architectures when this package is imported, which imports neither."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from clip_lens_plugin.after_import import after_import
from clip_lens_plugin.dependencies.names import attribute
from clip_lens_plugin.model.resolvers import Resolver, resolve_by

ARCHITECTURES = ("CLIPModel", "CLIPVisionModelWithProjection", "SiglipModel", "Siglip2Model")
WANTED = ("transformer_lens", __name__)


class _AdapterWhenUsed:
    """Stands for the adapter's class, which is loaded when a model is booted with it."""

    def __call__(self, cfg: Any) -> Any:
        return _adapter()(cfg)

    def __getattr__(self, name: str) -> Any:
        return getattr(_adapter(), name)


def register() -> None:
    """Makes ``boot_transformers`` know the architectures, and every function that takes a model what a bridge is.

    TransformerLens 4.3 reads the entry points only after it has looked a config's architecture up in its own table, and
    loads what its set of vision models does not name as a language model.
    """
    resolve_by(_resolver)
    after_import(
        {
            "transformer_lens.factories.architecture_adapter_factory": _add_adapters,
            "transformer_lens.utilities.architectures": _add_vision_models,
        },
    )


def _add_adapters(module: ModuleType) -> None:
    for name in ARCHITECTURES:
        attribute(module, "SUPPORTED_ARCHITECTURES", *WANTED).setdefault(name, _AdapterWhenUsed())


def _add_vision_models(module: ModuleType) -> None:
    attribute(module, "VISION_ARCHITECTURES", *WANTED).update(ARCHITECTURES)


def _adapter() -> type:
    from clip_lens_plugin.bridge.architecture import CLIPBridgeAdapter

    return CLIPBridgeAdapter


def _resolver() -> Resolver:
    from clip_lens_plugin.bridge.model import BridgeResolver

    return BridgeResolver()
