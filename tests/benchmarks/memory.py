"""Peak memory, each model in a fresh process (Linux: reads and resets the peak in /proc).

Large blocks are given back to the system as soon as they are freed. With glibc's defaults some are kept, by chance, and
the same run has measured anything from 1.3 to 2.6 times another's peak.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import open_clip
import torch

from clip_lens_plugin import HookedCLIP
from tests.benchmarks.forward import MODELS, TOKENS, cases, random_model
from tests.benchmarks.measure import printed_last
from tests.support.live_bytes import held_storages

FORWARD = "open_clip encode_image"
MANY = (2000, 20_000)


def measure_memory() -> Iterator[tuple[str, str, str, str]]:
    """Rows of the table: peaks of a token decomposition, of decomposing many images, and of wrapping ViT-L-14."""
    for model in MODELS:
        plain, plain_growth, tokens, tokens_growth = _in_new_process("tokens", model)
        yield f"{model}: peak memory, token decomposition", f"{tokens / plain:.2f} x", "1.50 x", FORWARD
        growth = f"{tokens_growth / plain_growth:.2f} x ({tokens_growth:.0f} and {plain_growth:.0f} MB)"
        yield "the same, above the loaded weights", growth, "2.00 x", FORWARD
    for n in MANY:
        growth, held = _in_new_process("many", str(n))
        measured = f"{growth / held:.2f} x ({growth:.0f} and {held:.0f} MB)"
        yield f"peak memory, decomposing {n:,} images of the embedded model", measured, "1.20 x", "what is returned"
    (loaded,) = _in_new_process("wrap", "open_clip")
    (wrapped,) = _in_new_process("wrap", "HookedCLIP")
    yield "peak memory, wrapping ViT-L-14", f"{wrapped / loaded:.3f} x", "1.05 x", "open_clip alone"


def _in_new_process(kind: str, name: str) -> list[float]:
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**16)}
    return json.loads(printed_last("tests.benchmarks.memory", kind, name, environment=environment))


def _status(field: str) -> float:
    """In MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def _forget_peak() -> float:
    """What is resident now, from which the peak is counted anew."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _of_tokens(name: str) -> list[float]:
    """Peak, and growth above what was resident before, of a plain forward; then of the token decomposition."""
    model, images, texts = random_model(name)
    measured = []
    # The plain forward comes first, so that what it leaves behind counts for the other too.
    loaded = _forget_peak()
    for action in (lambda: model.clip.encode_image(images), cases(model, images, texts)[TOKENS][0]):
        action()
        peak = _status("VmHWM")
        measured += [peak, peak - loaded]
        _forget_peak()
    return measured


def _of_many(n: int) -> list[float]:
    """Growth while n images are decomposed, and what is returned, both in MB."""
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    images = torch.empty(n, 3, *model.cfg.image_size).uniform_(-1, 1)
    # What the first runs load and make stays, as the model does.
    model.decompose(images[:8])
    before = _forget_peak()
    contributions = model.decompose(images)
    growth, readout = _status("VmHWM") - before, held_storages(contributions.readout)
    held = sum(size for key, size in held_storages(contributions).items() if key not in readout)
    return [growth, held / 2**20]


def _of_wrapping(name: str) -> list[float]:
    clip = open_clip.create_model("ViT-L-14")
    if name == "HookedCLIP":
        HookedCLIP.from_open_clip(clip)
    return [_status("VmHWM")]


if __name__ == "__main__":
    kind, given = sys.argv[1:]
    with torch.no_grad():
        if kind == "tokens":
            print(json.dumps(_of_tokens(given)))
        else:
            print(json.dumps(_of_many(int(given)) if kind == "many" else _of_wrapping(given)))
