"""Every neuron's scalar through every later head, taken while the model runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.arguments import checked_indices, checked_number
from clip_lens_plugin.bars import tracked
from clip_lens_plugin.higher_order import equations
from clip_lens_plugin.higher_order.frozen_run import FrozenRun, frozen_run, refuse_unseen_hooks
from clip_lens_plugin.model.inputs.of_tower import given_to
from clip_lens_plugin.model.protocol import Tower
from clip_lens_plugin.numerics.named_tensors import NamedTensors
from clip_lens_plugin.numerics.precision import full_precision

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

ChosenNeurons = Mapping[int, Int[Tensor, " m"]]
"""Layer to positions of its neurons."""

AT_ONCE, MEMORY = 32, 1.25
"""Most images in a run; and of the memory of a plain forward of all images, what a run may take."""


def later_layers(model: Tower, layer: int) -> range:
    """Layers whose heads read a layer's neurons."""
    return range(layer + 1, model.cfg.n_layers)


def checked_neurons(model: Tower, given: Any) -> ChosenNeurons:
    """Positions of neurons by layer, counted from the start, each once and in the given order.

    Args:
        given: layers, in a list; or layer to its neurons (None for all): a slice, a range, positions or a mask. None
            for all of every layer but the last, whose neurons no head reads.

    Raises:
        ValueError: if it is none of these; or a layer's MLP normalises what it writes, so that neurons are no terms of
            it, no head comes after it, or it is given twice with neurons.
        IndexError: if there is no such layer or neuron.
    """
    cfg = model.cfg
    listed = range(cfg.n_layers - 1) if given is None else given
    if isinstance(listed, Tensor | np.ndarray) and listed.ndim == 1:
        listed = listed.tolist()
    if not isinstance(listed, Sequence | Mapping) or isinstance(listed, str) or len(listed) == 0:
        raise ValueError(
            f"Neurons are given by layers in a list, such as [4, 5], or by layer with positions, such as "
            f"{{4: None, 5: range(100)}}; got {given!r:.80}."
        )
    # As pairs, since what is given for a layer may be no key of a dictionary.
    pairs = listed.items() if isinstance(listed, Mapping) else ((layer, None) for layer in listed)
    found: dict[int, Int[Tensor, " m"]] = {}
    for layer, positions in pairs:
        number = cfg.checked_layer(layer)
        if number in found and isinstance(listed, Mapping):
            raise ValueError(f"Layer {number} was given twice, the second time as {layer}: give it once.")
        if not later_layers(model, number):
            raise ValueError(
                f"Layer {number} is the last: no head reads its neurons, and what they add directly is "
                f"model.decompose(images, neurons=True).neurons({number}). Give an earlier layer."
            )
        if model.blocks[number].mlp.normalises_output:
            raise ValueError(
                f"The MLP of layer {number} of {cfg.model_name} normalises what it writes, so that no neuron has a "
                f"term of its own there. Ask upstream(...) for what whole MLPs add to a head."
            )
        every = slice(None) if positions is None else positions
        asked = checked_indices("neuron", every, cfg.d_mlp)
        found[number] = torch.tensor(list(dict.fromkeys(asked.tolist())), dtype=torch.int64, device="cpu")
        if len(found[number]) == 0:
            raise ValueError(f"No neuron of layer {number} was given; give at least one, or None for all.")
    return dict(sorted(found.items()))


@dataclass
class ScalarWatch:
    """What a run has to keep for the scalars of chosen neurons, and the scalars of a run.

    Attributes:
        model, chosen: whose neurons.
        readers: layers whose heads read any of them.
    """

    model: Tower
    chosen: ChosenNeurons
    readers: range = field(init=False)

    def __post_init__(self) -> None:
        self.readers = later_layers(self.model, min(self.chosen))

    def keep(self) -> dict[str, Callable[[Tensor], Tensor] | None]:
        """Hook points to keep of a run, see :class:`~clip_lens_plugin.higher_order.frozen_run.FrozenWatch`."""
        return {f"blocks.{layer}.mlp.hook_post": self._part(rows) for layer, rows in self.chosen.items()}

    def _part(self, rows: Int[Tensor, " m"]) -> Callable[[Tensor], Tensor] | None:
        every = torch.arange(self.model.cfg.d_mlp, device=rows.device)
        return None if torch.equal(rows, every) else lambda post: post[..., rows.to(post.device)]

    @full_precision()
    def scalars(
        self, run: FrozenRun, into: Mapping[int, Float[Tensor, "b q m"]] | None = None
    ) -> dict[int, Float[Tensor, "b m q"]]:
        """The scalars of each layer's neurons, in units of the embedding.

        q counts later layers, their heads and the heads of an attention pool, in this order.

        Args:
            into: by layer, where they are written.
        """
        reads = torch.cat([run.reads[layer].flatten(1, 2) for layer in self.readers], dim=1).transpose(1, 2)
        by_layer = reads.shape[2] // len(self.readers)
        return {
            layer: equations.neuron_scalars(
                run.kept[f"blocks.{layer}.mlp.hook_post"].to(reads.dtype),
                reads[..., by_layer * (layer + 1 - self.readers.start) :],
                None if into is None else into[layer],
            )
            for layer in self.chosen
        }


