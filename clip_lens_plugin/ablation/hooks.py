"""Hooks that ablate activations while the model runs: total effects, since every later layer reacts.

They are for TransformerLens's ``run_with_hooks(images, fwd_hooks=[(name, hook)])`` and ``model.hooks(...)``, at any
hook point of a :class:`~clip_lens_plugin.hooked_clip.HookedCLIP`. ``decompose`` of a cache that was taken under them,
and ``model.decompose(images)`` inside ``with model.hooks(...)``, decompose the ablated model. Direct effects, for
which nothing is run again, are in :mod:`clip_lens_plugin.ablation`.

The hooks return a new tensor in the activation's dtype and on its device, and let gradients through.

Source: Gandelsman, Efros and Steinhardt, ICLR 2024, section 3 (mean ablation; the class token's attention to itself is
that of table 1). "Total effect", "zero", "mean" and "resample" ablation are TransformerLens's words.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral

import torch
from jaxtyping import Bool, Float, Int
from rich.progress import track
from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.hook_points import HookPoint

from clip_lens_plugin.factors import MissingActivationsError
from clip_lens_plugin.hooked_clip import HookedCLIP

Hook = Callable[..., Tensor | None]
"""``hook(activation, hook=hook_point)``: the new activation, or None to leave it as it is."""

HEAD_AXIS = {
    **dict.fromkeys(("hook_q", "hook_k", "hook_v", "hook_z", "hook_result"), 2),
    **dict.fromkeys(("hook_attn_scores", "hook_pattern"), 1),
}
"""Where the heads are, by the last part of a hook point's name. Positions follow at 2 if heads are at 1, else at 1."""


