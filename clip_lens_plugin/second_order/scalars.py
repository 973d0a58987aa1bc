"""Every neuron's scalar through every later head, while the model runs: never anything of images, tokens, neurons and d."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from rich.progress import track
from torch import Tensor

from clip_lens_plugin.arguments import checked_indices, checked_number
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.inputs.given import given_images
from clip_lens_plugin.model.protocol import ImageModel, Tower
from clip_lens_plugin.numerics.precision import full_precision
from clip_lens_plugin.second_order import equations
from clip_lens_plugin.second_order.frozen_run import FrozenRun, frozen_run, refuse_unseen_hooks

ChosenNeurons = Mapping[int, Int[Tensor, " m"]]
"""Layer to positions of its neurons."""

AT_ONCE = 32
"""Most images in a run."""


def later_layers(model: Tower, layer: int) -> range:
    """Layers whose heads read a layer's neurons."""
    return range(layer + 1, model.cfg.n_layers)


def checked_neurons(model: Tower, given: Any) -> ChosenNeurons:
    """Positions of neurons by layer, counted from the start.

    Args:
        given: layers, in a list; or layer to its neurons (None for all): a slice, a range, positions or a mask. None for
            all of every layer but the last, whose neurons no head reads.

    Raises:
        ValueError: if it is none of these; or a layer's MLP normalises what it writes, so that neurons are no terms of
            it, or no head comes after it.
        IndexError: if there is no such layer or neuron.
    """
    cfg = model.cfg
    listed = range(cfg.n_layers - 1) if given is None else given
    if not isinstance(listed, Sequence | Mapping) or isinstance(listed, str) or len(listed) == 0:
        raise ValueError(
            f"Neurons are given by layers in a list, such as [4, 5], or by layer with positions, such as "
            f"{{4: None, 5: range(100)}}; got {given!r:.80}."
        )
    chosen = dict(listed) if isinstance(listed, Mapping) else dict.fromkeys(listed)
    found: dict[int, Int[Tensor, " m"]] = {}
    for layer, positions in chosen.items():
        number = cfg.checked_layer(layer)
        if not later_layers(model, number):
            raise ValueError(
                f"Layer {number} is the last: no head reads its neurons, and what they add directly is "
                f"model.decompose(images, neurons=True).neurons({number}). Give an earlier layer."
            )
        if model.blocks[number].mlp.normalises_output:
            raise ValueError(
                f"The MLP of layer {number} of {cfg.model_name} normalises what it writes, so that no neuron has a term "
                f"of its own there. Ask upstream(...) for what whole MLPs add to a head."
            )
        every = slice(None) if positions is None else positions
        found[number] = checked_indices("neuron", every, cfg.d_mlp)
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
        """Hook points to keep of a run, see :class:`~clip_lens_plugin.second_order.frozen_run.FrozenWatch`."""
        return {f"blocks.{layer}.mlp.hook_post": self._part(rows) for layer, rows in self.chosen.items()}

    def _part(self, rows: Int[Tensor, " m"]) -> Callable[[Tensor], Tensor] | None:
        return None if len(rows) == self.model.cfg.d_mlp else lambda post: post[..., rows.to(post.device)]

    @full_precision()
    def scalars(self, run: FrozenRun) -> Iterator[tuple[int, Float[Tensor, "b m q"]]]:
        """Layer and the scalars of its neurons, in units of the embedding.

        q counts later layers, their heads and the heads of an attention pool, in this order.
        """
        reads = torch.cat([run.reads[layer].flatten(1, 2) for layer in self.readers], dim=1)
        by_layer = reads.shape[1] // len(self.readers)
        for layer in self.chosen:
            later = reads[:, by_layer * (layer + 1 - self.readers.start) :]
            post = run.kept[f"blocks.{layer}.mlp.hook_post"].to(reads.dtype)
            yield layer, equations.neuron_scalars(post, later.transpose(1, 2))


@takes_bridges
def neuron_scalars(
    model: ImageModel,
    images: Any,
    neurons: Any = None,
    *,
    batch_size: int | None = None,
    progress: bool = False,
) -> dict[int, Float[Tensor, "b m l h p"]]:
    """Layer to the scalars of its neurons through every later head: second order, patterns and statistics frozen.

    A neuron adds its scalar times a direction that is the same for all images: see :func:`second_order`, which has
    both. The m are the chosen neurons of the layer, the l the layers after it, and p counts the heads of an attention
    pool (1 for other poolings). In units of the embedding M(I).

    Args:
        images: see :func:`~clip_lens_plugin.decomposition.runs.decompose_images`.
        neurons: layers in a list; or layer to its neurons (None for all of them): a slice, a range, positions or a
            mask. Of every layer but the last if not given.
        batch_size: images in each run of the model; as many as take about the memory of a plain forward if not given.
        progress: show a progress bar.

    Raises:
        ValueError: if a layer's MLP normalises what it writes, or no head comes after it; if there are hooks on the
            model that second order does not see.
        IndexError: if there is no such layer or neuron.
        PixelError: if the images are neither pictures nor pixels of the model's shape.
    """
    chosen = checked_neurons(model, neurons)
    watch = ScalarWatch(model, chosen)
    refuse_unseen_hooks(model, watch.readers)
    given = given_images(model, images)
    n, cfg = len(given), model.cfg
    size = images_at_once(model, n, chosen) if batch_size is None else checked_number("batch_size", batch_size)
    dtype = torch.promote_types(cfg.dtype, torch.float32)
    made = {
        layer: torch.empty(
            n, len(rows), len(later_layers(model, layer)), cfg.n_heads, model.pooling.n_heads, dtype=dtype
        ).to(cfg.device)
        for layer, rows in chosen.items()
    }
    with torch.no_grad(), given.checked():
        for start in track(range(0, n, size), "neurons", disable=not progress):
            rows = slice(start, start + size)
            run = frozen_run(model, given.pixels(rows), watch.readers, watch.keep())
            for layer, scalars in watch.scalars(run):
                made[layer][rows] = scalars.view(-1, *made[layer].shape[1:])
            del run  # Not to be held while the next is made.
    return made


def images_at_once(model: Tower, n: int, chosen: ChosenNeurons) -> int:
    """How many of n images to run at once, so that what is held of a run takes about what a forward of all n takes."""
    cfg = model.cfg
    rows = model.pooling.n_rows(cfg.n_ctx) if model.pooling.positions.stop is None else 1
    patterns = (cfg.n_layers - min(chosen)) * cfg.n_heads * cfg.n_ctx * (rows + 2 * model.pooling.n_heads)
    held = patterns + cfg.n_ctx * sum(len(each) for each in chosen.values())
    forward = cfg.n_ctx * (2 * cfg.d_mlp + 4 * cfg.d_model)
    return max(1, min(AT_ONCE, n, int(n * forward / (held + forward))))
