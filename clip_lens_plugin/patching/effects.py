"""What patched runs do to a metric: their own numbers less those of the corrupted runs."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.bars import tracked
from clip_lens_plugin.model.protocol import Tower
from clip_lens_plugin.patching.exact import Wanted, count_runs, patched_runs
from clip_lens_plugin.patching.kinds import Kind
from clip_lens_plugin.patching.metrics import Metric, measured, on_cpu
from clip_lens_plugin.patching.pairs import Pairs
from clip_lens_plugin.warned import warn


def effects(
    model: Tower,
    pairs: Pairs,
    kind: Kind,
    wanted: Wanted,
    metric: Metric,
    corrupted: Float[Tensor, " b"],
    batch_size: int,
    progress: bool = False,
) -> Float[Tensor, "b u"]:
    """The metric of each patched run less ``corrupted``, in the order of ``wanted``.

    Embeddings are held until those of all pairs are there, since a metric takes them in their order.

    Raises:
        TypeError, ValueError: see :func:`measured`.
    """
    held: dict[tuple[int, int], list[Tensor]] = {(layer, number): [] for layer in wanted for number in wanted[layer]}
    with torch.no_grad():
        runs = patched_runs(model, pairs, kind, wanted, batch_size)
        total = count_runs(model, pairs, wanted, batch_size)
        for each in tracked(runs, "patching", progress, total=total):
            for number, embedding in zip(each.numbers, each.embeddings, strict=True):
                held[each.layer, number].append(embedding)
        found = torch.stack([on_cpu(measured(metric, torch.cat(parts))) for parts in held.values()], dim=1)
    return _said_if_broken(found - corrupted[:, None], kind, list(held))


def _said_if_broken(effects: Float[Tensor, "b u"], kind: Kind, names: list[tuple[int, int]]) -> Float[Tensor, "b u"]:
    broken = ~effects.isfinite()
    if bool(broken.any()):
        pair, at = broken.nonzero()[0].tolist()
        layer, number = names[at]
        warn(
            f"The metric is NaN or infinite in {int(broken.sum())} patched runs, first with layer {layer}, {kind.one} "
            f"{number} of pair {pair}: these effects are NaN."
        )
    return torch.where(broken, torch.nan, effects)
