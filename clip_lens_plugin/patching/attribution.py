"""Attribution patching: every head's or neuron's effect estimated from one gradient, some of them measured beside it.

Source: Nanda, "Attribution Patching: Activation Patching At Industrial Scale", 2023. An estimate is the first-order
change, (clean − corrupted) · ∂metric/∂activation at the corrupted run. It sees neither saturated softmax nor what a
LayerNorm takes back, and can have the wrong sign; so exact values always stand beside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_number
from clip_lens_plugin.bars import tracked
from clip_lens_plugin.model.protocol import Tower
from clip_lens_plugin.numerics.noise import computed_noise
from clip_lens_plugin.numerics.precision import rounding
from clip_lens_plugin.patching.attributed import AttributionPatching
from clip_lens_plugin.patching.effects import effects
from clip_lens_plugin.patching.kinds import Kind, KindName, kind_called
from clip_lens_plugin.patching.metrics import Metric, gradient, of_both_sides, on_cpu
from clip_lens_plugin.patching.pairs import Pairs, given_pairs

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

WITH_GRADIENTS = 4
"""So many times fewer pairs are in a run that keeps all its activations for the way back."""


def attribution_patching(
    model: Tower | TransformerBridge,
    corrupted: Any,
    clean: Any,
    metric: Metric,
    *,
    check: int = 20,
    kind: KindName = "heads",
    seed: int = 0,
    batch_size: int = 32,
    progress: bool = False,
) -> AttributionPatching:
    """Estimates of what patching each head, or neuron, does to a metric, and exact values of some of them beside.

    An estimate is Σ (clean − corrupted) · ∂metric/∂activation over tokens, the gradient that of the corrupted run: of a
    head at ``hook_z``, of a neuron at ``mlp.hook_post``. What it estimates is the effect that :func:`patch_heads` has
    in full, from the clean run into the corrupted one. All estimates together cost about five runs of the model; exact
    values, up to twice ``check`` of them, cost one run each, or less.

    Measured are those of the ``check`` greatest estimates, by their mean size over the pairs, and as many others drawn
    at random. Where they disagree, the other estimates are not to be trusted either.

    Hooks of a context, ``with model.hooks(...)``, are on all runs. Parameters get no gradients, and keep whether they
    ask for them. It works under ``torch.no_grad`` too.

    Args:
        model, corrupted, clean: see :func:`patch_heads`.
        metric: from embeddings [b, e] of all pairs in their order, not normalised, to one number each [b], which has a
            gradient and depends on no other pair's embedding.
        check: how many of the greatest, and how many of the others, are measured; at least 1.
        kind: "heads" or "neurons".
        seed: of the random ones.
        batch_size: rows in a run of the model; a quarter of it where all activations are kept for the gradient.
        progress: show a progress bar.

    Raises:
        ValueError: see :func:`patch_heads`; also if the metric has no gradient or mixes pairs, an estimate is NaN or
            infinite, or ``check``, ``kind`` or ``seed`` is none of those above.
        TypeError, PixelError: see :func:`patch_heads`.

    Warns:
        UserWarning: see :func:`patch_heads`.
    """
    check, seed = checked_number("check", check), checked_number("seed", seed, least=0)
    batch_size, of_kind = checked_number("batch_size", batch_size), kind_called(kind)
    tower, pairs = given_pairs(model, corrupted, clean)
    n_each = of_kind.count(tower)
    with pairs.checked(), tower.alone():
        embeddings = pairs.embeddings(tower, batch_size)
        without, with_all = of_both_sides(metric, embeddings)
        upstream = gradient(metric, embeddings[0])
        estimates = _estimates(tower, pairs, of_kind, upstream, max(1, batch_size // WITH_GRADIENTS), progress)
        greatest, others = _chosen(estimates, check, seed)
        checked = [divmod(at, n_each) for at in sorted([*greatest, *others])]
        wanted = {layer: [number for l, number in checked if l == layer] for layer, _ in checked}
        exact = effects(tower, pairs, of_kind, wanted, metric, without, batch_size, progress)
    size = float(torch.stack([without.abs(), with_all.abs()]).max())
    return AttributionPatching(
        kind=kind,
        estimates=estimates,
        corrupted=without,
        clean=with_all,
        checked=tuple(checked),
        greatest=frozenset(divmod(at, n_each) for at in greatest),
        exact=exact,
        noise=size * computed_noise(rounding(tower.cfg.dtype, tower.cfg.device)),
    )


def _estimates(
    model: Tower, pairs: Pairs, kind: Kind, upstream: Float[Tensor, "b e"], size: int, progress: bool
) -> Float[Tensor, "b l u"]:
    """(clean − corrupted) · gradient of every head or neuron.

    Args:
        upstream: the metric's gradient with respect to the embedding.
        size: pairs in a run.

    Raises:
        ValueError: if one is NaN or infinite.
    """
    found = []
    for rows in tracked(pairs.parts(size), "estimating", progress):
        corrupted, clean = pairs.rows(rows)
        found.append(_estimates_of_run(model, kind, corrupted, clean, upstream[rows]))
    estimates = torch.cat(found)
    broken = ~estimates.isfinite()
    if bool(broken.any()):
        pair, layer, number = broken.nonzero()[0].tolist()
        raise ValueError(
            f"The metric's gradient is NaN or infinite, first at layer {layer}, {kind.one} {number} of pair {pair}, so "
            f"there is no estimate. Give a metric with a gradient there; patch_heads needs none."
        )
    return estimates


def _estimates_of_run(
    model: Tower, kind: Kind, corrupted: Tensor, clean: Tensor, upstream: Float[Tensor, "s e"]
) -> Float[Tensor, "s l u"]:
    names = [kind.point(layer) for layer in range(model.cfg.n_layers)]
    with torch.no_grad():
        donors = model.run_with_cache(clean, names_filter=names)[1]
    own: dict[str, Tensor] = {}

    def keep(activation: Tensor, hook: Any) -> Tensor:
        # Where no parameter asks for a gradient, the first activation is where the way back ends.
        own[hook.name] = activation if activation.requires_grad else activation.detach().requires_grad_()
        return own[hook.name]

    with torch.inference_mode(False), torch.enable_grad():
        given = corrupted.clone() if corrupted.is_inference() else corrupted
        embedding = model.run_with_hooks(given, fwd_hooks=[(name, keep) for name in names])
        along = upstream.clone() if upstream.is_inference() else upstream
        gradients = torch.autograd.grad(embedding, [own[name] for name in names], along)
    with torch.no_grad():
        by_layer = [
            on_cpu(kind.first_order(donors[name] - own[name], each))
            for name, each in zip(names, gradients, strict=True)
        ]
    return torch.stack(by_layer, dim=1)


def _chosen(estimates: Float[Tensor, "b l u"], check: int, seed: int) -> tuple[list[int], list[int]]:
    """Positions, over the layers one after the other, of the greatest estimates and of others drawn at random."""
    order = estimates.abs().mean(0).flatten().argsort(descending=True, stable=True).tolist()
    others = sorted(order[check:])
    drawn = np.random.default_rng(seed).permutation(len(others))[:check]
    return order[:check], [others[int(i)] for i in drawn]
