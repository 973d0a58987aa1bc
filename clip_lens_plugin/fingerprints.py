"""What a result depends on, as short digests that can be kept beside it and compared later."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from clip_lens_plugin.hooked_clip import HookedCLIP

SHAPE_FIELDS = (
    "n_layers",
    "n_heads",
    "d_model",
    "d_head",
    "d_mlp",
    "n_ctx",
    "d_embed",
    "image_size",
    "patch_size",
    "act_fn",
    "pooling",
    "n_prefix_tokens",
)


@dataclass(frozen=True)
class Fingerprints:
    """What the contributions of an image depend on, apart from the image; SHA-256 where it is not shown.

    Attributes:
        architecture: shape of the image tower.
        dtype: of its weights, for example "float32".
        image_weights: names and values of the image tower's weights.
        preprocessing: the printed steps of ``model.preprocess``; "none" without.
    """

    architecture: str
    dtype: str
    image_weights: str
    preprocessing: str

    @classmethod
    def of(cls, model: HookedCLIP) -> Fingerprints:
        """Reads every weight of the image tower once."""
        shape = {name: getattr(model.cfg, name) for name in SHAPE_FIELDS}
        steps = "none"
        if model.preprocess is not None:
            # A function among the steps is printed with its address, which changes from run to run.
            steps = _digest([re.sub(r" at 0x[0-9a-f]+", "", repr(model.preprocess)).encode()])
        image_weights = {n: w for n, w in model.clip.state_dict().items() if n.startswith("visual.")}
        return cls(
            architecture=_digest([json.dumps(shape, sort_keys=True).encode()]),
            dtype=str(model.cfg.dtype).removeprefix("torch."),
            image_weights=weights_digest(image_weights),
            preprocessing=steps,
        )

    def differences(self, other: Fingerprints) -> list[str]:
        """Names of the parts that differ, readable: ["image weights"]."""
        mine, theirs = asdict(self), asdict(other)
        return [name.replace("_", " ") for name in mine if mine[name] != theirs[name]]


def weights_digest(weights: dict[str, Tensor], start: bytes = b"") -> str:
    """SHA-256 over names, shapes and values."""
    return _digest(_weight_bytes(weights, start))


def _weight_bytes(weights: dict[str, Tensor], start: bytes) -> Iterable[bytes]:
    yield start
    for name, weight in weights.items():
        yield f"{name}{list(weight.shape)}".encode()
        yield weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _digest(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
