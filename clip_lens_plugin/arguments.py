"""What users give, checked in one place: names out of a list, whole numbers, positions and labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from clip_lens_plugin.not_there import NotThereError


def checked_choice(name: str, given: Any, allowed: Sequence[str]) -> str:
    """The same string.

    Args:
        name: of the argument, which the message begins with.
        given: what was given for it.
        allowed: every value that it may have.

    Raises:
        ValueError: if it is not among them.
    """
    if isinstance(given, str) and given in allowed:
        return given
    *rest, last = (repr(each) for each in allowed)
    every = f"{', '.join(rest)} or {last}" if rest else last
    raise ValueError(f"{name} must be {every}, got {given!r}.")


def checked_number(name: str, given: Any, least: int = 1) -> int:
    """The same whole number.

    Raises:
        ValueError: if it is none, or less than ``least``.
    """
    number = _plain(given)
    if not is_whole(number) or number < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {given!r}.")
    return int(number)


def checked_texts(name: str, given: Any) -> list[str]:
    """The texts of a list, an array or a generator, each as a plain string.

    Raises:
        ValueError: if it is one string alone, no list of texts, or empty; or if a text holds half a character, which
            no tokenizer takes and no file keeps.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        alone = "the one string " if isinstance(given, str) else ""
        raise ValueError(f"{name} takes a list of one or more texts, got {alone}{given!r:.80}.")
    texts = list(given)
    wrong = [each for each in texts if not isinstance(each, str)]
    if wrong or not texts:
        what = f"{wrong[0]!r:.60} of type {type(wrong[0]).__name__} among them" if wrong else "none"
        raise ValueError(f"{name} takes a list of one or more texts, got {what}.")
    refuse_half_characters(name, texts)
    return [str(each) for each in texts]


def refuse_half_characters(name: str, texts: Iterable[str]) -> None:
    """Raises ValueError if a text holds what came from bytes that are no UTF-8, or half a character of UTF-16."""
    for each in texts:
        try:
            each.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"{name}: {each!r:.80} is not UTF-8; give the text in UTF-8.") from error


DEVICES = "cpu, cuda, cuda:1, mps or xpu"
ALL_DEVICES = "https://docs.pytorch.org/docs/stable/tensor_attributes.html#torch.device"


class DeviceError(ValueError, RuntimeError):
    """A device that torch does not know, or that is not there."""


def checked_device(given: Any) -> torch.device:
    """The device, which can be used here.

    Raises:
        DeviceError: if it is none, or is not there.
    """
    try:
        device = torch.device(given)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError, ValueError, NotImplementedError) as error:
        why = f" ({str(error).splitlines()[0]})" if isinstance(given, str) and given.startswith(("cuda", "mps")) else ""
        raise DeviceError(
            f"The device {given!r} cannot be used: expected one that torch has here, such as {DEVICES}{why}. All of "
            f"torch's are in {ALL_DEVICES}."
        ) from error
    return device


def checked_pair(name: str, given: Any) -> tuple[int, int]:
    """The same two whole numbers, of at least 1 each.

    Raises:
        ValueError: if they are no such pair.
    """
    pair = list(given) if isinstance(given, Sequence | Tensor | np.ndarray) and not isinstance(given, str) else []
    if len(pair) != 2:
        raise ValueError(f"{name} must be two whole numbers, got {given!r}.")
    return checked_number(f"Each of {name}", pair[0]), checked_number(f"Each of {name}", pair[1])


def checked_index(what: str, given: Any, n: int) -> int:
    """The position counted from the start: negative ones count from the end.

    Args:
        what: is counted, in the singular: "head", "row".
        given: the position.
        n: how many there are.

    Raises:
        ValueError: if it is no whole number.
        IndexError: if there is no such position.
    """
    number = _plain(given)
    if not is_whole(number):
        raise ValueError(f"The number of a {what} must be a whole number, got {given!r}.")
    if not -n <= number < n:
        raise _no_such(what, int(number), n)
    return int(number) % n


def checked_indices(what: str, given: Any, n: int) -> Int[Tensor, " s"]:
    """Positions, or a mask with a truth value for each of n, as positions counted from the start.

    Args:
        what: is counted, in the singular: "image", "row".
        given: a slice, a range, a list, an array or a tensor.
        n: how many there are.

    Raises:
        ValueError: if it is none of these.
        IndexError: if there is no such position, or the mask has another length.
    """
    if isinstance(given, slice):
        if not all(each is None or is_whole(each) for each in (given.start, given.stop, given.step)):
            raise ValueError(f"A slice of {what}s runs from and to whole numbers, got {given!r}.")
        return torch.from_numpy(np.arange(n)[given].copy())
    if isinstance(given, FakeTensor):  # has no values to look at
        return given.long()
    array = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    if array.ndim == 1 and array.size == 0:
        return torch.from_numpy(np.zeros(0, dtype=np.int64))
    if array.ndim != 1 or array.dtype.kind not in "iub":
        raise ValueError(
            f"Positions of {what}s are a slice, a range, whole numbers or a mask, got {type(given).__name__} "
            f"{given!r:.60}."
        )
    if array.dtype.kind == "b":
        if len(array) != n:
            raise NotThereError(f"The mask has {len(array)} values, there are {n} {what}s.")
        return torch.from_numpy(np.flatnonzero(array))
    wrong = array[(array < -n) | (array >= n)]
    if len(wrong):
        raise _no_such(what, int(wrong[0]), n)
    return torch.from_numpy(array.astype(np.int64) % n)


