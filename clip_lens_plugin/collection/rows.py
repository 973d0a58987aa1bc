"""The arrays of a store: one row per sample, chunked by block, and by layer where there are layers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import zarr
from jaxtyping import Float, Float64, UInt32
from torch import Tensor
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import MemoryStore

from clip_lens_plugin.collection.errors import NOT_WHOLE, CollectionDamagedError
from clip_lens_plugin.collection.place import Place
from clip_lens_plugin.collection.plan import Plan
from clip_lens_plugin.decomposition.contributions import Contributions
from clip_lens_plugin.decomposition.parts.extras import COMPONENTS
from clip_lens_plugin.decomposition.parts.parts import Parts
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.dependencies.of_zarr import ArrayV3Metadata, GroupMetadata

COMPRESSOR = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")
MOST_ROWS = 2**40
"""Length of the arrays of a stream before it is known; what is not written takes no room."""

MOST_HELD = 32 * 2**20
"""Bytes of what is read at once of a few heads, or one block: reading starts anew for each piece."""

BY_LAYER = ("coordinates", "mlps", "self_attention")
OF_SAMPLES = ("label", "kept", "name")


def make_arrays(place: Place, plan: Plan) -> None:
    """Makes the zarr group and the empty arrays of a store that are not there yet.

    n samples, l layers, h heads, k coordinates per head, e joint width: ``coordinates`` [n, l, h, k], ``mlps``
    [n, l, e], ``self_attention`` [n, l, e] and ``embed`` [n, e] in the plan's dtype; ``embedding`` [n, e] and ``omega``
    [n, p, r] in float32; the plan's extras, components [n, e] in its dtype and weights [n, l, p] in float32; ``label``
    (-1 for unknown), ``kept`` (False for a sample that could not be read) and ``name``.
    """
    for key, made in _metadata(plan).items():
        found = place.get(key)
        if found is None or (plan.is_of_stream and found != made):
            place.set(key, made)
        elif found != made and not _is_same(found, made):
            raise CollectionDamagedError(key, place, "it describes something else than this store")


def metadata_keys(plan: Plan) -> list[str]:
    """Keys of the files that say what the group and the arrays are."""
    return ["zarr.json", *(f"{name}/zarr.json" for name in array_names(plan))]


def _metadata(plan: Plan) -> dict[str, bytes]:
    """What a store's metadata are, by key."""
    made: dict[str, Any] = {}
    group = zarr.create_group(MemoryStore(made), zarr_format=3)
    n = MOST_ROWS if plan.n_samples is None else plan.n_samples
    rows = plan.block if plan.is_of_stream else min(plan.block, n)
    for name in array_names(plan):
        shape, dtype = _layouts(plan)[name]
        chunks = (rows, 1, *shape[1:]) if name in BY_LAYER else (rows, *shape)
        codecs = [COMPRESSOR, Crc32cCodec()]
        group.create_array(name, shape=(n, *shape), chunks=chunks, dtype=dtype, compressors=codecs)
    return {key: made[key].to_bytes() for key in metadata_keys(plan)}


def _is_same(found: bytes, made: bytes) -> bool:
    """Whether two descriptions of an array or a group say the same, perhaps in other words."""
    try:
        values = json.loads(found), json.loads(made)
        read = GroupMetadata if values[1]["node_type"] == "group" else ArrayV3Metadata
        return read.from_dict(values[0]) == read.from_dict(values[1])
    except NOT_WHOLE:
        return False


def array_names(plan: Plan) -> tuple[str, ...]:
    """The arrays of a store; none where no rows are kept."""
    return tuple(_layouts(plan)) if plan.what == "contributions" else ()


def chunk_patterns(plan: Plan) -> tuple[str, ...]:
    """Keys of the chunks of a block, {} for its number; none where no rows are kept."""
    patterns = []
    for name in array_names(plan):
        shape, _ = _layouts(plan)[name]
        rest = ["0"] * len(shape)
        for layer in range(shape[0] if name in BY_LAYER else 1):
            index = [str(layer), *rest[1:]] if name in BY_LAYER else rest
            patterns.append("/".join([name, "c", "{}", *index]))
    return tuple(patterns)


def _layouts(plan: Plan) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and dtype of one sample's row in each array that this model's store holds."""
    l, h, k, e, p, r = plan.shape
    return {
        "coordinates": ((l, h, k), plan.dtype),
        "mlps": ((l, e), plan.dtype),
        **({"self_attention": ((l, e), plan.dtype)} if plan.self_attention else {}),
        "embed": ((e,), plan.dtype),
        "embedding": ((e,), "float32"),
        "omega": ((p, r), "float32"),
        **{name: ((e,), plan.dtype) if name in COMPONENTS else ((l, p), "float32") for name in plan.extras},
        "label": ((), "int64"),
        "kept": ((), "bool"),
        "name": ((), str),
    }


class BlockRows:
    """One block's rows, filled batch by batch in memory and written at once."""

    def __init__(self, plan: Plan, block: int) -> None:
        self.samples = plan.samples(block)
        self.arrays: dict[str, np.ndarray] = {
            name: np.zeros((len(self.samples), *shape), object if dtype is str else dtype)
            for name, (shape, dtype) in _layouts(plan).items()
        }
        self.arrays["label"][:] = -1
        self.arrays["name"][:] = ""

    def name(self, position: int, name: str) -> None:
        """Notes a sample's name."""
        self.arrays["name"][position - self.samples.start] = name

    def fill(self, positions: list[int], labels: list[int], contributions: Contributions) -> None:
        """Puts a batch into its rows.

        Raises:
            OverflowError: if a value is too large for the store's dtype; its argument is the sample's position.
        """
        rows = np.asarray(positions) - self.samples.start
        renamed = {"coordinates": contributions.head_coordinates, **contributions.extra_components}
        for name, target in self.arrays.items():
            if name in OF_SAMPLES:
                continue
            tensor = renamed[name] if name in renamed else getattr(contributions, name)
            with np.errstate(over="ignore"):
                cast = tensor.cpu().numpy().astype(target.dtype)
            if not np.isfinite(cast).all():
                bad = ~np.isfinite(cast).reshape(len(rows), -1).all(1)
                raise OverflowError(positions[int(bad.argmax())])
            target[rows] = cast
        self.arrays["label"][rows] = labels
        self.arrays["kept"][rows] = True