@dataclass(frozen=True)
class Scalars:
    """Scalars of chosen neurons of b images, in units of the embedding.

    Attributes:
        tower, chosen: whose neurons.
        names: of the images.
        scalars: by layer [b, m, l, h, p]; l counts later layers.
        norms: ‖M(I)‖ [b].
        rounding: see :class:`~clip_lens_plugin.higher_order.frozen_run.FrozenRun`.
    """

    tower: Tower
    chosen: ChosenNeurons
    names: tuple[str, ...]
    scalars: Mapping[int, Float[Tensor, "b m l h p"]]
    norms: Float[Tensor, " b"]
    rounding: torch.dtype


def scalars_and_norms(model: Any, images: Any, neurons: Any, batch_size: int | None, progress: bool) -> Scalars:
    """Scalars, and what else there is to know of the run; see :func:`neuron_scalars`."""
    tower, given, names = given_to(model, images)
    chosen = checked_neurons(tower, neurons)
    watch = ScalarWatch(tower, chosen)
    refuse_unseen_hooks(tower, watch.readers)
    n, cfg = len(given), tower.cfg
    size = images_at_once(tower, n, chosen) if batch_size is None else checked_number("batch_size", batch_size)
    wide: dict[str, Any] = {"dtype": torch.promote_types(cfg.dtype, torch.float32), "device": cfg.device}
    readers = cfg.n_heads, tower.pooling.n_heads
    shapes = {l: (n, len(later_layers(tower, l)), *readers, len(m)) for l, m in chosen.items()}
    made = {l: torch.empty(*shape, **wide) for l, shape in shapes.items()}
    norms, rounding = torch.empty(n, **wide), cfg.dtype
    with torch.no_grad(), given.checked():
        for start in tracked(range(0, n, size), "neurons", progress):
            rows = slice(start, start + size)
            run = frozen_run(tower, given.pixels(rows), watch.readers, watch.keep())
            norms[rows], rounding = run.embedding.norm(dim=-1), run.rounding
            watch.scalars(run, {layer: each[rows].flatten(1, 3) for layer, each in made.items()})
            del run  # Not to be held while the next is made.
    return Scalars(tower, chosen, names, {l: each.movedim(-1, 1) for l, each in made.items()}, norms, rounding)


def neuron_scalars(
    model: Tower | TransformerBridge,
    images: Any,
    neurons: Any = None,
    *,
    batch_size: int | None = None,
    progress: bool = False,
) -> NamedTensors[int]:
    """Layer to the scalars [b, m, l, h, p] of its neurons through every later head.

    Second order, with patterns and statistics frozen: a neuron adds its scalar times a direction that is the same for
    all images: see :func:`second_order`, which has both, of one layer. The m are the chosen neurons of the layer, the
    l the layers after it, and p counts the heads of an attention pool (1 for other poolings). In units of the embedding
    M(I).

    Args:
        model, images, batch_size, progress: see :func:`second_order`.
        neurons: layers in a list; or layer to its neurons (None for all of them): a slice, a range, positions or a
            mask. Of every layer but the last if not given.

    Raises:
        ValueError, IndexError, PixelError: see :func:`second_order`.
    """
    return NamedTensors(scalars_and_norms(model, images, neurons, batch_size, progress).scalars)


def images_at_once(model: Tower, n: int, chosen: ChosenNeurons) -> int:
    """How many of n images to run at once, so that a run takes about :data:`MEMORY` of a forward of all n."""
    cfg = model.cfg
    rows = model.pooling.n_rows(cfg.n_ctx) if model.pooling.positions.stop is None else 1
    patterns = (cfg.n_layers - min(chosen)) * cfg.n_heads * cfg.n_ctx * (rows + 2 * model.pooling.n_heads)
    held = patterns + cfg.n_ctx * sum(len(each) for each in chosen.values())
    forward = cfg.n_ctx * (2 * cfg.d_mlp + 4 * cfg.d_model)
    return max(1, min(AT_ONCE, n, int(MEMORY * n * forward / (held + forward))))
