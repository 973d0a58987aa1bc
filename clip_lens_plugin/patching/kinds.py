"""What is patched, heads or neurons: where their activations are, and what the stream is with one of them replaced."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_choice
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.model.protocol import Tower

KindName = Literal["heads", "neurons"]


class Kind(ABC):
    """The heads, or the neurons, of every layer: u of them in each.

    Attributes:
        one: the word for one of them.
        short: its letter, as in L3H7.
    """

    one: ClassVar[str]
    short: ClassVar[str]

    @abstractmethod
    def point(self, layer: int) -> str:
        """The hook point of their activations [b, n, u, ...]."""

    @abstractmethod
    def count(self, model: Tower) -> int:
        """How many there are in a layer."""

    @abstractmethod
    def first_order(self, moved: Tensor, gradient: Tensor) -> Float[Tensor, "b u"]:
        """Σ moved · gradient of each, over tokens and its own width.

        Args:
            moved: clean less corrupted activation.
            gradient: with respect to the corrupted one.
        """

    @abstractmethod
    def after_layer(
        self,
        model: Tower,
        layer: int,
        mid: Float[Tensor, "b n d"],
        clean: Tensor,
        corrupted: Tensor,
        numbers: Sequence[int],
    ) -> Float[Tensor, "b_u n d"]:
        """The stream after a layer with one of them patched: b rows for the first, then b for the next and so on.

        Args:
            model: without hooks.
            mid: the corrupted run's stream between attention and MLP, of all tokens or some.
            clean, corrupted: the activations at :meth:`point`, of the same tokens.
            numbers: of those that are patched.
        """

    def put(self, activation: Tensor, clean: Tensor, number: int) -> Tensor:
        """The activation with that of one, at every token, from the clean run; TransformerLens's patch."""
        patched = activation.clone()
        patched[:, :, number] = clean[:, :, number]
        return patched


class Heads(Kind):
    """At ``hook_z`` [b, n, h, k], which W_O maps to the stream: scales of norms are divided out of it, and stay."""

    one, short = "head", "H"

    def point(self, layer: int) -> str:
        return f"blocks.{layer}.attn.hook_z"

    def count(self, model: Tower) -> int:
        return model.cfg.n_heads

    def first_order(self, moved: Float[Tensor, "b n h k"], gradient: Float[Tensor, "b n h k"]) -> Float[Tensor, "b h"]:
        return (moved * gradient).sum((1, 3))

    def after_layer(
        self,
        model: Tower,
        layer: int,
        mid: Float[Tensor, "b n d"],
        clean: Float[Tensor, "b n h k"],
        corrupted: Float[Tensor, "b n h k"],
        numbers: Sequence[int],
    ) -> Float[Tensor, "b_u n d"]:
        block, chosen = model.blocks[layer], list(numbers)
        moved = clean[:, :, chosen] - corrupted[:, :, chosen]
        written = equations.written_by_heads(moved, block.attn.W_O[chosen]).movedim(2, 0)
        return block.after_attention((mid + written).flatten(0, 1))


class Neurons(Kind):
    """At ``mlp.hook_post`` [b, n, m], which W_out maps to the stream."""

    one, short = "neuron", "N"

    def point(self, layer: int) -> str:
        return f"blocks.{layer}.mlp.hook_post"

    def count(self, model: Tower) -> int:
        return model.cfg.d_mlp

    def first_order(self, moved: Float[Tensor, "b n m"], gradient: Float[Tensor, "b n m"]) -> Float[Tensor, "b m"]:
        return (moved * gradient).sum(1)

    def after_layer(
        self,
        model: Tower,
        layer: int,
        mid: Float[Tensor, "b n d"],
        clean: Float[Tensor, "b n m"],
        corrupted: Float[Tensor, "b n m"],
        numbers: Sequence[int],
    ) -> Float[Tensor, "b_u n d"]:
        patched = torch.cat([self.put(corrupted, clean, number) for number in numbers])
        with model.hooks(fwd_hooks=[(self.point(layer), lambda activation, hook: patched)]):
            return model.blocks[layer].after_attention(mid.repeat(len(numbers), 1, 1))


HEADS = Heads()
KINDS: dict[str, Kind] = {"heads": HEADS, "neurons": Neurons()}


def kind_called(name: Any) -> Kind:
    """The kind of that name.

    Raises:
        ValueError: if it is neither "heads" nor "neurons".
    """
    return KINDS[checked_choice("kind", name, tuple(KINDS))]
