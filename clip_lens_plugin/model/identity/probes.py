"""Fixed texts and pictures, and what a model gives for them: kept beside a result to know its model again by.

Values are floats, so they are compared within the rounding of a dtype and never hashed: a processor, a GPU and another
number of threads differ in the last bits.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from clip_lens_plugin.adapters.checks.behaviour import described, tensor_bytes

PROBE_TEXTS = (
    "a photo of a dog",
    "Two Red Circles, 3 blue squares & a navy-blue background!",
    "un café à côté de l'église, près du Zürichsee",
    "一只在草地上奔跑的狗",
    "🐕 in the snow ❄️, don't look_down <b>now</b>",
    "BUY NOW: 50% OFF EVERYTHING IN STORE",
    "  spaces \t and\nlines  ",
    "the quick brown fox jumps over the lazy dog, " * 24,
    "",
)
"""Of several alphabets, with marks, upper case, spaces at the ends; one longer than any context; one empty."""

EMBEDDED_TEXTS = 4
"""How many of them are embedded; of all, the tokenizer's ids count."""

PICTURE_SIZES = ((613, 401), (45, 70))
"""Width and height of the pictures by which preprocessings are compared: one above most models' input, one below."""

PROBE_TOLERANCE = {torch.float64: 1e-6, torch.float32: 5e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Greatest relative difference of two embeddings of a probe that is taken for rounding, by the weights' dtype.

They are kept in float32. By torch's default a GPU convolves the patches of a float32 model in TF32, with the 10 bits of
float16."""


def probe_picture(width: int, height: int) -> Image.Image:
    """A picture of soft colour and coarse and fine noise, made by whole numbers alone: the same everywhere."""
    rows, columns, channels = np.ogrid[:height, :width, :3]

    def noise(size: int) -> np.ndarray:
        x = (rows // size * 7919 + columns // size * 104729 + channels * 1299709 + size).astype(np.uint64)
        for _ in range(3):
            x = (x * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)) & np.uint64(2**63 - 1)
            x ^= x >> np.uint64(29)
        return (x >> np.uint64(20)).astype(np.int64) & 255

    slope = (rows * 170 // max(height, 1) + columns * 85 // max(width, 1) + 60 * channels) & 255
    mixed = (3 * slope + 3 * noise(max(2, width // 8)) + 2 * noise(1)) // 8
    return Image.fromarray(mixed.astype(np.uint8), mode="RGB")


def probe_image(height: int, width: int) -> Float[Tensor, "1 3 height width"]:
    """:func:`probe_picture` as a model's input, from −1 to 1, without any model's own preprocessing."""
    pixels = torch.from_numpy(np.array(probe_picture(width, height)))
    return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1


def preprocessing_digest(preprocess: Callable[..., Any] | None) -> str:
    """SHA-256 over what a preprocessing makes of the probe pictures; "none" without one."""
    if preprocess is None:
        return "none"
    digest = hashlib.sha256()
    for size in PICTURE_SIZES:
        with _fixed_seed():
            digest.update(_outcome(lambda size=size: preprocess(probe_picture(*size))))
    return digest.hexdigest()


def token_digest(tokenizer: Callable[[list[str]], Tensor] | None, texts: Sequence[str] = PROBE_TEXTS) -> str:
    """SHA-256 over a tokenizer's ids for each of the texts; "none" without one."""
    if tokenizer is None:
        return "none"
    digest = hashlib.sha256()
    for text in texts:
        digest.update(_outcome(lambda text=text: tokenizer([text])))
    return digest.hexdigest()


def is_same_probe(one: Float[Tensor, "*p e"], other: Float[Tensor, "*q f"], dtype: torch.dtype) -> bool:
    """Whether two embeddings of the same probes differ by rounding alone.

    Args:
        one, other: one row for each probe; those of another shape are not the same.
        dtype: the coarsest dtype of the weights.
    """
    if one.shape != other.shape:
        return False
    a, b = one.double().cpu(), other.double().cpu()
    allowed = PROBE_TOLERANCE.get(dtype, max(PROBE_TOLERANCE.values())) * b.norm(dim=-1)
    return bool(((a - b).norm(dim=-1) <= allowed).all())


def _outcome(make: Callable[[], Any]) -> bytes:
    """What is made as bytes; the error's kind where there is one: it is as much of a behaviour."""
    try:
        made = make()
    except Exception as error:
        return f"raises {type(error).__name__}".encode()
    if isinstance(made, Image.Image):
        made = np.array(made)
    if isinstance(made, np.ndarray):
        made = torch.from_numpy(np.ascontiguousarray(made))
    if isinstance(made, Tensor):
        return f"{made.dtype} {list(made.shape)}".encode() + bytes(tensor_bytes(made))
    return described(made).encode()


@contextmanager
def _fixed_seed() -> Iterator[None]:
    """A preprocessing that draws at random draws the same each time; the user's generators are left as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(0)
            random.seed(0)
            np.random.seed(0)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
