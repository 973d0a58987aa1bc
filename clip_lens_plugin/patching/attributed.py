"""Estimates of attribution patching with the exact values beside them, and how far the two agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from clip_lens_plugin.patching.kinds import KindName, kind_called
from clip_lens_plugin.shown import Shown

NAMED = 3
"""How many of those with the wrong sign a line names."""


@dataclass(frozen=True, eq=False, repr=False)
class AttributionPatching(Shown):
    """What each head, or neuron, is estimated to carry of the difference between corrupted and clean inputs.

    Some were patched as well. That they agree with their estimates is the reason to trust the others.

    Attributes:
        kind: "heads" or "neurons".
        estimates: of the metric's change if one is patched from the clean run [b, l, u]; float64, as all of it.
        corrupted, clean: the metric of the inputs as they are [b].
        checked: (layer, number) of the c that were patched as well, in the order of the model.
        greatest: those of them whose estimates are the greatest; the others were drawn at random.
        exact: the metric's change in their patched runs [b, c].
        noise: size of a change that is nothing but rounding.
    """

    kind: KindName
    estimates: Float[Tensor, "b l u"]
    corrupted: Float[Tensor, " b"]
    clean: Float[Tensor, " b"]
    checked: tuple[tuple[int, int], ...]
    greatest: frozenset[tuple[int, int]]
    exact: Float[Tensor, "b c"]
    noise: float

    @property
    def checked_estimates(self) -> Float[Tensor, "b c"]:
        """The estimates of :attr:`checked`."""
        layers, numbers = zip(*self.checked, strict=True)
        return self.estimates[:, list(layers), list(numbers)]

    @property
    def correlation(self) -> float:
        """Pearson's, of the estimates and exact values of :attr:`checked`, pair by pair; NaN where either is constant.

        The greatest make most of it; see :attr:`random_correlation`.
        """
        return _correlation(self.checked_estimates, self.exact)

    @property
    def random_correlation(self) -> float:
        """The same of those drawn at random; NaN if there are none."""
        drawn = [at for at, each in enumerate(self.checked) if each not in self.greatest]
        return _correlation(self.checked_estimates[:, drawn], self.exact[:, drawn])

    @property
    def wrong_sign(self) -> tuple[tuple[int, int], ...]:
        """(layer, number) of the checked whose mean estimate has another sign than their mean effect.

        The one of the greatest effect is first.
        """
        return tuple((row["layer"], row[self._one]) for row in self._wrong_rows())

    def checks(self) -> pd.DataFrame:
        """One row per head or neuron that was patched: layer, head (or neuron), estimate, exact, chosen, wrong_sign,
        wrong_pairs.

        Estimate and exact are means over the pairs, and ``wrong_sign`` is of these; ``wrong_pairs`` counts the pairs
        where the two have other signs. Signs differ only where both numbers are more than rounding.
        """
        estimates, exact = self.checked_estimates, self.exact
        layers, numbers = zip(*self.checked, strict=True)
        return pd.DataFrame(
            {
                "layer": layers,
                self._one: numbers,
                "estimate": estimates.mean(0).numpy(),
                "exact": exact.mean(0).numpy(),
                "chosen": ["greatest" if each in self.greatest else "random" for each in self.checked],
                "wrong_sign": self._differ(estimates.mean(0), exact.mean(0)).numpy(),
                "wrong_pairs": self._differ(estimates, exact).sum(0).numpy(),
            }
        )

    def to_dataframe(self) -> pd.DataFrame:
        """One row per head or neuron: the columns of :meth:`checks`, those after the estimate empty if it was not
        patched.
        """
        shape = self.estimates.shape[1:]
        index = pd.MultiIndex.from_product([range(n) for n in shape], names=["layer", self._one])
        table = pd.DataFrame({"estimate": self.estimates.mean(0).flatten().numpy()}, index).reset_index()
        checks = self.checks().drop(columns="estimate").astype({"wrong_sign": "boolean", "wrong_pairs": "Int64"})
        return table.merge(checks, how="left", on=["layer", self._one])

    @property
    def _one(self) -> str:
        return kind_called(self.kind).one

    def _wrong_rows(self) -> list[dict[str, Any]]:
        """Rows of the table whose estimate has the wrong sign, the greatest effect first."""
        rows = [{str(name): value for name, value in row.items()} for row in self.checks().to_dict("records")]
        return sorted((row for row in rows if row["wrong_sign"]), key=lambda row: -abs(row["exact"]))

    def _differ(self, estimates: Float[Tensor, "..."], exact: Float[Tensor, "..."]) -> Bool[Tensor, "..."]:
        above_noise = torch.minimum(estimates.abs(), exact.abs()) > self.noise
        return above_noise & (estimates.sign() != exact.sign())

    def __repr__(self) -> str:
        n, n_layers, n_each = self.estimates.shape
        wrong = self._wrong_rows()
        named = [f"{self.name(row)} {row['estimate']:+.2g} for {row['exact']:+.2g}" for row in wrong[:NAMED]]
        listed = f"{len(wrong)} of the wrong sign, {'such as ' if len(wrong) > NAMED else ''}{', '.join(named)}"
        return (
            f"AttributionPatching(pairs={n}, layers={n_layers}, {self.kind}={n_each}; {len(self.checked)} measured: "
            f"correlation {self.correlation:.3f}, {listed if wrong else 'none of the wrong sign'})"
        )

    def name(self, row: Mapping[str, Any]) -> str:
        """The name of the head or neuron in a row of the table: L3H7, L3N7."""
        return f"L{row['layer']}{kind_called(self.kind).short}{row[self._one]}"


def _correlation(estimates: Float[Tensor, "b c"], exact: Float[Tensor, "b c"]) -> float:
    one, other = estimates.flatten().numpy(), exact.flatten().numpy()
    if len(one) < 2 or not (np.ptp(one) > 0 and np.ptp(other) > 0):
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])
