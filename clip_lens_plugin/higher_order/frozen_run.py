"""One run of the model, its patterns and scales frozen: what later heads read, and with which weights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from clip_lens_plugin.decomposition.equations import effective_attention, head_coordinates
from clip_lens_plugin.decomposition.running.pattern_rows import pattern_hooks
from clip_lens_plugin.higher_order.equations import reading
from clip_lens_plugin.layers.pooling.pooling import NORMALIZED
from clip_lens_plugin.layers.pooling.token_pooling import POSITION
from clip_lens_plugin.model.hooks.interventions import WRITERS, hooked_modules
from clip_lens_plugin.model.protocol import Tower
from clip_lens_plugin.numerics.precision import full_precision, rounding

FROZEN = "second order, patterns and statistics frozen"
"""What every table and picture of second order says of itself."""

UNSEEN = (*WRITERS, "hook_result", "hook_mlp_out", "hook_v", "hook_attn_in", "hook_v_input")
"""Hook points, by the last part of their names, at which a hook changes what no term of second order says."""
UNSEEN_OF_READERS = ("ln1.hook_normalized", "attn.hook_z")
"""Further ones, of the layers whose heads read."""


@dataclass(frozen=True)
class FrozenRun:
    """What was kept of a run of b images (or texts); float32, or float64 for a float64 model, save ``kept``.

    Attributes:
        embedding: M(I) [b, e].
        reads: ā / σ of the heads of each watched layer [b, h, p, n], in units of the embedding.
        attended: Σ_i ā of the same [b, h, p].
        coordinates: y of the same heads [b, h, p · k]; of no layer if ``hook_z`` was not watched.
        kept: activations at the hook points that were asked for, in the model's dtype.
        rounding: the coarsest dtype that the model's products were rounded to, autocast's and TF32's included.
    """

    embedding: Float[Tensor, "b e"]
    reads: Mapping[int, Float[Tensor, "b h p n"]]
    attended: Mapping[int, Float[Tensor, "b h p"]]
    coordinates: Mapping[int, Float[Tensor, "b h pk"]]
    kept: Mapping[str, Tensor]
    rounding: torch.dtype


class FrozenWatch:
    """Hooks for one run of the model, and what they saw.

    Args:
        model: is run with :meth:`hooks` on it, once.
        readers: layers whose heads read.
        keep: hook points to keep whole, each with what is to be kept of it (None for all).
        coordinates: also watch what those heads put out.
        beside: see :func:`~clip_lens_plugin.decomposition.running.pattern_rows.pattern_hooks`; of images alone.
    """

    def __init__(
        self,
        model: Tower,
        readers: Collection[int],
        keep: Mapping[str, Callable[[Tensor], Tensor] | None],
        coordinates: bool = False,
        beside: bool = False,
    ) -> None:
        self._model, self._readers, self._keep, self._coordinates = model, sorted(readers), keep, coordinates
        self._beside = beside
        self._kept: dict[str, Tensor] = {}
        self._read: dict[str, Tensor] = {}
        self._patterns: dict[int, Tensor] = {}
        self._scales: dict[int, Tensor] = {}
        self._z: dict[int, Tensor] = {}
        self._pooling = model.pooling

    def hooks(self) -> Iterator[tuple[str, Callable[..., None]]]:
        """Pairs of a hook point's name and a hook, for ``model.hooks(fwd_hooks=...)``."""
        pooling = self._model.pooling
        if POSITION in pooling.reads:
            yield POSITION, self._bind
        yield from ((name, self._take_read) for name in pooling.reads if name != POSITION)
        for name, part in self._keep.items():
            yield name, partial(self._take, part=part)
        for layer in self._readers:
            block = self._model.blocks[layer]
            take = partial(self._take_pattern, layer)
            yield from pattern_hooks(block, layer, pooling.positions, take, self._beside)
            if block.first_norm is not None:
                yield f"blocks.{layer}.ln1.hook_scale", partial(self._take_scale, layer=layer)
            if self._coordinates:
                yield f"blocks.{layer}.attn.hook_z", partial(self._take_z, layer=layer)

    def _bind(self, position: Tensor, hook: HookPoint) -> None:
        self._read[POSITION] = position.detach()
        self._pooling = self._pooling.bound(self._read)

    def _take_read(self, value: Tensor, hook: HookPoint) -> None:
        self._read[str(hook.name)] = self._pooling.kept(str(hook.name), value.detach()).clone()

    def _take(self, value: Tensor, hook: HookPoint, part: Callable[[Tensor], Tensor] | None) -> None:
        self._kept[str(hook.name)] = value.detach() if part is None else part(value.detach())

    def _take_pattern(self, layer: int, pattern: Tensor) -> None:
        self._patterns[layer] = self._pooling.rows(pattern, 2)

    def _take_scale(self, scale: Tensor, hook: HookPoint, layer: int) -> None:
        self._scales[layer] = scale.detach()[..., 0]

    def _take_z(self, z: Tensor, hook: HookPoint, layer: int) -> None:
        self._z[layer] = self._pooling.rows(z.detach()[:, self._pooling.positions])

    @full_precision()
    def run(self, embedding: Float[Tensor, "b e"]) -> FrozenRun:
        """What was seen of the run that gave the embedding."""
        seen = embedding, *self._kept.values(), *self._patterns.values(), *self._z.values()
        coarsest = max((each.dtype for each in seen), key=lambda dtype: torch.finfo(dtype).eps)
        dtype = torch.promote_types(self._model.cfg.dtype, torch.float32)
        omega = self._pooling.omega({name: value.to(dtype) for name, value in self._read.items()})
        attended = {l: effective_attention(omega, self._patterns[l].to(dtype)) for l in self._readers}
        scales = {l: scale.to(dtype) for l, scale in self._scales.items()}
        return FrozenRun(
            embedding=embedding.detach().to(dtype),
            reads={l: reading(attended[l], scales.get(l)) for l in self._readers},
            attended={l: attended[l].sum(-1) for l in self._readers},
            coordinates={l: head_coordinates(omega, z.to(dtype)) for l, z in self._z.items()},
            kept=self._kept,
            rounding=rounding(coarsest, embedding.device),
        )


