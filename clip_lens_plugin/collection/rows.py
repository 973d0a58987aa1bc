"""The arrays of a store: a row a sample, chunked by block, and by layer where there are layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import zarr
from torch import Tensor
from zarr.codecs import BloscCodec

from clip_lens_plugin.collection.plan import POOL_PARTS, Plan
from clip_lens_plugin.contributions import Contributions
from clip_lens_plugin.parts import Parts
from clip_lens_plugin.readout import Readout

COMPRESSOR = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")


def make_arrays(group: zarr.Group, plan: Plan) -> None:
    """Makes the empty arrays of a new store: n samples, l layers, h heads, k coordinates a head, e joint width.

    ``coordinates`` [n, l, h, k], ``mlps`` [n, l, e], ``self_attention`` [n, l, e] and ``embed`` [n, e] in the plan's
    dtype; ``embedding`` [n, e] and ``omega`` [n, p, r] in float32; ``label`` (-1 for unknown), ``kept`` (False for a
    sample that could not be read) and ``name``.
    """
    n, (l, h, k, e, p, r) = plan.n_samples, plan.shape
    rows = min(plan.block, n)
    layouts: dict[str, tuple[tuple[int, ...], tuple[int, ...], Any]] = {
        "coordinates": ((n, l, h, k), (rows, 1, h, k), plan.dtype),
        "mlps": ((n, l, e), (rows, 1, e), plan.dtype),
        "self_attention": ((n, l, e), (rows, 1, e), plan.dtype),
        "embed": ((n, e), (rows, e), plan.dtype),
        "embedding": ((n, e), (rows, e), "float32"),
        "omega": ((n, p, r), (rows, p, r), "float32"),
        **dict.fromkeys(plan.pool_parts, ((n, e), (rows, e), plan.dtype)),
        "label": ((n,), (rows,), "int64"),
        "kept": ((n,), (rows,), "bool"),
        "name": ((n,), (rows,), str),
    }
    if not plan.self_attention:
        del layouts["self_attention"]
    if plan.bias_weight:
        layouts["bias_weight"] = (n, l, p), (rows, l, p), "float32"
    for name, (shape, chunks, dtype) in layouts.items():
        group.create_array(name, shape=shape, chunks=chunks, dtype=dtype, compressors=COMPRESSOR, overwrite=True)


class BlockRows:
    """One block's rows, filled batch by batch in memory and written at once."""

    def __init__(self, plan: Plan, block: int) -> None:
        self.samples = plan.samples(block)
        n, (l, h, k, e, p, r) = len(self.samples), plan.shape
        self.arrays: dict[str, np.ndarray] = {
            "coordinates": np.zeros((n, l, h, k), plan.dtype),
            "mlps": np.zeros((n, l, e), plan.dtype),
            "embed": np.zeros((n, e), plan.dtype),
            "embedding": np.zeros((n, e), "float32"),
            "omega": np.zeros((n, p, r), "float32"),
            **{name: np.zeros((n, e), plan.dtype) for name in plan.pool_parts},
            "label": np.full(n, -1, "int64"),
            "kept": np.zeros(n, bool),
            "name": np.full(n, "", object),
        }
        if plan.self_attention:
            self.arrays["self_attention"] = np.zeros((n, l, e), plan.dtype)
        if plan.bias_weight:
            self.arrays["bias_weight"] = np.zeros((n, l, p), "float32")

    def name(self, position: int, name: str) -> None:
        """Notes a sample's name."""
        self.arrays["name"][position - self.samples.start] = name

    def fill(self, positions: list[int], labels: list[int], contributions: Contributions) -> None:
        """Puts a batch into its rows.

        Raises:
            OverflowError: if a value is too large for the store's dtype; its argument is the sample's position.
        """
        rows = np.asarray(positions) - self.samples.start
        c = contributions
        values = {
            "coordinates": c.head_coordinates,
            "mlps": c.mlps,
            "embed": c.embed,
            "embedding": c.embedding,
            "omega": c.omega,
            **{name: getattr(c, name) for name in POOL_PARTS if name in self.arrays},
        }
        if "self_attention" in self.arrays:
            values["self_attention"] = c.self_attention
        if "bias_weight" in self.arrays:
            values["bias_weight"] = c.bias_weight
        for name, tensor in values.items():
            target = self.arrays[name]
            with np.errstate(over="ignore"):
                cast = tensor.cpu().numpy().astype(target.dtype)
            if not np.isfinite(cast).all():
                bad = ~np.isfinite(cast).reshape(len(rows), -1).all(1)
                raise OverflowError(positions[int(bad.argmax())])
            target[rows] = cast
        self.arrays["label"][rows] = labels
        self.arrays["kept"][rows] = True

    def write(self, group: zarr.Group) -> None:
        """Writes the rows into the store."""
        for name, values in self.arrays.items():
            group[name][self.samples.start : self.samples.stop] = values  # type: ignore[index]


def read_contributions(group: zarr.Group, positions: np.ndarray, readout: Readout, plan: Plan) -> Contributions:
    """The contributions of samples in increasing order of position, in units of the unnormalised embedding."""
    start, stop = (int(positions[0]), int(positions[-1]) + 1) if len(positions) else (0, 0)
    chosen: slice | np.ndarray = slice(start, stop) if stop - start == len(positions) else positions

    def read(name: str) -> Tensor:
        array: Any = group[name]
        values = array[chosen] if isinstance(chosen, slice) else array.oindex[chosen]
        return torch.from_numpy(np.asarray(values)).to(readout.P)

    parts = Parts(
        embedding=read("embedding"),
        omega=read("omega"),
        coordinates=read("coordinates"),
        mlps=read("mlps"),
        embed=read("embed"),
        self_attention=read("self_attention") if plan.self_attention else None,
        **{name: read(name) if name in plan.pool_parts else None for name in POOL_PARTS},
        bias_weight=read("bias_weight") if plan.bias_weight else None,
        rounding=plan.rounding,
    )
    return Contributions(readout, parts)
