"""The checksum of each chunk of a store's arrays, kept beside the arrays.

A chunk ends with the CRC of its content, which zarr writes and compares. That alone would not show a whole chunk in the
place of another, or an older one, or none; so the CRC that belongs at each place is kept as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import google_crc32c
import numpy as np
from jaxtyping import UInt32
from safetensors import SafetensorError
from safetensors.numpy import load, save

CRC_BYTES = 4
TENSOR = "crc32c"


def crc_at_end(chunk: bytes | memoryview) -> int:
    """The CRC that a chunk says it has; -1 if it is too short to say."""
    return int.from_bytes(chunk[-CRC_BYTES:], "little") if len(chunk) >= CRC_BYTES else -1


def fault_of(chunk: bytes | None, expected: int) -> str | None:
    """What is wrong with a chunk that should have this CRC; None if nothing is."""
    if chunk is None:
        return "it is not there"
    if google_crc32c.value(chunk[:-CRC_BYTES]) != crc_at_end(chunk):
        return "its content is not that of its checksum" if chunk else "it is empty"
    return None if crc_at_end(chunk) == expected else "it is another chunk, or an older one"


@dataclass(frozen=True)
class ChunkChecksums:
    """CRC32C of every chunk.

    Attributes:
        patterns: keys of a block's chunks, as "mlps/c/{}/3/0"; {} stands for the number of the block.
        values: by block and pattern.
    """

    patterns: tuple[str, ...]
    values: UInt32[np.ndarray, "blocks patterns"]

    def to_bytes(self) -> bytes:
        """The values as a safetensors file."""
        return save({TENSOR: self.values})

    @classmethod
    def from_bytes(cls, patterns: tuple[str, ...], found: bytes) -> ChunkChecksums:
        """Reads what :meth:`to_bytes` wrote.

        Raises:
            ValueError: if it is no such file, or of other arrays.
        """
        try:
            values = load(found)[TENSOR]
        except (SafetensorError, KeyError) as error:
            raise ValueError(f"it holds no checksums ({error})") from error
        if values.dtype != np.uint32 or values.ndim != 2 or values.shape[1] != len(patterns):
            raise ValueError("it holds checksums of other arrays")
        return cls(patterns, values)

    def expected(self, key: str) -> int | None:
        """The CRC of the chunk at a key; None if there is no such chunk."""
        name, _, index = key.partition("/c/")
        block, _, rest = index.partition("/")
        column = self._columns.get(f"{name}/c/{{}}/{rest}" if rest else f"{name}/c/{{}}")
        if column is None or not block.isdecimal() or int(block) >= len(self.values):
            return None
        return int(self.values[int(block), column])

    def every(self) -> Iterator[tuple[str, int, int]]:
        """Every chunk's key, block and CRC, array by array."""
        for column, pattern in enumerate(self.patterns):
            for block, value in enumerate(self.values[:, column].tolist()):
                yield pattern.format(block), block, value

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {pattern: column for column, pattern in enumerate(self.patterns)}
