"""zarr's names below ``zarr.core``, and private ones of its stores and of fsspec."""

from __future__ import annotations

from fsspec.implementations.local import LocalFileSystem
from zarr.abc.store import Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.core.group import GroupMetadata
from zarr.core.metadata import ArrayV3Metadata
from zarr.core.sync import sync

NAMES = (
    "zarr.abc.store:Store._get_many",
    "zarr.abc.store:Store._set_many",
    "zarr.core.buffer:default_buffer_prototype",
    "zarr.core.group:GroupMetadata.from_dict",
    "zarr.core.metadata:ArrayV3Metadata.from_dict",
    "zarr.core.sync:sync",
    "fsspec.implementations.local:LocalFileSystem._strip_protocol",
)

GET_MANY, SET_MANY = Store._get_many, Store._set_many
"""What reads and writes many keys one by one, through a store's own checks."""


def path_of(address: str) -> str:
    """The path of an address of a file on this machine."""
    return str(LocalFileSystem._strip_protocol(address))


__all__ = [
    "GET_MANY",
    "NAMES",
    "SET_MANY",
    "ArrayV3Metadata",
    "Buffer",
    "BufferPrototype",
    "GroupMetadata",
    "default_buffer_prototype",
    "path_of",
    "sync",
]
