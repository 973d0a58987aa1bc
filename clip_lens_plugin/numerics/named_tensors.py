"""Tensors by name, as a result: a dictionary that shows itself as a table and not as all its numbers."""

from __future__ import annotations

from typing import TypeVar

import pandas as pd
from torch import Tensor

from clip_lens_plugin.shown import Tabled

Name = TypeVar("Name", str, int)


class NamedTensors(dict[Name, Tensor], Tabled):
    """A dictionary of tensors, by hook point or by layer; made as a ``dict`` is."""

    def to_dataframe(self) -> pd.DataFrame:
        """One row per tensor: ``name``, ``shape``, ``dtype``, and ``mean``, ``std``, ``lowest`` and ``highest`` of its
        numbers; NaN where it has none.
        """
        rows = [
            {
                "name": name,
                "shape": " × ".join(map(str, tensor.shape)),
                "dtype": str(tensor.dtype).removeprefix("torch."),
                **_summary(tensor),
            }
            for name, tensor in self.items()
        ]
        return pd.DataFrame(rows, columns=["name", "shape", "dtype", "mean", "std", "lowest", "highest"])

    def __repr__(self) -> str:
        """Names and shapes, one line for each tensor."""
        lines = [f"  {name!r}: {list(tensor.shape)}, {tensor.dtype}" for name, tensor in self.items()]
        return "\n".join([f"NamedTensors of {len(self)}:", *lines])

    def __str__(self) -> str:
        return "1 tensor" if len(self) == 1 else f"{len(self)} tensors"


def _summary(tensor: Tensor) -> dict[str, float]:
    if tensor.numel() == 0:
        return {}
    wide = tensor.detach().double()
    std = float(wide.std(correction=0))
    return {"mean": float(wide.mean()), "std": std, "lowest": float(wide.min()), "highest": float(wide.max())}
