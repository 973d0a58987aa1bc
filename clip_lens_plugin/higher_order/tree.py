"""A head, what feeds it, and what feeds that: each level sums to its parent, patterns and statistics frozen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.decomposition.equations import own_direction, text_directions, text_streams, to_joint
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.higher_order import equations
from clip_lens_plugin.higher_order.frozen_run import FROZEN, frozen_run, refuse_unseen_hooks
from clip_lens_plugin.higher_order.head_maps import HeadMaps
from clip_lens_plugin.higher_order.terms import Terms, kept_for_terms, labels, read_terms
from clip_lens_plugin.higher_order.texts import given_texts
from clip_lens_plugin.model.inputs.of_tower import given_to
from clip_lens_plugin.model.protocol import Tower
from clip_lens_plugin.numerics.precision import full_precision
from clip_lens_plugin.shown import Shown

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class Node:
    """One source, by what it adds along the tree's direction.

    Attributes:
        label: "L3H7", "2_mlp", "2_mlp, neuron 41", "embed", "0_attn_bias", "constant"; or "12 others".
        value: what it adds through its parents.
        children: what feeds it, by size; none for a leaf. Their values sum to its own.
    """

    label: str
    value: float
    children: tuple[Node, ...] = ()

    def walk(self, depth: int = 0, parent: str = "") -> Iterator[tuple[int, str, Node]]:
        """Every node with its depth and its parent's label, parents before children."""
        yield depth, parent, self
        for child in self.children:
            yield from child.walk(depth + 1, self.label)


@dataclass(frozen=True, eq=False, repr=False)
class UpstreamTree(Shown):
    """What feeds a head in one image, level by level, along one direction of the joint space.

    Attributes:
        root: the head.
        name: of the image.
        direction: what values are taken along, in words.
        unit: "cosine", of values towards a text; or "share", parts of the head's own contribution.
        error: the greatest difference between a node and the sum of its children, relative to the sum of their sizes.
    """

    root: Node
    name: str
    direction: str
    unit: str
    error: float

    def to_dataframe(self) -> pd.DataFrame:
        """One row per node, parents before children: depth, parent, source, value."""
        rows = [(depth, parent, node.label, node.value) for depth, parent, node in self.root.walk()]
        return pd.DataFrame(rows, columns=["depth", "parent", "source", "value"])

    def __repr__(self) -> str:
        depths = [depth for depth, _, _ in self.root.walk()]
        summary = f"{len(depths)} nodes, depth {max(depths)}, sums up to {self.error:.0e}"
        return f"UpstreamTree({self.root.label} in {self.name}, {self.direction}: {summary}; {FROZEN})"

    def __str__(self) -> str:
        """The tree in lines, as ``print`` shows it."""
        lines = [f"{self.name}: what feeds {self.root.label}, {self.direction} ({FROZEN})"]
        lines += [f"{'  ' * depth}{node.label} {node.value:+.3g}" for depth, _, node in self.root.walk()]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Reader:
    """A head that reads the stream of one image, for what its parents read of it.

    Attributes:
        maps: of this head alone.
        reads, attended: with which weights; see :class:`~clip_lens_plugin.higher_order.frozen_run.FrozenRun`.
        onto: from its coordinates to values along the direction.
    """

    layer: int
    maps: HeadMaps
    reads: Float[Tensor, "1 1 p n"]
    attended: Float[Tensor, "1 1 p"]
    onto: Float[Tensor, "p j"]

    def values(self, coordinates: Float[Tensor, "1 c 1 p j"]) -> Float[Tensor, " c"]:
        """What terms add along the direction."""
        return to_joint(coordinates[0, :, 0], self.onto[..., None])[:, 0]


@dataclass(frozen=True)
class _Grower:
    readout: Readout
    kept: Mapping[str, Tensor]
    widest: int

    def node(self, label: str, value: float, reader: _Reader, depth: int) -> Node:
        """A head and what feeds it, to a depth."""
        if depth == 0:
            return Node(label, value)
        terms = read_terms(
            self.readout,
            self.kept,
            reader.layer,
            reader.maps.values,
            reader.maps.constant,
            reader.reads,
            reader.attended,
        )
        values = reader.values(terms.coordinates).double().tolist()
        names = labels(reader.layer, self.readout.n_heads)
        children = [
            self._child(place, names[place], values[place], terms, reader, depth - 1) for place in self._largest(values)
        ]
        return Node(label, value, _with_others(children, values))

    def _largest(self, values: Sequence[float]) -> list[int]:
        return sorted(range(len(values)), key=lambda place: -abs(values[place]))[: self.widest]

    def _child(self, place: int, label: str, value: float, terms: Terms, reader: _Reader, depth: int) -> Node:
        n_heads, layers = self.readout.n_heads, reader.layer
        first_mlp = 1 + layers * (n_heads + 1)
        if 0 < place <= layers * n_heads:
            return self.node(label, value, self._fed(*divmod(place - 1, n_heads), reader), depth)
        if depth > 0 and terms.scalars is not None and first_mlp <= place < first_mlp + layers:
            return self._mlp(label, value, place - first_mlp, terms.scalars, reader)
        return Node(label, value)

    def _fed(self, layer: int, head: int, reader: _Reader) -> _Reader:
        """An earlier head as the reader reads it: the next hop."""
        dtype = self.readout.P.dtype
        pattern = self.kept[f"blocks.{layer}.attn.hook_pattern"][:, head : head + 1].to(dtype)
        weights = reader.reads[:, 0]
        if self.readout.model.blocks[layer].attn.out.has_scale:
            weights = weights / self.kept[f"blocks.{layer}.attn.hook_z_scale"][:, None, :, 0].to(dtype)
        attended = equations.through_a_head(weights, pattern)
        scale = None
        if self.readout.model.blocks[layer].first_norm is not None:
            scale = self.kept[f"blocks.{layer}.ln1.hook_scale"][..., 0].to(dtype)
        streams = text_streams(reader.maps.values, reader.onto.T)
        onto = text_directions(self.readout.W_O[layer][head][None], streams)[0].T
        maps = HeadMaps.of(self.readout, layer, range(head, head + 1))
        return _Reader(layer, maps, equations.reading(attended, scale), attended.sum(-1), onto)

    def _mlp(self, label: str, value: float, layer: int, scalars: Float[Tensor, "1 l m 1 p"], reader: _Reader) -> Node:
        onto = reader.onto[None, ..., None]
        directions = equations.neuron_directions(self.readout.W_out(layer), reader.maps.values, onto)[:, 0]
        values = equations.neuron_effects(scalars[:, layer, :, 0], directions)[0, :, 0].double().tolist()
        children = [Node(f"{label}, neuron {place}", values[place]) for place in self._largest(values)]
        return Node(label, value, _with_others(children, values))