class RowWriter:
    """Writes blocks' rows into the arrays of a store."""

    def __init__(self, place: Place, plan: Plan) -> None:
        self._patterns = chunk_patterns(plan) if plan.has_checksums else ()
        self._written: dict[str, int] = {}
        # Where a chunk of zeros is written too, one that is not there is damage.
        with zarr.config.set({"array.write_empty_chunks": plan.has_checksums}):
            group = place.group(write=True, written=self._written)
            self._arrays: dict[str, Any] = {name: group[name] for name in _layouts(plan)}

    def write(self, rows: BlockRows, block: int) -> UInt32[np.ndarray, " patterns"]:
        """Writes a block; the checksums of its chunks, none in stores of earlier versions."""
        for name, values in rows.arrays.items():
            self._arrays[name][rows.samples.start : rows.samples.stop] = values
        checksums = [self._written[pattern.format(block)] for pattern in self._patterns]
        self._written.clear()
        return np.array(checksums, np.uint32)


def read_rows(group: zarr.Group, name: str, positions: np.ndarray, at: tuple[int | slice, ...] = ()) -> np.ndarray:
    """The values of samples in increasing order of position; where ``at`` is given, there alone in the other axes."""
    array: Any = group[name]
    start, stop = (int(positions[0]), int(positions[-1]) + 1) if len(positions) else (0, 0)
    if stop - start == len(positions):
        return np.asarray(array[(slice(start, stop), *at)])
    return np.asarray(array.oindex[(positions, *at)])


def larger_blocks(blocks: Iterator[range], width: int) -> Iterator[range]:
    """Blocks one after another as one, as long as float64 numbers, ``width`` for each row, are few enough to hold."""
    most, held = max(1, MOST_HELD // (8 * width)), range(0)
    for rows in blocks:
        if len(held) and rows.stop - held.start > most:
            yield held
            held = range(0)
        held = range(held.start if len(held) else rows.start, rows.stop)
    if len(held):
        yield held


class EmbeddingNorms:
    """Lengths of the samples' embeddings; each is read once, when it is first needed."""

    def __init__(self) -> None:
        self._known = np.empty(0)

    def at(self, group: zarr.Group, positions: np.ndarray) -> Float64[np.ndarray, " s"]:
        """The norms of samples in increasing order of position."""
        lacking = int(positions[-1]) + 1 - len(self._known) if len(positions) else 0
        if lacking > 0:
            self._known = np.concatenate([self._known, np.full(lacking, np.nan)])
        new = positions[np.isnan(self._known[positions])]
        if len(new):
            self._known[new] = np.linalg.norm(read_rows(group, "embedding", new).astype(np.float64), axis=-1)
        return self._known[positions]


def read_heads(
    group: zarr.Group, norms: EmbeddingNorms, heads: Sequence[tuple[int, int]], positions: np.ndarray
) -> Float[Tensor, "s m k"]:
    """Coordinates of m heads in cosine units, in float64, of samples in increasing order of position."""
    within: dict[int, list[int]] = {}
    for layer, head in heads:
        within.setdefault(layer, []).append(head)
    first = {layer: min(each) for layer, each in within.items()}
    read = {
        layer: read_rows(group, "coordinates", positions, (layer, slice(first[layer], max(each) + 1)))
        for layer, each in within.items()
    }
    y = np.stack([read[layer][:, head - first[layer]] for layer, head in heads], axis=1, dtype=np.float64)
    return torch.from_numpy(y / norms.at(group, positions)[:, None, None])


def read_contributions(group: zarr.Group, positions: np.ndarray, readout: Readout, plan: Plan) -> Contributions:
    """The contributions of samples in increasing order of position, in units of the unnormalised embedding."""

    def read(name: str) -> Tensor:
        return torch.from_numpy(read_rows(group, name, positions)).to(readout.P)

    parts = Parts(
        embedding=read("embedding"),
        omega=read("omega"),
        coordinates=read("coordinates"),
        mlps=read("mlps"),
        embed=read("embed"),
        self_attention=read("self_attention") if plan.self_attention else None,
        extras={name: read(name) for name in plan.extras},
        rounding=plan.rounding,
        noise=plan.noise,
        head_edits={},
    )
    return Contributions(readout, parts)