def checked_heads(given: Any, n_layers: int, n_heads: int) -> list[tuple[int, int]]:
    """(layer, head) pairs counted from the start, each once, in the given order.

    Args:
        given: pairs of whole numbers, or the number of a layer, which stands for all of its heads.
        n_layers, n_heads: how many there are.

    Raises:
        ValueError: if it is neither, or holds no pair.
        IndexError: if there is no such layer or head.
    """
    if is_whole(_plain(given)):
        layer = checked_index("layer", given, n_layers)
        return [(layer, head) for head in range(n_heads)]
    listed = given.tolist() if isinstance(given, Tensor | np.ndarray) else given
    pairs = list(listed) if isinstance(listed, Iterable) and not isinstance(listed, str) else None
    if pairs is None or not all(isinstance(each, Sequence) and len(each) == 2 for each in pairs):
        raise ValueError(
            f"heads must be (layer, head) pairs in a list, such as [(3, 0), (-1, 5)], or the number of a layer; got "
            f"{given!r:.80}."
        )
    if not pairs:
        raise ValueError("heads must hold at least one (layer, head) pair, or be left out.")
    return list(dict.fromkeys(checked_head(layer, head, n_layers, n_heads) for layer, head in pairs))


def checked_head(layer: Any, head: Any, n_layers: int, n_heads: int) -> tuple[int, int]:
    """The same (layer, head), counted from the start where a number is negative.

    Raises:
        ValueError: if one is no whole number.
        IndexError: if there is no such head.
    """
    try:
        return checked_index("layer", layer, n_layers), checked_index("head", head, n_heads)
    except IndexError:
        raise NotThereError(
            f"There is no layer {layer}, head {head}: there are layers 0 to {n_layers - 1} and heads 0 to "
            f"{n_heads - 1}; -1 is the last."
        ) from None


def whole_numbers(what: str, given: Any) -> list[int] | None:
    """The numbers as a list, None for None.

    Raises:
        ValueError: if it is no list of whole numbers.
    """
    if given is None:
        return None
    numbers = [_plain(each) for each in given] if isinstance(given, Iterable) else None
    # A mask would pass for the numbers 0 and 1.
    if numbers is None or not all(is_whole(each) for each in numbers):
        raise ValueError(f"{what} must be whole numbers in a list, such as [0, 3]; got {given!r}.")
    return [int(each) for each in numbers]


def checked_labels(given: Any, n_images: int, n_classes: int | None) -> Int[Tensor, " b"]:
    """The label of each image, on the CPU: a class's position, -1 where it is not known.

    Args:
        n_classes: that there are; None if labels alone say so.

    Raises:
        ValueError: if they are no whole numbers, there are more or fewer than images, or one is no class.
    """
    try:
        labels = torch.as_tensor(given).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"Labels must be whole numbers, one for each image, got {given!r:.60}.") from error
    if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(
            f"Labels must be whole numbers, one for each image, got a tensor of {labels.dtype} of shape "
            f"{list(labels.shape)}."
        )
    labels = labels.long()
    if len(labels) != n_images:
        raise ValueError(f"{n_images} images need as many labels, got {len(labels)}.")
    there = f"positions of the {n_classes} classes, 0 to {n_classes - 1}" if n_classes else "whole numbers from 0"
    if len(labels) and not (labels.min() >= -1 and (n_classes is None or labels.max() < n_classes)):
        raise ValueError(
            f"Labels must be {there}, or -1 where the class is not known; got {int(labels.min())} to "
            f"{int(labels.max())}."
        )
    return labels


def _no_such(what: str, given: int, n: int) -> NotThereError:
    known = f"there are {n}, from 0 to {n - 1}; -1 is the last" if n else "there is none"
    return NotThereError(f"There is no {what} {given}: {known}.")


def _plain(given: Any) -> Any:
    """A tensor or array without dimensions as the number that it holds."""
    return given.item() if isinstance(given, Tensor | np.ndarray) and given.ndim == 0 else given


def is_whole(given: Any) -> bool:
    """Whether it is a whole number; True and False are none."""
    return isinstance(given, Integral) and not isinstance(given, bool)
