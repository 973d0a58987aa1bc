"""Exact activation patching of every head: what the metric of the corrupted run gains by one head of the clean run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.model.protocol import Tower
from clip_lens_plugin.patching.effects import effects
from clip_lens_plugin.patching.kinds import HEADS
from clip_lens_plugin.patching.metrics import Metric, of_both_sides
from clip_lens_plugin.patching.pairs import given_pairs
from clip_lens_plugin.shown import Shown

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True, eq=False, repr=False)
class HeadPatching(Shown):
    """What each head carries of the difference between corrupted and clean inputs, one patched run for each.

    Attributes:
        effects: the metric of the corrupted run with the head's ``hook_z``, at every token, from the clean run, less
            that of the corrupted run [b, l, h]; float64, as all of it.
        corrupted, clean: the metric of the inputs as they are [b].
    """

    effects: Float[Tensor, "b l h"]
    corrupted: Float[Tensor, " b"]
    clean: Float[Tensor, " b"]

    def to_dataframe(self) -> pd.DataFrame:
        """One row per head: layer, head, effect_mean, effect_std over the pairs (over b, not b − 1)."""
        n_layers, n_heads = self.effects.shape[1:]
        index = pd.MultiIndex.from_product([range(n_layers), range(n_heads)], names=["layer", "head"])
        mean, std = self.effects.mean(0), self.effects.std(0, correction=0)
        columns = {"effect_mean": mean.flatten().numpy(), "effect_std": std.flatten().numpy()}
        return pd.DataFrame(columns, index).reset_index()

    def __repr__(self) -> str:
        n, n_layers, n_heads = self.effects.shape
        mean = self.effects.mean(0)
        layer, head = divmod(int(mean.abs().nan_to_num().argmax()), n_heads)
        return (
            f"HeadPatching(pairs={n}, layers={n_layers}, heads={n_heads}, metric {float(self.corrupted.mean()):.4g} "
            f"corrupted, {float(self.clean.mean()):.4g} clean; greatest effect L{layer}H{head}: "
            f"{float(mean[layer, head]):+.4g})"
        )


def patch_heads(
    model: Tower | TransformerBridge,
    corrupted: Any,
    clean: Any,
    metric: Metric,
    *,
    batch_size: int = 32,
    progress: bool = False,
) -> HeadPatching:
    """The change of a metric if one head of the corrupted run puts out what it does in the clean run, for every head.

    As TransformerLens's ``get_act_patch_attn_head_out_all_pos``: from the clean run into the corrupted one, ``hook_z``
    of one head at all tokens; later layers react. Each number is that of a run of its own, up to rounding. They are
    made from what all runs of a layer share, so it takes about half the time of single runs.

    Hooks of a context, ``with model.hooks(...)``, are on the clean run and on every patched one, which then are whole
    runs, one head at a time, of ``batch_size`` pairs.

    Args:
        model: a ``HookedCLIP`` or a ``TransformerBridge``; or a text tower, ``model.text``.
        corrupted, clean: as many of either, the first with the first and so on: paths, pictures or pixels, see
            :mod:`clip_lens_plugin.model.inputs.given`; of a text tower texts, or token ids.
        metric: from embeddings [b, e] of all pairs in their order, not normalised, to one number each [b].
        batch_size: rows in a run of the model: pairs, times heads that are patched side by side.
        progress: show a progress bar.

    Raises:
        ValueError: if there are more of the one than of the other, or none; if the metric gives something else, NaN or
            infinity; if hooks were left on the model; or ``batch_size`` is no whole number of at least 1.
        TypeError: if the model, or the metric, is none.
        PixelError: if images are neither pictures nor a floating-point tensor of the model's shape, or hold NaN.

    Warns:
        UserWarning: if the metric of a patched run is NaN or infinite; the effect is NaN.
    """
    batch_size = checked_number("batch_size", batch_size)
    tower, pairs = given_pairs(model, corrupted, clean)
    every = {layer: range(HEADS.count(tower)) for layer in range(tower.cfg.n_layers)}
    with pairs.checked(), tower.alone():
        without, with_all = of_both_sides(metric, pairs.embeddings(tower, batch_size))
        found = effects(tower, pairs, HEADS, every, metric, without, batch_size, progress)
    return HeadPatching(found.unflatten(1, (tower.cfg.n_layers, -1)), without, with_all)
