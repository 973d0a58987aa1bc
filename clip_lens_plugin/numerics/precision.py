"""How exactly float32 products are computed: ours in full, the model's as its user set it.

NVIDIA's TF32 keeps 10 bits of a float32's 23, as many as float16 has; on some processors "medium" keeps 7, as bfloat16
does. A model that runs so rounds as coarsely; what is made of its activations need not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

FULL = ("none", "ieee")
AUTOCAST = ("cpu", "cuda")


@dataclass(frozen=True)
class _Setting:
    """What torch does with float32 products; "none", "ieee", "tf32" or "bf16".

    Attributes:
        legacy: of ``torch.get_float32_matmul_precision``; None where it cannot say, since newer switches were used.
        cuda, cpu: of torch's newer switches, one for each kind of device.
        cuda_default, cpu_default: what those would be, were they not set.
    """

    legacy: str | None
    cuda: str
    cpu: str
    cuda_default: str = "none"
    cpu_default: str = "none"

    @classmethod
    def current(cls) -> _Setting:
        matmul, processor = _switches()
        try:
            legacy = torch.get_float32_matmul_precision()
        except RuntimeError:
            legacy = None
        if matmul is None:
            cuda = "ieee" if legacy == "highest" else "tf32"
            return cls(legacy, cuda, {"highest": "ieee", "high": "tf32"}.get(str(legacy), "bf16"))
        defaults = torch.backends.cudnn.fp32_precision, torch.backends.mkldnn.fp32_precision
        return cls(legacy, matmul.fp32_precision, processor.fp32_precision, *defaults)

    @property
    def is_full(self) -> bool:
        return self.cuda in FULL and self.cpu in FULL

    def restore(self) -> None:
        matmul, processor = _switches()
        if self.legacy is not None:
            torch.set_float32_matmul_precision(self.legacy)
        if matmul is not None:
            # What followed the default goes on following it.
            matmul.fp32_precision = "none" if self.cuda == self.cuda_default else self.cuda
            processor.fp32_precision = "none" if self.cpu == self.cpu_default else self.cpu


def _switches() -> tuple[Any, Any]:
    """torch's newer switches for the products of GPU and CPU; None before torch 2.9."""
    matmul = torch.backends.cuda.matmul
    try:
        matmul.fp32_precision  # noqa: B018
    except AttributeError:
        return None, None
    return matmul, torch.backends.mkldnn.matmul  # type: ignore[attr-defined]


_users: list[_Setting] = []
"""What the user had set outside of :func:`full_precision`; empty there."""


@contextmanager
def full_precision() -> Iterator[None]:
    """Inside, float32 products are those of float32, without TF32 and without autocast; as a decorator too.

    The model is never run inside: it runs as its user set it.
    """
    setting = _Setting.current()
    kinds = [kind for kind in AUTOCAST if torch.is_autocast_enabled(kind)]
    if setting.is_full and not kinds:
        yield
        return
    with ExitStack() as stack:
        for kind in kinds:
            stack.enter_context(torch.autocast(kind, enabled=False))
        if not setting.is_full:
            torch.set_float32_matmul_precision("highest")
            stack.callback(setting.restore)
            _users.append(setting)
            stack.callback(_users.pop)
        yield


def rounding(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype whose rounding the model's own products of ``dtype`` have on ``device``.

    float16 for float32 under TF32, which keeps as many bits; inside of :func:`full_precision` it is still about the
    model's runs.
    """
    setting = _users[0] if _users else _Setting.current()
    if dtype is not torch.float32 or setting.is_full:
        return dtype
    if device.type == "cuda":
        return dtype if setting.cuda in FULL else torch.float16
    return dtype if setting.cpu in FULL or device.type != "cpu" else _processor_rounding(setting)


@cache
def _processor_rounding(setting: _Setting) -> torch.dtype:
    """Measured, since few processors have what the setting allows them."""
    inside = _Setting.current()
    setting.restore()
    try:
        ones = torch.ones(256, 256, device="cpu")
        kept = {bits: float(((ones * (1 + 2.0**-bits)) @ ones)[0, 0]) != 256.0 for bits in (8, 12)}
    finally:
        inside.restore()
    return torch.float32 if kept[12] else torch.float16 if kept[8] else torch.bfloat16


def same_up_to(dtype: torch.dtype) -> float:
    """Relative difference up to which two ways to the same activation agree."""
    return {torch.float64: 1e-9, torch.float32: 1e-4}.get(dtype, 3e-2)
