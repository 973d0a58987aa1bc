"""A model's weights by TransformerLens's names, as its ``SVDInterpreter`` reads them."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

ATTENTION = ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O")
MLP = ("W_in", "W_out", "b_in", "b_out", "W_gate", "b_gate")


class NamedWeights(dict[str, Tensor]):
    """Weights by name. One that is not there is named in the error, with the reason.

    Args:
        found: the weights.
        without_labels: why there is no "unembed.W_U", None if there is one.
    """

    def __init__(self, found: Iterable[tuple[str, Tensor]], without_labels: str | None = None) -> None:
        super().__init__(found)
        self._without_labels = without_labels

    def __missing__(self, name: str) -> Tensor:
        if name.startswith("unembed.") and self._without_labels is not None:
            raise ValueError(self._without_labels)
        raise KeyError(f"There is no weight {name!r}; there are {', '.join(list(self)[:6])} and others.")


def block_weights(block: nn.Module, layer: int) -> Iterable[tuple[str, Tensor]]:
    """(name, weight) of a block: attention [h, d, k], MLP [d, d_mlp], and the norms before them [d]."""
    for part, names in (("attn", ATTENTION), ("mlp", MLP), ("ln1", ("w", "b")), ("ln2", ("w", "b"))):
        module = getattr(block, part, None)
        for name in names:
            weight = getattr(module, name, None)
            if weight is not None:
                yield f"blocks.{layer}.{part}.{name}", weight
