"""Hooks that ablate activations while the model runs: total effects, since every later layer reacts.

They are for TransformerLens's ``run_with_hooks(images, fwd_hooks=[(name, hook)])`` and ``model.hooks(...)``, at any
hook point of a :class:`~clip_lens_plugin.model.hooked_clip.HookedCLIP`. ``decompose`` of a cache that was taken under
them, and ``model.decompose(images)`` inside ``with model.hooks(...)``, decompose the ablated model. Direct effects,
for which nothing is run again, are in :mod:`clip_lens_plugin.ablation`.

The hooks return a new tensor in the activation's dtype and on its device, and let gradients through.

Source: Gandelsman, Efros and Steinhardt, ICLR 2024, section 3 (mean ablation). "Total effect", "zero",
"mean" and "resample" ablation are TransformerLens's words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.hook_points import HookPoint

from clip_lens_plugin.arguments import checked_index, checked_indices, whole_numbers
from clip_lens_plugin.decomposition.running.activations import MissingActivationsError
from clip_lens_plugin.model.hooks.hook_names import nearest

Hook = Callable[..., Tensor | None]
"""``hook(activation, hook=hook_point)``: the new activation, or None to leave it as it is."""

HEAD_AXIS = {
    **dict.fromkeys(("hook_q", "hook_k", "hook_v", "hook_rot_q", "hook_rot_k", "hook_z", "hook_result"), 2),
    **dict.fromkeys(("hook_attn_scores", "hook_pattern"), 1),
}
"""Where the heads are, by the last part of a hook point's name. Positions follow at 2 if heads are at 1, else at 1."""


def zero_ablation(heads: Iterable[int] | None = None, positions: Iterable[int] | None = None) -> Hook:
    """A hook that sets an activation to zero.

    Args:
        heads: numbers of the heads to ablate, negative ones counted from the end; the whole activation if not given.
        positions: the same for token positions (query positions of ``hook_pattern`` and ``hook_attn_scores``).

    Raises:
        ValueError: if they are not whole numbers; in the run, if heads are given at a hook point without heads.
        IndexError: in the run, if there is no such head or position.
    """
    return _replacing(lambda activation, name: activation.new_zeros(()), heads, positions)


def mean_ablation(
    means: Mapping[str, Tensor], heads: Iterable[int] | None = None, positions: Iterable[int] | None = None
) -> Hook:
    """A hook that replaces an activation by a mean over images, each position by its own.

    Args:
        means: hook point to mean, in the activation's shape without the batch, as
            :func:`~clip_lens_plugin.ablation.means.activation_means` gives.
        heads, positions: see :func:`zero_ablation`.

    Raises:
        MissingActivationsError: in the run, if ``means`` lacks the hook point.
        ValueError, IndexError: see :func:`zero_ablation`; in the run, ValueError for a mean of another shape.
    """

    def mean(activation: Tensor, name: str) -> Tensor:
        return checked_shape(_named(means, name), activation.shape[1:], f"The mean of {name}")

    return _replacing(mean, heads, positions)


def resample_ablation(
    donors: Mapping[str, Tensor] | ActivationCache | Int[Tensor, " b"],
    heads: Iterable[int] | None = None,
    positions: Iterable[int] | None = None,
) -> Hook:
    """A hook that replaces each image's activation by that of another image.

    Args:
        donors: a cache of a run on b other images; or, for each image, the position in the same batch of the one to
            take from, as a permutation does; negative ones count from the end. The donor's activation is then that of
            the same, ablated run. b is the size of the batch that is run: ``batch_size`` in ``model.decompose``.
        heads, positions: see :func:`zero_ablation`.

    Raises:
        MissingActivationsError: in the run, if the cache lacks the hook point.
        ValueError, IndexError: see :func:`zero_ablation`; in the run, ValueError for another batch size or shape, and
            IndexError for positions outside the batch.
    """

    def donated(activation: Tensor, name: str) -> Tensor:
        if not isinstance(donors, Tensor):
            return checked_shape(_named(donors, name), activation.shape, f"The donors' {name}")
        batch = len(activation)
        chosen = checked_shape(donors, (batch,), "The positions of donors")
        return activation[checked_indices("donor in the batch", chosen, batch).to(activation.device)]

    if isinstance(donors, Tensor) and (donors.dtype == torch.bool or donors.is_floating_point()):
        raise ValueError(f"Donors must be positions in the batch, whole numbers, got a tensor of {donors.dtype}.")
    return _replacing(donated, heads, positions)


def _replacing(
    replacement: Callable[[Tensor, str], Tensor], heads: Iterable[int] | None, positions: Iterable[int] | None
) -> Hook:
    chosen_heads, chosen_positions = whole_numbers("heads", heads), whole_numbers("positions", positions)

    def replace(activation: Tensor, hook: HookPoint) -> Tensor:
        assert hook.name is not None
        mask = _mask(activation, hook.name, chosen_heads, chosen_positions)
        return torch.where(mask, replacement(activation, hook.name).to(activation), activation)

    return replace


def _mask(activation: Tensor, name: str, heads: list[int] | None, positions: list[int] | None) -> Bool[Tensor, "..."]:
    """True where the activation is to be replaced; to be broadcast over the other axes."""
    head_axis = HEAD_AXIS.get(name.rpartition(".")[2])
    if heads is not None and head_axis is None:
        raise ValueError(f"{name} has no heads to choose from; {', '.join(sorted(HEAD_AXIS))} have.")
    position_axis = 2 if head_axis == 1 else 1
    mask = torch.ones((1,) * activation.ndim, dtype=torch.bool)
    for what, numbers, axis in (("head", heads, head_axis), ("position", positions, position_axis)):
        if numbers is None or axis is None:
            continue
        size = activation.shape[axis]
        along = torch.zeros(size, dtype=torch.bool)
        try:
            along[[checked_index(what, number, size) for number in numbers]] = True
        except IndexError as error:
            raise IndexError(f"{name}: {error}") from None
        mask = mask & along.view([size if each == axis else 1 for each in range(activation.ndim)])
    return mask.to(activation.device)


def checked_shape(tensor: Tensor, expected: Sequence[int], title: str) -> Tensor:
    """The tensor. Raises ValueError if it has another shape; ``title`` begins the message."""
    if tuple(tensor.shape) != tuple(expected):
        raise ValueError(f"{title} must have shape {list(expected)} in this run, got {list(tensor.shape)}.")
    return tensor


def _named(there: Mapping[str, Tensor] | ActivationCache, name: str) -> Tensor:
    if name not in there:
        raise MissingActivationsError(
            f"There is no activation of {name} to take from; of {len(there)} the nearest are "
            f"{nearest(name, there, 12)}."
        )
    return there[name]