def frozen_run(
    model: Tower,
    given: Any,
    readers: Collection[int],
    keep: Mapping[str, Callable[[Tensor], Tensor] | None],
    coordinates: bool = False,
) -> FrozenRun:
    """Runs the model once, see :class:`FrozenWatch`."""
    watch = FrozenWatch(model, readers, keep, coordinates)
    with model.hooks(fwd_hooks=list(watch.hooks())):
        embedding = model(given)
    return watch.run(embedding)


def refuse_unseen_hooks(model: Tower, readers: Collection[int]) -> None:
    """Raises ValueError if a hook on the model changes what second order does not see; the message names it.

    Hooks on queries, keys, patterns, scales, on what earlier heads put out and on neurons are followed: what they made
    of the run is what is taken apart.

    Args:
        readers: layers whose heads read.
    """
    with model.alone():
        here = {f"blocks.{layer}.{name}" for layer in readers for name in UNSEEN_OF_READERS} | {NORMALIZED}
        hooked = [
            name
            for name, point in model.hook_dict.items()
            if (name.rpartition(".")[2] in UNSEEN or name in here) and point.has_hooks(dir="fwd")
        ] + hooked_modules(model)
    if hooked:
        raise ValueError(
            f"Second order takes a run apart as the sum of what heads and neurons wrote, but hooks are on "
            f"{', '.join(hooked[:3])}{' and others' if len(hooked) > 3 else ''}, which it does not see. Take them off, "
            f"model.reset_hooks(), or hook what it follows: hook_pattern, mlp.hook_post, hook_z of earlier layers."
        )