def _with_others(children: Sequence[Node], values: Sequence[float]) -> tuple[Node, ...]:
    left = len(values) - len(children)
    rest = sum(values) - sum(child.value for child in children)
    return (*children, *([Node(f"{left} others", rest)] if left else []))


def _error(root: Node) -> float:
    parents = [node for _, _, node in root.walk() if node.children]
    return max(
        (
            abs(node.value - sum(child.value for child in node.children))
            / max(sum(abs(child.value) for child in node.children), 1e-300)
            for node in parents
        ),
        default=0.0,
    )


def upstream_tree(
    model: Tower | TransformerBridge,
    image: Any,
    layer: int,
    head: int,
    towards: Any = None,
    *,
    depth: int = 2,
    widest: int = 5,
) -> UpstreamTree:
    """A head, what feeds it, what feeds that, and so on: the greatest sources of each level, and the rest as one.

    The first level are the terms of :func:`upstream`. A head's own sources reach the embedding through two heads, with
    the product of both patterns; those of an MLP are its neurons.

    Args:
        model: a ``HookedCLIP``, a ``TransformerBridge``, or a text tower ``model.text``.
        image: one; see :func:`~clip_lens_plugin.decomposition.running.runs.decompose_images`. One text for a text
            tower.
        layer, head: the root. Negative numbers count from the end.
        towards: a text, towards which values are parts of the cosine; two, for their difference; or directions [1, e]
            or [2, e]. Values are shares of the head's own contribution if not given.
        depth: levels below the root.
        widest: sources that each level shows one by one.

    Raises:
        ValueError: if it is not one image; ``depth`` or ``widest`` is no whole number of at least 1; ``towards`` are
            more than two; or there are hooks on the model that change what no term says.
        IndexError: if there is no such layer or head.
    """
    tower, given, names = given_to(model, image)
    if len(given) != 1:
        raise ValueError(f"A tree is of one image, got {len(given)}. Call upstream(...) for several.")
    layer, head = tower.cfg.checked_head(layer, head)
    depth, widest = checked_number("depth", depth), checked_number("widest", widest)
    refuse_unseen_hooks(tower, [layer])
    readout = Readout.of(tower)
    said, texts = _asked(readout, towards)
    with torch.no_grad(), given.checked():
        run = frozen_run(tower, given.pixels(slice(0, 1)), [layer], dict.fromkeys(_kept(tower, layer)), True)
    with torch.no_grad(), full_precision():
        maps = HeadMaps.of(readout, layer, range(head, head + 1))
        own = run.coordinates[layer][:, head].unflatten(-1, (readout.pooling.n_heads, -1))
        direction = own_direction(to_joint(own[0], maps.joint[0])) if texts is None else texts / run.embedding[0].norm()
        reads, attended = (each[layer][:, head : head + 1] for each in (run.reads, run.attended))
        reader = _Reader(layer, maps, reads, attended, text_streams(maps.joint[0], direction[:, None])[..., 0])
        value = float(reader.values(own[:, None, None])[0])
        root = _Grower(readout, run.kept, widest).node(f"L{layer}H{head}", value, reader, depth)
    return UpstreamTree(root, names[0], said, "share" if towards is None else "cosine", _error(root))


def _kept(tower: Tower, layer: int) -> list[str]:
    """Hook points that the next hops need as well."""
    names = kept_for_terms(tower, layer)
    for l in range(layer):
        names += [f"blocks.{l}.attn.hook_pattern"]
        names += [f"blocks.{l}.attn.hook_z_scale"] if tower.blocks[l].attn.out.has_scale else []
        names += [f"blocks.{l}.ln1.hook_scale"] if tower.blocks[l].first_norm is not None else []
    return names


def _asked(readout: Readout, towards: Any) -> tuple[str, Float[Tensor, " e"] | None]:
    """Along what values are taken, in words, and the text or the difference of two; None for shares."""
    if towards is None:
        return "share of what the head adds", None
    names, texts = given_texts(readout, towards)
    if len(texts) > 2:
        raise ValueError(f"A tree is towards one text, or the difference of two, got {len(texts)}.")
    said = f"towards “{names[0]}”" if len(texts) == 1 else f"towards “{names[0]}” rather than “{names[1]}”"
    return said, texts[0] if len(texts) == 1 else texts[0] - texts[1]
