"""Modules that are built for their structure alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

FILLS = frozenset(
    {"uniform_", "normal_", "erfinv_", "mul_", "add_", "sub_", "div_", "clamp_", "fill_", "zero_", "copy_"}
)
"""Operations that change a tensor's values and nothing else."""


@contextmanager
def without_values() -> Iterator[None]:
    """Modules made inside lie on the meta device, and nothing computes with which values their weights would begin.

    On the meta device that computation is done shape by shape in Python, and takes most of a large tower's making.
    """
    with torch.device("meta"), _Unfilled():
        yield


class _Unfilled(TorchFunctionMode):
    """Tensors without values are not filled with any."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in FILLS or getattr(func, "__module__", "") == torch.nn.init.__name__:
            filled = args[0] if args else kwargs.get("tensor")
            if isinstance(filled, Tensor) and filled.is_meta:
                return filled
        return func(*args, **kwargs)
