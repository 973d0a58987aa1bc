"""Where a store lies: a folder or any fsspec address, read and written through zarr."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import zarr
from filelock import FileLock, Timeout
from zarr.storage import FsspecStore, LocalStore

from clip_lens_plugin.collection.checks.guard import GuardedStore, Refusal, refuse_stray
from clip_lens_plugin.dependencies.of_zarr import default_buffer_prototype, path_of, sync

LOCK = "collect.lock"
LOCK_SECONDS = 8.0
"""How long a lock is waited for: reading processes of a killed run hold on to it for some seconds."""

HALF_WRITTEN = re.compile(r"([\w-]+)\.[0-9a-f]{32}\.partial")
"""Name of a file that is not whole yet, with the name that it will have, less its suffix."""


class CollectionInUseError(ValueError):
    """Another process is writing to the same place."""


def plain_path(address: str) -> str:
    """The path of an address of a file on this machine, as file:///data/store; other addresses as they are."""
    local = address.startswith(("file://", "local://"))
    return path_of(address) if local else address


class Place:
    """Keys and their bytes; a key that is set is there whole or not at all."""

    def __init__(self, address: str | Path) -> None:
        self.address = plain_path(str(address))
        self.is_local = "://" not in self.address
        try:
            if self.is_local:
                self.address = str(Path(self.address).resolve())
                self.store = GuardedStore(LocalStore(self.address), Path(self.address))
            else:
                self.store = GuardedStore(FsspecStore.from_url(self.address))
        except (ImportError, ValueError) as error:
            raise ValueError(f"The address {self.address} cannot be used: {error}") from error

    def __str__(self) -> str:
        return self.address

    @property
    def folder(self) -> Path | None:
        """The folder that it is; None if it is not on this machine."""
        return Path(self.address) if self.is_local else None

    def get(self, key: str) -> bytes | None:
        """The bytes of a key, None where there is none."""
        if self.is_local and not Path(self.address).is_dir():
            return None  # zarr would make the folder.
        found = sync(self.store.get(key, default_buffer_prototype()))
        return None if found is None else found.to_bytes()

    def set(self, key: str, value: bytes) -> None:
        """Replaces a key's bytes."""
        sync(self.store.set(key, default_buffer_prototype().buffer.from_bytes(value)))

    def create(self, key: str, value: bytes) -> None:
        """Sets a key that is not there.

        Raises:
            FileExistsError: if it is, as another process's may be since it was looked for; on an address on another
                machine that is not seen.
        """
        if not self.is_local:
            self.set(key, value)
            return
        path = Path(self.address, key)
        half = path.with_suffix(f".{uuid4().hex}.partial")
        half.write_bytes(value)
        try:
            os.link(half, path)
        except FileExistsError:
            raise
        except OSError:  # Some file systems know no links.
            with open(path, "xb") as file:
                file.write(value)
        finally:
            half.unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        """Removes a key."""
        sync(self.store.delete(key))

    def listed(self, prefix: str = "") -> list[str]:
        """All keys that begin so, sorted, without the lock."""

        async def found() -> list[str]:
            keys: AsyncIterator[str] = self.store.list_prefix(prefix)
            return [key async for key in keys]

        if self.is_local and not Path(self.address).is_dir():
            return []
        return sorted(key for key in sync(found()) if key != LOCK)

    def sizes(self, keys: Iterable[str]) -> dict[str, int | None]:
        """Bytes of each key; −1 where only its being there is known, None where it is not."""
        keys = list(keys)

        async def are_there() -> list[bool]:
            return await asyncio.gather(*(self.store.exists(key) for key in keys))

        if not self.is_local:
            return {key: -1 if there else None for key, there in zip(keys, sync(are_there()), strict=True)}
        found: dict[str, int | None] = {}
        for key in keys:
            refuse_stray(Path(self.address), key)
            path = Path(self.address, key)
            found[key] = path.stat().st_size if path.is_file() else None
        return found

    def foreign(self, first: str) -> str | None:
        """A file or folder in a place that nobody collected into; None if it is empty.

        What was left of writing the key ``first``, and the lock, are ours.
        """
        if not self.is_local:
            return next(iter(self.listed()), None)
        if not os.path.isdir(self.address):
            return None
        for each in sorted(os.scandir(self.address), key=lambda each: each.name):
            ours = each.name == LOCK and each.is_file(follow_symlinks=False) and each.stat().st_size == 0
            cut_off = HALF_WRITTEN.fullmatch(each.name)
            if not ours and not (cut_off and cut_off[1] == first.split(".")[0]):
                return each.name
        return None

    def group(
        self, write: bool = False, refuse_other: Refusal | None = None, written: dict[str, int] | None = None
    ) -> zarr.Group:
        """The zarr group here.

        Args:
            write: whether its arrays will be written to.
            refuse_other, written: see :class:`GuardedStore`.
        """
        store = GuardedStore(self.store._store, self.store.folder, refuse_other, written)
        return zarr.open_group(store, mode="r+" if write else "r", zarr_format=3, use_consolidated=False)

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
        refuse_stray(folder, LOCK)
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
        if self.is_local and folder.is_dir() and not folder.is_symlink():
            with suppress(OSError):  # It is not empty.
                folder.rmdir()

    def remove_half_written(self, files: Iterable[str], folders: Iterable[str]) -> None:
        """Removes what writes that were cut off left of these files, and of chunks and metadata in these folders."""
        if not self.is_local:
            return
        stems = {file.split(".")[0] for file in files}
        _remove_half_written(self.address, os.listdir(self.address), lambda stem: stem in stems)
        for name in folders:
            folder = Path(self.address, name)
            if folder.is_symlink():
                continue
            for root, _, names in os.walk(folder):
                _remove_half_written(root, names, lambda stem: stem == "zarr" or stem.isdecimal())


def _remove_half_written(folder: str, names: Iterable[str], ours: Callable[[str], bool]) -> None:
    for name in names:
        cut_off = HALF_WRITTEN.fullmatch(name)
        if cut_off and ours(cut_off[1]):
            Path(folder, name).unlink(missing_ok=True)
