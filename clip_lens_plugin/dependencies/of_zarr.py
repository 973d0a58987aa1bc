"""zarr's names below ``zarr.core``, and private ones of its stores and of fsspec."""

from __future__ import annotations

from typing import Any

from fsspec.implementations.local import LocalFileSystem
from zarr.abc.store import Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.core.group import GroupMetadata
from zarr.core.metadata import ArrayV3Metadata
from zarr.core.sync import sync
from zarr.storage import WrapperStore

from clip_lens_plugin.dependencies.names import attribute, overriding

NAMES = (
    "zarr.abc.store:Store._get_many",
    "zarr.abc.store:Store._set_many",
    "zarr.core.buffer:default_buffer_prototype",
    "zarr.core.group:GroupMetadata.from_dict",
    "zarr.core.metadata:ArrayV3Metadata.from_dict",
    "zarr.core.sync:sync",
    "zarr.storage:WrapperStore._get_many",
    "zarr.storage:WrapperStore._set_many",
    "zarr.storage:WrapperStore._with_store",
    "fsspec.implementations.local:LocalFileSystem._strip_protocol",
)


@overriding("zarr", "_get_many", "_set_many", "_with_store")
class Wrapper(WrapperStore[Store]):
    """A store around another, which reads and writes many keys one by one, through its own ``get`` and ``set``.

    Attributes:
        inner: the other store.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.inner = store

    def around(self, store: Store) -> Wrapper:
        """One like it, with all its checks, around another store."""
        raise NotImplementedError

    def _with_store(self, store: Store) -> Wrapper:
        return self.around(store)

    # Those of WrapperStore would go past the checks.
    _get_many: Any = attribute(Store, "_get_many", "zarr", __name__)
    _set_many: Any = attribute(Store, "_set_many", "zarr", __name__)


def path_of(address: str) -> str:
    """The path of an address of a file on this machine."""
    return str(attribute(LocalFileSystem, "_strip_protocol", "fsspec", __name__)(address))


__all__ = [
    "NAMES",
    "ArrayV3Metadata",
    "Buffer",
    "BufferPrototype",
    "GroupMetadata",
    "Wrapper",
    "default_buffer_prototype",
    "path_of",
    "sync",
]
