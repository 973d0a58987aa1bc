"""Which heads a hook changed: known from the hooks of our own run, seen from the numbers of a cached one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.model.hooks.interventions import hooked_heads
from clip_lens_plugin.model.protocol import Tower
from clip_lens_plugin.numerics.precision import full_precision, rounding, same_up_to

Key = tuple[int, str]
"""A layer, and "hook_z" or "hook_result"."""


class ChangedHeads:
    """Heads that hooks change during one run of a model: what goes into a hook point is compared with what comes out.

    Args:
        model: with the hooks on it.
        rows: what is read of an activation [b, n, ...]: [b, r, ...].
    """

    def __init__(self, model: Tower, rows: Callable[[Tensor], Tensor]) -> None:
        self._rows = rows
        self._points = hooked_heads(model)
        self._before: dict[Key, Tensor] = {}
        self._changed: dict[Key, Bool[Tensor, "b h"]] = {}

    @property
    def layers(self) -> frozenset[int]:
        """Those in which a hook stands."""
        return frozenset(layer for layer, _ in self._points)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While it lasts, a run leaves here what goes into the hook points. No other thread may run the model."""
        with ExitStack() as stack:
            for key, point in self._points.items():
                # PyTorch's own, and the first: TransformerLens has none that sees what a hook point is given.
                handle = point.register_forward_pre_hook(partial(self._keep, key), prepend=True)
                stack.callback(handle.remove)
            yield

    def _keep(self, key: Key, module: nn.Module, given: tuple[Any, ...]) -> None:
        self._before[key] = self._rows(given[0].detach()).clone()

    def hooks(self) -> Iterator[tuple[str, Callable[..., None]]]:
        """What compares, to be put on the model behind its own hooks, so that a layer's numbers are not kept."""
        for layer, name in self._points:
            yield f"blocks.{layer}.attn.{name}", partial(self._compare, (layer, name))

    def _compare(self, key: Key, after: Tensor, hook: HookPoint) -> None:
        before, now = self._before.pop(key), self._rows(after.detach())
        same = (before == now) | (before.isnan() & now.isnan())
        self._changed[key] = ~same.all(-1).all(1)

    def at(self, layer: int, name: str, z: Float[Tensor, "b r h w"]) -> Bool[Tensor, "b h"]:
        """Heads with a number that came out of the hook point as another; none where no hook stood.

        Args:
            name: "hook_z" or "hook_result".
            z: of the run, for its images and heads.
        """
        none = z.new_zeros(len(z), z.shape[2], dtype=torch.bool)
        return self._changed.get((layer, name), none)


def ablated(z: Float[Tensor, "b r h w"]) -> Bool[Tensor, "b h"]:
    """Heads that put out nothing."""
    return (z == 0).all(-1).all(1)


@full_precision()
def seen_replaced(
    pattern: Float[Tensor, "b h r n"], v: Float[Tensor, "b n h k"], z: Float[Tensor, "b r h k"]
) -> Bool[Tensor, "b h"]:
    """Heads of a cached run whose z is neither what the tokens send, up to rounding, nor zero.

    Its hooks are gone, so that a change below the rounding of the run is not seen.
    """
    sent = equations.attended_values(pattern, v)
    allowed = same_up_to(rounding(z.dtype, z.device)) * (sent.norm(dim=-1) + z.norm(dim=-1))
    return ~((sent - z).norm(dim=-1) <= allowed).all(1) & ~ablated(z)


@full_precision()
def fold_results(
    model: Tower,
    z: Sequence[Tensor],
    result: Sequence[Tensor | None],
    changed: Sequence[Bool[Tensor, "b h"] | None],
) -> tuple[list[Tensor], list[Tensor | None]]:
    """z, with a head that was ablated at ``hook_result`` set to zero, and any other edit made there.

    Args:
        result: of each layer; only one with hooks there has it.
        changed: heads that hooks on ``hook_result`` changed; None for a cached run, of which it is seen from the
            numbers, up to their rounding.
    """
    coordinates, edits = [], []
    for block, z_rows, result_rows, of_hooks in zip(model.blocks, z, result, changed, strict=True):
        edit = None
        if result_rows is not None:
            zero = ablated(result_rows)
            z_rows = z_rows.masked_fill(zero[:, None, :, None], 0.0)
            exact = equations.written_by_heads(z_rows, block.attn.W_O)
            difference = result_rows - exact
            if of_hooks is None:
                allowed = same_up_to(rounding(model.cfg.dtype, model.cfg.device)) * exact.norm(dim=-1)
                edited = ~(difference.norm(dim=-1) <= allowed).all(1)
            else:
                edited = of_hooks & ~zero
            if bool(edited.any()):
                edit = difference.masked_fill(~edited[:, None, :, None], 0.0)
        coordinates.append(z_rows)
        edits.append(edit)
    return coordinates, edits
