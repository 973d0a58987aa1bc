"""A CUDA device for machines without one: tensors of "cuda:0" whose values lie in main memory.

Inside :func:`fake_cuda`, ``tensor.to("cuda")``, ``model.to("cuda:0")``, ``device="cuda"`` and
``torch.set_default_device("cuda")`` give :class:`FakeCudaTensor`. An operation on tensors of both devices is first
run by torch's own ``FakeTensorMode``, without values: it refuses what a GPU refuses. Then each is run on the values, so
that whatever leaves torch (``bool``, ``.item()``, ``.tolist()``, ``.cpu().numpy()``) has the right answer, and results
can be compared with those of the CPU.

What ``FakeTensorMode`` lets pass, but a GPU does not, is refused here: positions on a GPU into a tensor of the CPU, and
random numbers for a GPU from the CPU's generator. Under TF32, products round as a GPU's do. There are no gradients, and
no kernel of a GPU ever runs: :mod:`tests.cuda.test_real` is for that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_map_only

from clip_lens_plugin.adapters.checks import structure

aten = torch.ops.aten
CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
WAITS = {aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default}
"""Operations for whose answer the processor waits until the GPU has done all that it was given."""

RESHAPES = {aten.squeeze_, aten.unsqueeze_, aten.transpose_, aten.t_, aten.as_strided_}
"""Operations that change the shape of the tensor itself."""

PRODUCTS = {aten.mm, aten.bmm, aten.addmm, aten.baddbmm}


class MixedDevicesError(RuntimeError):
    """Tensors of the CPU and of the GPU met in one operation."""


class FakeCudaTensor(torch.Tensor):
    """A tensor that says it lies on cuda:0."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> FakeCudaTensor:
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device=CUDA, requires_grad=False
        )

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} on a tensor of the fake GPU outside of fake_cuda().")

    def tolist(self) -> Any:
        return self.cpu().tolist()  # torch has none for subclasses.

    def __repr__(self, **kwargs: Any) -> str:
        return f"{self.held!r} on {CUDA}"

    def __format__(self, spec: str) -> str:
        return format(self.cpu(), spec)

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy()

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("A tensor of a GPU is sent to another process as such, and takes that one's memory.")


class FakeGPU(TorchDispatchMode):
    """Runs every operation; see the module.

    Attributes:
        ran: how often each operation ran on the fake GPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ran: Counter[Any] = Counter()
        self.rules = FakeTensorMode(allow_non_fake_inputs=True)

    @property
    def waits(self) -> int:
        """How often the processor waited for the GPU, without copies to main memory."""
        return sum(self.ran[func] for func in WAITS)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        wanted = kwargs.get("device")
        given: list[torch.Tensor] = []
        _mapped(given.append, (args, kwargs))
        on_gpu = any(isinstance(leaf, FakeCudaTensor) for leaf in given)
        to_gpu = on_gpu if wanted is None else torch.device(wanted).type == "cuda"
        if on_gpu or to_gpu:
            self.ran[func] += 1
            self._refuse_mixed(func, args, kwargs, given)
        if to_gpu and wanted is not None:
            kwargs["device"] = CPU
        with _disable_current_modes():
            held = {id(leaf.held): leaf for leaf in given if isinstance(leaf, FakeCudaTensor)}
            exact = not _rounds_to_tf32(func, given)
            bare_args, bare_kwargs = _mapped(_held if exact else _held_in_tf32, (args, kwargs))
            out = func(*bare_args, **bare_kwargs)
            if func.overloadpacket in RESHAPES and on_gpu:
                with no_dispatch():
                    func(*args, **kwargs)

            def placed(x: torch.Tensor) -> torch.Tensor:
                # What is written in place comes back as itself; copies into main memory stay there.
                return held.get(id(x)) if id(x) in held else FakeCudaTensor(x) if to_gpu else x

            return _mapped(placed, out)

    def _refuse_mixed(self, func: Any, args: Any, kwargs: Any, given: list[torch.Tensor]) -> None:
        if func in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default):
            positions = [each for each in args[1] if isinstance(each, torch.Tensor)]
            if args[0].device == CPU and any(each.device != CPU for each in positions):
                raise MixedDevicesError(f"{func}: positions on {CUDA} into a tensor of the CPU.")
        generator = kwargs.get("generator")
        if generator is not None and generator.device == CPU:
            raise MixedDevicesError(f"{func}: a tensor of {CUDA} cannot be filled by a generator of the CPU.")
        if len({each.device for each in given}) < 2:
            return
        with _disable_current_modes(), self.rules:
            try:
                func(*_mapped(self._without_values, args), **_mapped(self._without_values, kwargs))
            except (DataDependentOutputException, DynamicOutputShapeException):
                _refuse_two_devices(func, given)
            except RuntimeError as refusal:
                if "two different devices" in str(refusal) or "two devices" in str(refusal):
                    raise MixedDevicesError(f"{func}: {refusal}") from refusal
                raise

    def _without_values(self, x: torch.Tensor) -> torch.Tensor:
        held = _held(x)
        empty = torch.empty_strided(held.shape, held.stride(), dtype=held.dtype, device="meta")
        return FakeTensor(self.rules, empty, x.device)


def _refuse_two_devices(func: Any, given: list[torch.Tensor]) -> None:
    """Where the shape or value of the outcome depends on values, which torch's rules leave open."""
    devices = {each.device for each in given if each.ndim > 0 or each.device != CPU}
    if len(devices) > 1 and func is not aten.index.Tensor:
        raise MixedDevicesError(f"{func} of tensors on {sorted(map(str, devices))}.")


