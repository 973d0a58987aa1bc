"""Which heads a hook changed: known from the hooks of our own run, seen from the numbers of a cached one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.model.protocol import Tower
from clip_lens_plugin.numerics.precision import full_precision, rounding, same_up_to

HEADS = ("hook_z", "hook_result")
"""Where a hook may change what a head puts out, by the last part of the hook point's name."""


class BeforeHooks:
    """What heads put out before any hook could change it, of the hook points of a model that have hooks on them.

    Args:
        rows: what is read of an activation [b, n, ...]: [b, r, ...].
    """

    def __init__(self, rows: Callable[[Tensor], Tensor]) -> None:
        self._rows = rows
        self._held: dict[tuple[int, str], Tensor] = {}

    @contextmanager
    def taken(self, model: Tower) -> Iterator[None]:
        """While it lasts, a run of the model leaves them here. No other thread may run the model meanwhile."""
        with ExitStack() as stack:
            for layer, block in enumerate(model.blocks):
                for name in HEADS:
                    point = getattr(block.attn, name)
                    if point.has_hooks(dir="fwd"):
                        # PyTorch's own, and the first: TransformerLens has none that sees what a hook point is given.
                        handle = point.register_forward_pre_hook(partial(self._keep, (layer, name)), prepend=True)
                        stack.callback(handle.remove)
            yield

    def _keep(self, key: tuple[int, str], module: nn.Module, given: tuple[Any, ...]) -> None:
        self._held[key] = self._rows(given[0].detach()).clone()

    def changed(self, layer: int, name: str, after: Float[Tensor, "b r h w"]) -> Bool[Tensor, "b h"]:
        """Heads with a number that is another than before the hooks; none where no hook stood.

        Args:
            name: one of :data:`HEADS`.
            after: what was read behind the hooks.
        """
        before = self._held.get((layer, name), after)
        return (before != after).any(-1).any(1)


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
