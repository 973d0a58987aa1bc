"""Sets of components that are ablated together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from clip_lens_plugin.arguments import whole_numbers
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.protocol import ImageModel

SETS_OF_LAYERS = ("biases", "mlps", "self_attention")


@dataclass(frozen=True)
class Components:
    """Parts of the sum that are replaced at once; ``|`` joins two sets.

    Attributes:
        name: as shown in tables.
        kind: what is ablated, for grouping: "attention", "heads", "mlps", "self_attention" or a join of them.
        heads: (layer, head) pairs.
        biases: layers whose attention output bias goes as well.
        mlps: layers.
        self_attention: layers in which what the class token sends to itself is replaced, in every head.

    Raises:
        ValueError: if a layer's heads and its class token's attention to itself, which is a part of them, are both in.
    """

    name: str
    kind: str
    heads: frozenset[tuple[int, int]] = frozenset()
    biases: frozenset[int] = frozenset()
    mlps: frozenset[int] = frozenset()
    self_attention: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        both = {l for l, _ in self.heads} & self.self_attention
        if both:
            raise ValueError(
                f"{self.name!r} holds heads of layers {sorted(both)} and those layers' self-attention, which is a part "
                f"of the heads. Choose one of the two."
            )

    @classmethod
    @takes_bridges
    def of_heads(cls, model: ImageModel, heads: Iterable[tuple[int, int]] | int, name: str | None = None) -> Components:
        """Some heads, without their layers' output biases.

        Args:
            model: whose heads they are.
            heads: (layer, head) pairs, or a layer for all heads of it; negative numbers count from the end.
            name: shown in tables; made of the heads if not given.

        Raises:
            ValueError: if ``heads`` is neither, or holds no pair.
            IndexError: if there is no such head.
        """
        chosen = sorted(model.cfg.checked_heads(heads))
        return cls(name or ", ".join(f"L{l}H{h}" for l, h in chosen), "heads", frozenset(chosen))

    @classmethod
    @takes_bridges
    def of_attention(cls, model: ImageModel, layers: Iterable[int], name: str | None = None) -> Components:
        """Whole attention layers: all heads and the output bias.

        Args:
            model: whose layers they are.
            layers: negative numbers count from the end.
            name: of the set; "attention" and its layers if not given.

        Raises:
            ValueError: if there are no layers, or one is no whole number.
            IndexError: if there is no such layer.
        """
        chosen = _layers(model, layers)
        heads = frozenset((l, h) for l in chosen for h in range(model.cfg.n_heads))
        return cls(name or f"attention {_ranges(chosen)}", "attention", heads, frozenset(chosen))

    @classmethod
    @takes_bridges
    def of_mlps(cls, model: ImageModel, layers: Iterable[int], name: str | None = None) -> Components:
        """MLPs with their output biases.

        Args:
            model: whose layers they are.
            layers: negative numbers count from the end.
            name: of the set; "MLPs" and its layers if not given.

        Raises:
            ValueError: if there are no layers, or one is no whole number.
            IndexError: if there is no such layer.
        """
        chosen = _layers(model, layers)
        return cls(name or f"MLPs {_ranges(chosen)}", "mlps", mlps=frozenset(chosen))

    @classmethod
    @takes_bridges
    def of_self_attention(cls, model: ImageModel, layers: Iterable[int], name: str | None = None) -> Components:
        """What the class token sends to itself, in every head.

        Args:
            model: whose layers they are.
            layers: negative numbers count from the end.
            name: of the set; "self-attention" and its layers if not given.

        Raises:
            ValueError: if there are no layers, or one is no whole number.
            IndexError: if there is no such layer.
        """
        chosen = _layers(model, layers)
        return cls(name or f"self-attention {_ranges(chosen)}", "self_attention", self_attention=frozenset(chosen))

    def __or__(self, other: Components) -> Components:
        """Both sets."""
        kinds = dict.fromkeys([*self.kind.split(" and "), *other.kind.split(" and ")])
        return replace(
            self,
            name=f"{self.name} and {other.name}",
            kind=" and ".join(kinds),
            heads=self.heads | other.heads,
            biases=self.biases | other.biases,
            mlps=self.mlps | other.mlps,
            self_attention=self.self_attention | other.self_attention,
        )

    @takes_bridges
    def checked_for(self, model: ImageModel) -> Components:
        """The same, its layers and heads counted from the start.

        Raises:
            ValueError: if one is no whole number.
            IndexError: if the model has no such layer or head.
        """
        cfg = model.cfg
        return replace(
            self,
            heads=frozenset(cfg.checked_head(layer, head) for layer, head in self.heads),
            **{each: frozenset(map(cfg.checked_layer, getattr(self, each))) for each in SETS_OF_LAYERS},
        )

    @property
    def n_layers(self) -> int:
        """Layers that are touched."""
        return len({l for l, _ in self.heads} | self.biases | self.mlps | self.self_attention)


@takes_bridges
def paper_components(model: ImageModel, self_attention: bool = True) -> list[Components]:
    """What section 3 of the paper ablates: attention layers from the first on (figure 2), and the rows of table 1.

    Args:
        model: whose layers they are.
        self_attention: with the rows on the class token's attention to itself.
    """
    layers = range(model.cfg.n_layers)
    chosen = [Components.of_attention(model, range(l + 1)) for l in layers]
    mlps = Components.of_mlps(model, layers, "all MLPs")
    chosen.append(mlps)
    if self_attention:
        own = Components.of_self_attention(model, layers, "class token to itself")
        chosen += [own, mlps | own]
    return chosen


def _layers(model: ImageModel, layers: Any) -> list[int]:
    chosen = whole_numbers("layers", layers)
    if not chosen:
        raise ValueError(f"layers must hold at least one layer, got {layers!r}.")
    return sorted({model.cfg.checked_layer(layer) for layer in chosen})


def _ranges(layers: list[int]) -> str:
    """ "0-2, 5" for [0, 1, 2, 5]."""
    runs: list[list[int]] = []
    for l in layers:
        if runs and runs[-1][-1] == l - 1:
            runs[-1].append(l)
        else:
            runs.append([l])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
