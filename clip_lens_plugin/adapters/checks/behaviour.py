"""What a module's forward reads beside its input: weights, buffers and settings, in a form to take a digest of.

A name and a state dict do not say which activation, how many heads, which mask or which epsilon a model runs with. Here
every module of a tree is described by its class and by every simple value that it holds. What a model is run on is no
part of it: not the device, not the training flag, no hook, no address in memory.
"""

from __future__ import annotations

import hashlib
import json
import re
import types
from collections.abc import Iterator
from enum import Enum
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from clip_lens_plugin.dependencies.of_timm import KERNEL_OF_A_NORM
from clip_lens_plugin.dependencies.of_transformers import ATTENTION_SETTINGS, LOADED_FROM, LOADED_WEIGHTS

WORDS = (torch.int64, torch.int32, torch.int16, torch.uint8)

NOT_OF_A_MODULE = frozenset(vars(nn.Module())) | {"_compiled_call_impl"}
"""What torch itself keeps in every module: parameters, buffers and children, which are read apart; hooks; training."""

NOT_READ = frozenset(
    {
        "fused_attn",
        "use_fsdpa",
        KERNEL_OF_A_NORM,
        "grad_checkpointing",
        "gradient_checkpointing",
        "name_or_path",
        LOADED_WEIGHTS,
        "all_tied_weights_keys",
        "_original",
    }
)
"""Attributes that say where a model came from, or which of several ways to the same values is taken."""

NOT_READ_OF_CONFIG = frozenset(
    {
        LOADED_FROM,
        *ATTENTION_SETTINGS,
        "transformers_version",
        "architectures",
        "dtype",
        "torch_dtype",
        "id2label",
        "label2id",
    }
)
"""The same in a Hugging Face config; its dtype is that which was asked for when loading."""


def behaviour_digest(module: nn.Module, without: str | None = None) -> str:
    """SHA-256 over everything that the forwards of a tree of modules read, apart from their input.

    Args:
        module: the root.
        without: name of a child that is left out.
    """
    digest = hashlib.sha256(settings_digest(module, without).encode())
    for name, tensor in sorted(_state(module, without)):
        _add_tensor(digest, name, tensor)
    return digest.hexdigest()


def settings_digest(module: nn.Module, without: str | None = None) -> str:
    """SHA-256 over the classes and simple attributes of a tree of modules, and over exact tensors outside its state.

    Those are buffers that are not saved, and tensors kept as plain attributes, whose values are whole or infinite, as
    those of a mask are. Others (tables of sines) are computed anew wherever a model is built, with other last bits from
    one processor to the next; what they do shows in a probe's embedding.
    """
    return hashlib.sha256(json.dumps(_Description().of_modules(module, without)).encode()).hexdigest()


def described(value: Any) -> str:
    """A value that is no module as text: the same wherever it is made, another for another value."""
    return json.dumps(_Description().of(value))


def has_forward_hooks(module: nn.Module, without: str | None = None) -> bool:
    """Whether a forward of the tree runs more than its own code."""
    everywhere = torch.nn.modules.module
    if everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks:
        return True
    return any(each._forward_hooks or each._forward_pre_hooks for _, each in _modules(module, without))


def _modules(module: nn.Module, without: str | None) -> Iterator[tuple[str, nn.Module]]:
    for name, each in module.named_modules(remove_duplicate=False):
        if without is None or name.split(".")[0] != without:
            yield name, each


def _state(module: nn.Module, without: str | None) -> Iterator[tuple[str, Tensor]]:
    """Parameters and those buffers that are saved."""
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, Tensor) and (without is None or name.split(".")[0] != without):
            yield name, tensor


def _add_tensor(digest: Any, name: str, tensor: Tensor) -> None:
    digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
    digest.update(tensor_bytes(tensor))


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The values of a tensor on any device, row by row."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def word_sum(tensor: Tensor) -> Int[Tensor, ""]:
    """The sum of a tensor's bits as whole numbers, modulo 2⁶⁴, on its device: any change of one value changes it.

    Nine times as fast as a sum of float32 values in float64, since nothing is converted.
    """
    flat = tensor.detach().reshape(-1)
    bytes_before, length = flat.storage_offset() * flat.itemsize, flat.nbytes
    words = (each for each in WORDS if bytes_before % each.itemsize == length % each.itemsize == 0)
    return flat.view(next(words)).sum(dtype=torch.int64)


