"""Peak memory, each case in a fresh process (Linux: reads /proc)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import open_clip
import torch

from clip_lens_plugin import HookedCLIP
from tests.benchmarks.forward import MODELS, cases, random_model
from tests.benchmarks.measure import printed_last

FORWARD = "open_clip encode_image"


def measure_memory() -> Iterator[tuple[str, str, str, str]]:
    """Rows of the table: peak of a token decomposition, and of wrapping ViT-L-14."""
    for model in MODELS:
        plain, plain_growth = _in_new_process(model, FORWARD)
        tokens, tokens_growth = _in_new_process(model, "token decomposition towards 4 texts")
        yield f"{model}: peak memory, token decomposition", f"{tokens / plain:.2f} x", "1.50 x", FORWARD
        growth = f"{tokens_growth / plain_growth:.2f} x ({tokens_growth:.0f} and {plain_growth:.0f} MB)"
        yield "the same, above the loaded weights", growth, "", FORWARD
    loaded, _ = _in_new_process("wrap", "open_clip")
    wrapped, _ = _in_new_process("wrap", "HookedCLIP")
    yield "peak memory, wrapping ViT-L-14", f"{wrapped / loaded:.3f} x", "1.05 x", "open_clip alone"


def _in_new_process(kind: str, name: str) -> tuple[float, float]:
    peak, growth = printed_last("tests.benchmarks.memory", kind, name).split()
    return float(peak), float(growth)


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def _run(kind: str, name: str) -> None:
    """Prints the peak in MB, and how far it is above what was resident before the case ran."""
    if kind == "wrap":
        before = _status("VmRSS")
        clip = open_clip.create_model("ViT-L-14")
        if name == "HookedCLIP":
            HookedCLIP.from_open_clip(clip)
    else:
        model, images, texts = random_model(kind)
        before = _status("VmRSS")
        if name == FORWARD:
            model.clip.encode_image(images)
        else:
            cases(model, images, texts)[name][0]()
    peak = _status("VmHWM")
    print(peak, peak - before)


if __name__ == "__main__":
    with torch.no_grad():
        _run(*sys.argv[1:])
