"""How many bytes of tensors live while something runs: every operation's outputs, until they are freed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts the storages that operations make inside ``with``, once each however many views they have.

    Attributes:
        peak: most bytes that lived at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak, self._bytes = 0, 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    @property
    def now(self) -> int:
        """Bytes that live."""
        self._live = {key: each for key, each in self._live.items() if not each[0].expired()}
        self._bytes = sum(size for _, size in self._live.values())
        return self._bytes

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        given = {_storage(each)._cdata for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        found = func(*args, **(kwargs or {}))
        made = [_storage(each) for each in tree_leaves(found) if isinstance(each, Tensor)]
        for each in made:
            # An address may be that of a storage which is gone.
            known = each._cdata in self._live and not self._live[each._cdata][0].expired()
            if each._cdata not in given and not known:
                self._bytes += each.nbytes() - self._live.get(each._cdata, (None, 0))[1]
                self._live[each._cdata] = (StorageWeakRef(each), each.nbytes())
        if self._bytes > self.peak:
            self.peak = max(self.peak, self.now)
        return found


def held_storages(root: Any) -> dict[int, int]:
    """Bytes of each storage that is reached from an object's attributes, lists and mappings, modules aside."""
    found: dict[int, int] = {}
    seen: set[int] = set()
    left = [root]
    while left:
        each = left.pop()
        if id(each) in seen or isinstance(each, torch.nn.Module):
            continue
        seen.add(id(each))
        if isinstance(each, Tensor):
            found[_storage(each)._cdata] = _storage(each).nbytes()
        elif isinstance(each, dict):
            left += each.values()
        elif isinstance(each, list | tuple | set):
            left += each
        elif hasattr(each, "__dict__"):
            left += vars(each).values()
    return found


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()
