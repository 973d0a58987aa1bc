"""A zarr store that reads and writes plain files inside its folder alone, and compares what it reads."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from zarr.abc.store import ByteRequest, Store

from clip_lens_plugin.collection.checks.chunks import crc_at_end
from clip_lens_plugin.collection.errors import CollectionDamagedError
from clip_lens_plugin.dependencies.of_zarr import Buffer, BufferPrototype, Wrapper

Refusal = Callable[[str, bytes | None], None]
"""Raises CollectionDamagedError if a key holds something else than it should; None is for a file that is not there."""


class GuardedStore(Wrapper):
    """Another store, of which nothing is read that is refused.

    Args:
        store: the other.
        folder: where its files lie, None if they are no files here.
        refuse_other: None if nothing is known of what files should hold.
        written: takes the checksum that ends each chunk which is written, by key.
    """

    def __init__(
        self,
        store: Store,
        folder: Path | None = None,
        refuse_other: Refusal | None = None,
        written: dict[str, int] | None = None,
    ) -> None:
        super().__init__(store)
        self.folder, self.refuse_other, self.written = folder, refuse_other, written

    def around(self, store: Store) -> GuardedStore:
        return GuardedStore(store, self.folder, self.refuse_other, self.written)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GuardedStore) and self.inner == other.inner

    __hash__ = None  # type: ignore[assignment]

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        self._refuse_stray(key)
        found = await self.inner.get(key, prototype)
        if self.refuse_other is not None:
            self.refuse_other(key, None if found is None else found.to_bytes())
        return found if byte_range is None else await self.inner.get(key, prototype, byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def set(self, key: str, value: Buffer) -> None:
        self._refuse_stray(key)
        await self.inner.set(key, value)
        if self.written is not None:
            self.written[key] = crc_at_end(value.to_bytes())

    async def delete(self, key: str) -> None:
        self._refuse_stray(key)
        await self.inner.delete(key)

    def _refuse_stray(self, key: str) -> None:
        if self.folder is not None:
            refuse_stray(self.folder, key)


def refuse_stray(folder: Path, key: str) -> None:
    """Raises CollectionDamagedError if a key leads through a symbolic link, or to what is neither file nor folder."""
    path = folder
    for part in key.split("/"):
        path = path / part
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            what = "a symbolic link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
            raise CollectionDamagedError(key, folder, f"{path} is {what}, which collecting never makes")
