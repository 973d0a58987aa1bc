"""Where a collection lies: a folder or any fsspec address, read and written through zarr's stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import zarr
from filelock import FileLock, Timeout
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore

LOCK = "collect.lock"
LOCK_SECONDS = 8.0
"""How long a lock is waited for: reading processes of a killed run hold on to it for some seconds."""


class CollectionInUseError(ValueError):
    """Another process is writing to the same place."""


class Place:
    """Keys and their bytes; a key that is set is there whole or not at all."""

    def __init__(self, address: str | Path) -> None:
        self.address = str(address)
        self.is_local = "://" not in self.address
        if self.is_local:
            self.address = str(Path(address).resolve())
        try:
            self.store: Store = LocalStore(self.address) if self.is_local else FsspecStore.from_url(self.address)
        except (ImportError, ValueError) as error:
            raise ValueError(f"The address {self.address} cannot be used: {error}") from error

    def __str__(self) -> str:
        return self.address

    def get(self, key: str) -> bytes | None:
        """The bytes of a key, None where there is none."""
        if self.is_local and not Path(self.address).is_dir():
            return None  # zarr would make the folder.
        found = sync(self.store.get(key, default_buffer_prototype()))
        return None if found is None else found.to_bytes()

    def set(self, key: str, value: bytes) -> None:
        """Replaces a key's bytes."""
        sync(self.store.set(key, default_buffer_prototype().buffer.from_bytes(value)))

    def delete(self, key: str) -> None:
        """Removes a key."""
        sync(self.store.delete(key))

    def listed(self, prefix: str = "") -> list[str]:
        """All keys that begin so, sorted, the lock apart."""

        async def found() -> list[str]:
            keys: AsyncIterator[str] = self.store.list_prefix(prefix)
            return [key async for key in keys]

        if self.is_local and not Path(self.address).is_dir():
            return []
        return sorted(key for key in sync(found()) if key != LOCK)

    def group(self, write: bool = False) -> zarr.Group:
        """The zarr group here; made if it is written to."""
        return zarr.open_group(self.store, mode="a" if write else "r")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds a folder for this process; the lock ends with the process, however that ends.

        An address on another machine is not locked, since fsspec has no locks.

        Raises:
            CollectionInUseError: if another process holds it.
        """
        if not self.is_local:
            yield
            return
        folder = Path(self.address)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file, expected a folder to collect into.")
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=LOCK_SECONDS)
        try:
            lock.acquire()
        except Timeout:
            raise CollectionInUseError(
                f"Another process is collecting into {folder}. Wait for it to end, or choose another folder."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def remove_empty_folder(self, prefix: str) -> None:
        """Removes a folder that holds no key; an address on another machine has no empty folders."""
        folder = Path(self.address) / prefix
        if self.is_local and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    def remove_half_written(self) -> None:
        """Removes what writes that were cut off left in a folder."""
        if self.is_local:
            for path in Path(self.address).rglob("*.partial"):
                path.unlink(missing_ok=True)