def _mapped(function: Callable[[torch.Tensor], Any], x: Any) -> Any:
    """The same with the function's answer in each tensor's place, as torch's ``tree_map`` and several times as fast."""
    if isinstance(x, torch.Tensor):
        return function(x)
    kind = type(x)
    if kind is tuple or kind is list:
        return kind([_mapped(function, each) for each in x])
    if kind is dict:
        return {name: _mapped(function, each) for name, each in x.items()}
    return tree_map_only(torch.Tensor, function, x) if isinstance(x, tuple | list | dict) else x


def _held(x: torch.Tensor) -> torch.Tensor:
    return x.held if isinstance(x, FakeCudaTensor) else x


def _held_in_tf32(x: torch.Tensor) -> torch.Tensor:
    """Rounded to the 10 bits that TF32 keeps of a fraction."""
    held = _held(x)
    return ((held.contiguous().view(torch.int32) + (1 << 12)) & ~0x1FFF).view(torch.float32)


def _rounds_to_tf32(func: Any, given: list[torch.Tensor]) -> bool:
    wide = all(isinstance(each, FakeCudaTensor) and each.dtype == torch.float32 for each in given)
    return func.overloadpacket in PRODUCTS and wide and tf32_is_on()


def tf32_is_on() -> bool:
    """Whether float32 products of a GPU may be those of TF32."""
    matmul = torch.backends.cuda.matmul
    return matmul.fp32_precision == "tf32" if hasattr(matmul, "fp32_precision") else matmul.allow_tf32


@contextmanager
def fake_cuda(default: bool = False) -> Iterator[FakeGPU]:
    """A GPU that does nothing but say where tensors lie.

    Args:
        default: make it the default device, as ``torch.set_default_device("cuda")`` does.
    """
    known = structure.TENSORS
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    gpu = FakeGPU()
    # torch looks for a driver as soon as "cuda" is named, unless a FakeTensorMode is on.
    with FakeTensorMode(allow_non_fake_inputs=True), gpu:
        torch.__future__.set_overwrite_module_params_on_conversion(True)  # A weight's values lie beside it.
        structure.TENSORS = (*known, FakeCudaTensor)  # Weights of a kind that is not known are refused.
        if default:
            torch.set_default_device("cuda")
        try:
            yield gpu
        finally:
            structure.TENSORS = known
            torch.set_default_device(None)
            torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
