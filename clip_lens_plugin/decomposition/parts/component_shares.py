"""How much of an image's embedding each component is: s = c · M(I) / ‖M(I)‖², which sum to 1 over the components."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.parts.component_values import ComponentValues
from clip_lens_plugin.decomposition.parts.extras import COMPONENTS
from clip_lens_plugin.numerics.precision import full_precision
from clip_lens_plugin.shown import ResultTable

OF_LAYERS = ("attn_bias", "mlp", "edits")
COLUMNS = ["part", "layer", "head", "share_mean", "share_std"]

Component = tuple[str, int | None, int | None, str, tuple[int, ...]]
"""Part, layer and head as tables have them; and the name of its tensor and where it stands in that."""


def component_shares(contributions: ComponentValues) -> dict[str, Float[Tensor, "b ..."]]:
    """s = c · M / ‖M‖² of each component of b images, by part as :func:`component_scores` gives them."""
    return component_scores(contributions, equations.own_direction(contributions.embedding))


@full_precision()
def component_scores(
    contributions: ComponentValues, directions: Float[Tensor, "d e"]
) -> dict[str, Float[Tensor, "b ..."]]:
    """c · d of each component of b images, in float64 on the CPU; they sum to M · d.

    A head's is y · (M_{l,h} d), so that nothing of the joint space's width is built for a head.

    Args:
        directions: d of each image, or one d [1, e] for all of them.

    Returns:
        By part: "heads" [b, l, h]; "attn_bias" and "mlp" [b, l]; "embed" and "ln_bias" [b]; and, where there are such,
        "edits" [b, l], and those of :data:`~clip_lens_plugin.decomposition.parts.extras.COMPONENTS` [b].
    """
    c = contributions
    of_heads = c.readout.directions(directions, c.constants)
    if len(directions) == 1:
        heads = equations.head_scores(c.head_coordinates, of_heads)[..., 0]
        directions = directions.expand(len(c), -1)
    else:
        heads = equations.heads_along(c.head_coordinates, of_heads)
    for layer, edit in c.head_edits.items():
        heads[:, layer] += equations.along(edit, directions)
    wide = {
        "embed": c.embed,
        "attn_bias": c.attn_bias,
        "mlp": c.mlps,
        "edits": c.edits if c.has_edits else None,
        "ln_bias": c.ln_bias,
        **c.extra_components,
    }
    scores = {name: equations.along(part, directions) for name, part in wide.items() if part is not None}
    return {name: each.double().cpu() for name, each in {**scores, "heads": heads}.items()}


class Shares(ResultTable):
    """Mean share of each component, one row per component; in a notebook it draws the heads'."""


@dataclass(frozen=True)
class ShareStatistics:
    """Mean and standard deviation (over n, not n − 1) of shares over n images.

    Attributes:
        mean, std: by part, as :func:`component_shares` gives them of one image; "together" is of all heads of a layer
            [l].
    """

    mean: dict[str, Tensor]
    std: dict[str, Tensor]

    @classmethod
    def of(cls, blocks: Iterable[ComponentValues]) -> ShareStatistics:
        """The statistics of all images of the blocks, of which one is in memory at a time.

        Raises:
            ValueError: if there is no image.
        """
        n, mean, squares = 0, {}, {}
        for block in blocks:
            shares = component_shares(block)
            shares["together"] = shares["heads"].sum(-1)
            more = len(shares["embed"])
            for name, values in shares.items():
                # Chan, Golub and LeVeque (1983): means, and squares about them, of two sets give those of both.
                own = values.mean(0)
                away = own - mean.get(name, own)
                between = away.square() * (n * more / (n + more))
                squares[name] = squares.get(name, 0.0) + (values - own).square().sum(0) + between
                mean[name] = mean.get(name, own) + away * (more / (n + more))
            n += more
        if n == 0:
            raise ValueError("There are no shares of no images: give data of one image or more.")
        return cls(mean, {name: (each / n).sqrt() for name, each in squares.items()})

    def by_component(self) -> Shares:
        """One row per component: part, layer, head, share_mean, share_std; the means sum to 1."""
        return Shares(self._table(each_component(self.mean, together=False)))

    def by_layer(self) -> pd.DataFrame:
        """One row per part of a layer, its heads together: part, layer, share_mean, share_std; the means sum to 1."""
        return self._table(each_component(self.mean, together=True)).drop(columns="head")

    def by_head(self) -> pd.DataFrame:
        """One row per head: layer, head, share_mean, share_std."""
        table = self._table(each for each in each_component(self.mean, together=False) if each[0] == "head")
        return table.drop(columns="part").astype({"layer": "int64", "head": "int64"})

    def _table(self, rows: Iterable[Component]) -> pd.DataFrame:
        found = [
            (part, layer, head, float(self.mean[name][at]), float(self.std[name][at]))
            for part, layer, head, name, at in rows
        ]
        return pd.DataFrame(found, columns=COLUMNS).astype({"layer": "Int64", "head": "Int64"})


def shares_by_image(blocks: Iterable[ComponentValues]) -> pd.DataFrame:
    """One row per image and component: row, part, layer, head, share; of each image they sum to 1."""
    columns = ["row", "part", "layer", "head", "share"]
    tables, n = [], 0
    for block in blocks:
        shares, rows = component_shares(block), range(n, n + len(block))
        n = rows.stop
        one = {name: each[0] for name, each in shares.items()}
        components = list(each_component(one, together=False))
        values = torch.stack([shares[name][(slice(None), *at)] for *_, name, at in components], dim=1)
        found = [(row, *each[:3]) for row in rows for each in components]
        tables.append(pd.DataFrame(found, columns=columns[:-1]).assign(share=values.flatten().numpy()))
    return pd.concat(tables or [pd.DataFrame(columns=columns)], ignore_index=True).astype(
        {"layer": "Int64", "head": "Int64"}
    )


def each_component(shares: Mapping[str, Tensor], together: bool) -> Iterator[Component]:
    """Each component in the order of the model, a layer's heads one by one or together.

    Args:
        shares: of one image or a mean, by part as :func:`component_scores` gives them of an image.
        together: a layer's heads as one, under the name "together".
    """
    yield "embed", None, None, "embed", ()
    n_layers, n_heads = shares["heads"].shape
    for layer in range(n_layers):
        if together:
            yield "heads", layer, None, "together", (layer,)
        else:
            yield from (("head", layer, head, "heads", (layer, head)) for head in range(n_heads))
        yield from ((part, layer, None, part, (layer,)) for part in OF_LAYERS if part in shares)
    yield from ((part, None, None, part, ()) for part in ("ln_bias", *COMPONENTS) if part in shares)
