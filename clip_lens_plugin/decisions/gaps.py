"""The gap between two texts, taken apart: a table of what each part of the image adds to it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.decomposition.parts.component_shares import each_component


@dataclass(frozen=True, eq=False)
class GapTable:
    """Parts that sum to the gap, the largest first.

    Attributes:
        name: of its parts: "heads", "patches".
        rows: ``part``, columns that identify it, such as layer and head, and ``gap``, what it adds.
        error: how far their sum is from the gap.
    """

    name: str
    rows: pd.DataFrame
    error: float

    @classmethod
    def of(cls, name: str, rows: pd.DataFrame, gap: float) -> GapTable:
        """The table of these rows, in any order, and of the gap that they should sum to."""
        largest_first = rows.sort_values("gap", key=abs, ascending=False, kind="stable", ignore_index=True)
        return cls(name, largest_first, abs(math.fsum(rows["gap"].tolist()) - gap))


def head_table(scores: Mapping[str, Tensor], removed: Float[Tensor, "l h"], gap: float) -> GapTable:
    """What each head, MLP and constant adds: part, layer, head, gap, removed.

    Args:
        scores: of one image, by part as
            :func:`~clip_lens_plugin.decomposition.parts.component_shares.component_scores` gives them.
        removed: what is taken from the gap if the head is replaced in the sum; none for other parts.
    """
    found = [
        (part, layer, head, float(scores[name][at]), float(removed[at]) if part == "head" else None)
        for part, layer, head, name, at in each_component(scores, together=False)
    ]
    rows = pd.DataFrame(found, columns=["part", "layer", "head", "gap", "removed"])
    return GapTable.of("heads", rows.astype({"layer": "Int64", "head": "Int64", "removed": "float64"}), gap)


def patch_table(
    scores: Mapping[str, Tensor], by_token: Float[Tensor, " n"], grid_size: tuple[int, int], gap: float
) -> GapTable:
    """The gap by patch, through all heads, and the parts that come from no head: part, row, column, gap.

    Args:
        scores: see :func:`head_table`.
        by_token: what each source token adds; the class token and registers where there are any come first.
        grid_size: rows and columns of patches.
    """
    height, width = grid_size
    before = len(by_token) - height * width
    patches: Iterable[tuple[str, int | None, int | None, float]] = [
        ("patch", i // width, i % width, value) for i, value in enumerate(by_token[before:].tolist())
    ]
    named = "class token" if before == 1 else "class token and registers"
    tokens = [(named, None, None, float(by_token[:before].sum()))] if before else []
    rest = [(part, None, None, float(each.sum())) for part, each in scores.items() if part != "heads"]
    rows = pd.DataFrame([*patches, *tokens, *rest], columns=["part", "row", "column", "gap"])
    return GapTable.of("patches", rows.astype({"row": "Int64", "column": "Int64"}), gap)