# ---------------------------------------------------------------------- zero, mean, resample


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
        means: hook point to mean, in the activation's shape without the batch, as :func:`activation_means` gives.
        heads, positions: see :func:`zero_ablation`.

    Raises:
        MissingActivationsError: in the run, if ``means`` lacks the hook point.
        ValueError, IndexError: see :func:`zero_ablation`; in the run, ValueError for a mean of another shape.
    """

    def mean(activation: Tensor, name: str) -> Tensor:
        return _checked(_named(means, name), activation.shape[1:], f"The mean of {name}")

    return _replacing(mean, heads, positions)


def resample_ablation(
    donors: Mapping[str, Tensor] | ActivationCache | Int[Tensor, " b"],
    heads: Iterable[int] | None = None,
    positions: Iterable[int] | None = None,
) -> Hook:
    """A hook that replaces each image's activation by that of another image.

    Args:
        donors: a cache of a run on b other images; or, for each image, the position in the same batch of the one to
            take from, as a permutation does. The donor's activation is then that of the same, ablated run.
            b is the size of the batch that is run: ``batch_size`` in ``model.decompose``.
        heads, positions: see :func:`zero_ablation`.

    Raises:
        MissingActivationsError: in the run, if the cache lacks the hook point.
        ValueError, IndexError: see :func:`zero_ablation`; in the run, ValueError for another batch size or shape, and
            IndexError for positions outside the batch.
    """

    def donated(activation: Tensor, name: str) -> Tensor:
        if not isinstance(donors, Tensor):
            return _checked(_named(donors, name), activation.shape, f"The donors' {name}")
        batch = len(activation)
        chosen = _checked(donors, (batch,), "The positions of donors").to(activation.device)
        if not bool(((chosen >= 0) & (chosen < batch)).all()):
            raise IndexError(
                f"Donors must be positions in the batch, 0 to {batch - 1}; got {int(donors.min())} to "
                f"{int(donors.max())}."
            )
        return activation[chosen]

    return _replacing(donated, heads, positions)


def _replacing(
    replacement: Callable[[Tensor, str], Tensor], heads: Iterable[int] | None, positions: Iterable[int] | None
) -> Hook:
    chosen_heads, chosen_positions = _whole_numbers("heads", heads), _whole_numbers("positions", positions)

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
    for what, numbers, axis in (("heads", heads, head_axis), ("positions", positions, position_axis)):
        if numbers is None or axis is None:
            continue
        size = activation.shape[axis]
        unknown = [number for number in numbers if not -size <= number < size]
        if unknown:
            raise IndexError(f"{name} has {what} 0 to {size - 1}, got {unknown}.")
        along = torch.zeros(size, dtype=torch.bool)
        along[numbers] = True
        mask = mask & along.view([size if each == axis else 1 for each in range(activation.ndim)])
    return mask.to(activation.device)


def _whole_numbers(what: str, given: Iterable[int] | None) -> list[int] | None:
    if given is None:
        return None
    numbers = list(given) if isinstance(given, Iterable) else None
    # A mask would pass for the numbers 0 and 1.
    if numbers is None or not all(isinstance(each, Integral) and not isinstance(each, bool) for each in numbers):
        raise ValueError(f"{what} must be whole numbers in a list, such as [0, 3]; got {given!r}.")
    return [int(each) for each in numbers]


def _checked(tensor: Tensor, expected: Sequence[int], title: str) -> Tensor:
    if tuple(tensor.shape) != tuple(expected):
        raise ValueError(f"{title} must have shape {list(expected)} in this run, got {list(tensor.shape)}.")
    return tensor


def _named(there: Mapping[str, Tensor] | ActivationCache, name: str) -> Tensor:
    if name not in there:
        raise MissingActivationsError(
            f"There is no activation of {name} to take from; of {len(there)} the nearest are "
            f"{_nearest(name, there, 12)}."
        )
    return there[name]


def _nearest(name: str, known: Iterable[object], n: int) -> list[str]:
    return difflib.get_close_matches(name, [str(each) for each in known], n, cutoff=0.0)


# ---------------------------------------------------------------------- means over images


class ActivationMeans:
    """Running means over images of named activations. Only sums are kept, in float64, however many images there are.

    Hooks that are on the model stay in force.

    Args:
        model: runs the images.
        names: a hook point's name, several, or a predicate on names, as TransformerLens's ``names_filter``.

    Attributes:
        n: images so far.

    Raises:
        ValueError: for a name that no hook point has, or if none is named.
    """

    def __init__(self, model: HookedCLIP, names: str | Sequence[str] | Callable[[str], bool]) -> None:
        self._model = model
        self._names = _hook_points(model, names)
        self._sums: dict[str, Tensor] = {}
        self.n = 0

    def add(self, images: Float[Tensor, "b 3 height width"]) -> None:
        """Runs the images as one batch.

        Raises:
            ValueError: if the shape is wrong, or an activation is NaN or infinite. Then nothing is added.
        """
        batch: dict[str, Tensor] = {}

        def keep(activation: Tensor, hook: HookPoint) -> None:
            assert hook.name is not None
            batch[hook.name] = activation.sum(0, dtype=torch.float64)

        with torch.no_grad(), self._model.hooks(fwd_hooks=[(name, keep) for name in self._names]):
            self._model(images)
        broken = [name for name, total in batch.items() if not bool(total.isfinite().all())]
        if broken:
            raise ValueError(f"{broken[0]} of these {len(images)} images has NaN or infinite values.")
        self._sums = {name: self._sums.get(name, 0.0) + total for name, total in batch.items()}
        self.n += len(images)

    def means(self) -> dict[str, Tensor]:
        """Name to mean, in the activation's shape without the batch; float32, or float64 for a float64 model.

        Raises:
            ValueError: if there was no image.
        """
        if self.n == 0:
            raise ValueError("No image was added, so there is no mean; add a tensor [b, 3, height, width] with b ≥ 1.")
        dtype = torch.promote_types(self._model.cfg.dtype, torch.float32)
        return {name: (total / self.n).to(dtype) for name, total in self._sums.items()}


def activation_means(
    model: HookedCLIP,
    images: Float[Tensor, "b 3 height width"],
    names: str | Sequence[str] | Callable[[str], bool],
    batch_size: int = 32,
    progress: bool = False,
) -> dict[str, Tensor]:
    """The means over images that :func:`mean_ablation` takes; :class:`ActivationMeans` for images that stream.

    Args:
        names: see :class:`ActivationMeans`.
        batch_size: images a run.
        progress: show a progress bar.

    Raises:
        ValueError: see :class:`ActivationMeans`; or if there is no image.
    """
    running = ActivationMeans(model, names)
    for start in track(range(0, len(images), batch_size), "averaging", disable=not progress):
        running.add(images[start : start + batch_size])
    return running.means()


def _hook_points(model: HookedCLIP, names: str | Sequence[str] | Callable[[str], bool]) -> list[str]:
    known = list(model.hook_dict)
    if callable(names):
        chosen = [name for name in known if names(name)]
    else:
        chosen = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    for name in chosen:
        if name not in model.hook_dict:
            raise ValueError(f"There is no hook point {name!r}; the nearest are {_nearest(name, known, 3)}.")
    if not chosen:
        raise ValueError(f"No hook point was named; {model.cfg.model_name} has {known[:3]} and {len(known) - 3} more.")
    return chosen


# ---------------------------------------------------------------------- the class token's attention to itself


def class_self_attention_hooks(
    model: HookedCLIP, layers: Iterable[int], replacement: Mapping[int, Tensor] | None = None
) -> list[tuple[str, Hook]]:
    """Hooks that replace what the class token sends to itself, ``pattern[b, h, 0, 0] · v[b, 0, h]``, in every head.

    The pattern stays: nothing is shared out over other tokens. Pass all pairs at once, after any other hook on
    ``hook_v``, ``hook_pattern`` or ``hook_z``, whose edits then count. A message is forgotten once it is replaced.

    Args:
        layers: negative ones counted from the end.
        replacement: None for zero; or layer (from 0) to a mean message [h, k], or to messages of donors [b, h, k]:
            see :func:`class_self_attention_messages`.

    Returns:
        (name, hook) pairs for ``fwd_hooks``, three a layer.

    Raises:
        IndexError: if there is no such layer.
        ValueError: if ``replacement`` lacks a layer, or has another shape; in the run, for another batch size.
    """
    pairs: list[tuple[str, Hook]] = []
    for l in _checked_layers(model, layers):
        if replacement is not None:
            _check_message(model, l, replacement)
        message = _SelfMessage(l)
        replace = _message_replacing(message, None if replacement is None else replacement[l])
        pairs += [*message.hooks, (f"blocks.{l}.attn.hook_z", replace)]
    return pairs


def class_self_attention_messages(
    model: HookedCLIP, images: Float[Tensor, "b 3 height width"], layers: Iterable[int], batch_size: int = 32
) -> dict[int, Float[Tensor, "b h k"]]:
    """What the class token sends to itself in each layer and head, ``pattern[b, h, 0, 0] · v[b, 0, h]``.

    In the weights' dtype, without gradients. Their mean over images is what mean ablation takes.

    Args:
        layers: see :func:`class_self_attention_hooks`.
        batch_size: images a run.

    Raises:
        IndexError: if there is no such layer.
        ValueError: if there is no image, or the shape is wrong.
    """
    if len(images) == 0:
        raise ValueError("There are no images to measure; give a tensor [b, 3, height, width] with b ≥ 1.")
    messages = {l: _SelfMessage(l) for l in _checked_layers(model, layers)}
    found: dict[int, list[Tensor]] = {l: [] for l in messages}
    with torch.no_grad(), model.hooks(fwd_hooks=[pair for each in messages.values() for pair in each.hooks]):
        for start in range(0, len(images), batch_size):
            model(images[start : start + batch_size])
            for l, message in messages.items():
                found[l].append(message.take())
    return {l: torch.cat(parts) for l, parts in found.items()}


class _SelfMessage:
    """What the class token sends to itself in one layer of the current run, until it is taken."""

    def __init__(self, layer: int) -> None:
        self._value: Tensor | None = None
        self._message: Tensor | None = None
        self.hooks: list[tuple[str, Hook]] = [
            (f"blocks.{layer}.attn.hook_v", self._see_value),
            (f"blocks.{layer}.attn.hook_pattern", self._see_pattern),
        ]

    def _see_value(self, v: Float[Tensor, "b n h k"], hook: HookPoint) -> None:
        self._value, self._message = v[:, 0], None

    def _see_pattern(self, pattern: Float[Tensor, "b h n n"], hook: HookPoint) -> None:
        if self._value is not None:
            self._message, self._value = pattern[:, :, 0, 0, None] * self._value, None

    def take(self) -> Float[Tensor, "b h k"]:
        """The message, which is then forgotten."""
        message, self._value, self._message = self._message, None, None
        if message is None:
            raise ValueError("Pass every pair of class_self_attention_hooks, each once, to the same run.")
        return message


def _message_replacing(message: _SelfMessage, replacement: Tensor | None) -> Hook:
    def replace(z: Float[Tensor, "b n h k"], hook: HookPoint) -> Float[Tensor, "b n h k"]:
        sent = message.take()
        if replacement is None:
            change = -sent
        else:
            if replacement.ndim == 3:
                _checked(replacement, sent.shape, f"The messages for {hook.name}")
            change = replacement.to(sent) - sent
        changed = z.clone()
        changed[:, 0] += change
        return changed

    return replace


def _check_message(model: HookedCLIP, layer: int, replacement: Mapping[int, Tensor]) -> None:
    if layer not in replacement:
        raise ValueError(f"There is no replacement for layer {layer}, only for layers {sorted(replacement)}.")
    h, k, shape = model.cfg.n_heads, model.cfg.d_head, list(replacement[layer].shape)
    if shape[-2:] != [h, k] or len(shape) not in (2, 3):
        raise ValueError(
            f"The replacement for layer {layer} must have shape [{h}, {k}] or [batch, {h}, {k}], got {shape}."
        )


def _checked_layers(model: HookedCLIP, layers: Iterable[int]) -> list[int]:
    """The layers counted from the start, each once."""
    numbers = _whole_numbers("layers", layers) or []
    return list(dict.fromkeys(model.cfg.checked_head(layer, 0)[0] for layer in numbers))
