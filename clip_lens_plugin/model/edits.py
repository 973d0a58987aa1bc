"""What was changed in the weights of a model that was edited."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """One change of one head's output weights.

    Attributes:
        layer, head: counted from 0.
        what: was done, for example "scaled by 0.5".
    """

    layer: int
    head: int
    what: str

    def __str__(self) -> str:
        return f"L{self.layer}H{self.head} {self.what}"