class _Description:
    """Turns values into what JSON can hold, each kind in a form of its own."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Any]] = {}  # Keeps what it names alive, so that no id is used again.
        self._open: set[int] = set()

    def of_modules(self, module: nn.Module, without: str | None = None) -> list:
        return [[name, _name(type(each)), self._of_module(each)] for name, each in sorted(_modules(module, without))]

    def _of_module(self, module: nn.Module) -> list:
        held = {name: value for name, value in vars(module).items() if name not in NOT_OF_A_MODULE}
        # What a forward's own cache holds depends on what ran before.
        own = [[name, self.of(held[name])] for name in sorted(held) if name not in NOT_READ and "cache" not in name]
        unsaved = sorted(module._non_persistent_buffers_set)
        buffers = [[name, self.of(module._buffers[name])] for name in unsaved if name in module._buffers]
        return [own, buffers]

    def of(self, value: Any) -> Any:
        """A JSON value."""
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, Enum):
            return ["enum", _name(type(value)), value.name]
        if isinstance(value, int | np.integer):
            return int(value)
        if isinstance(value, float | np.floating):
            return ["float", float(value).hex()]
        if isinstance(value, Tensor):
            return self._of_tensor(value)
        if isinstance(value, np.ndarray):
            return self._of_tensor(torch.from_numpy(np.ascontiguousarray(value)))
        if isinstance(value, torch.dtype | complex | bytes | slice | range):
            return [type(value).__name__, repr(value)]
        if isinstance(value, torch.device):
            return ["device"]
        if isinstance(value, re.Pattern):
            return ["pattern", value.pattern, value.flags]
        return self._of_larger(value)

    def _of_larger(self, value: Any) -> Any:
        """What may hold other values, and in a circle itself."""
        if id(value) in self._open:
            return ["again", _name(type(value))]
        if id(value) not in self._known:
            self._open.add(id(value))
            try:
                self._known[id(value)] = (value, self._of_parts(value))
            finally:
                self._open.discard(id(value))
        return self._known[id(value)][1]

    def _of_parts(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return ["list", *(self.of(each) for each in value)]
        if isinstance(value, dict):
            pairs = [[self.of(key), self.of(each)] for key, each in value.items()]
            return ["dict", *sorted(pairs, key=json.dumps)]
        if isinstance(value, set | frozenset):
            return ["set", *sorted((self.of(each) for each in value), key=json.dumps)]
        if isinstance(value, nn.Module):
            return ["module", self.of_modules(value)]
        if isinstance(value, partial):
            return ["partial", self.of(value.func), self.of(value.args), self.of(value.keywords)]
        if isinstance(value, types.MethodType):
            return ["method", self.of(value.__func__), _name(type(value.__self__))]
        if isinstance(value, types.FunctionType):
            return ["function", _name(value), *self._of_code(value)]
        if isinstance(value, type | types.BuiltinFunctionType):
            return ["named", _name(value)]
        return [_name(type(value)), *self._of_object(value)]

    def _of_object(self, value: Any) -> list:
        to_dict = getattr(value, "to_dict", None)
        if callable(to_dict):
            config: Any = to_dict()
            return [self.of({key: each for key, each in config.items() if key not in NOT_READ_OF_CONFIG})]
        held = getattr(value, "__dict__", {})
        return [[name, self.of(held[name])] for name in sorted(held) if name not in NOT_READ]

    def _of_code(self, function: types.FunctionType) -> list:
        """Of a function that its name does not tell: a lambda, a local one, or one of a notebook."""
        if "<" not in function.__qualname__ and function.__module__ != "__main__":
            return []
        code = function.__code__
        constants = [each if isinstance(each, str | int | float | None) else str(type(each)) for each in code.co_consts]
        cells = [_held_by(cell) for cell in function.__closure__ or ()]
        return [
            code.co_code.hex(),
            *(self.of(each) for each in (constants, code.co_names, function.__defaults__, cells)),
        ]

    def _of_tensor(self, tensor: Tensor) -> list:
        kind = ["tensor", str(tensor.dtype), list(tensor.shape)]
        whole = not tensor.is_floating_point() or bool(((tensor.frac() == 0) | tensor.isinf()).all())
        if tensor.is_complex() or not whole:
            return kind
        return [*kind, hashlib.sha256(tensor_bytes(tensor)).hexdigest()]


def _name(named: Any) -> str:
    return f"{getattr(named, '__module__', '')}.{getattr(named, '__qualname__', type(named).__qualname__)}"


def _held_by(cell: types.CellType) -> Any:
    """What a function reads of where it was made, so far as that stays as it is."""
    try:
        held = cell.cell_contents
    except ValueError:
        return None
    fixed = held is None or isinstance(
        held, str | int | float | tuple | types.FunctionType | types.MethodType | partial
    )
    return held if fixed else type(held)
