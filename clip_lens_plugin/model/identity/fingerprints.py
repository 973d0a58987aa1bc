"""What the contributions of an image depend on apart from it, as short values to keep beside them and compare later."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from clip_lens_plugin.adapters.checks.behaviour import settings_digest, tensor_bytes
from clip_lens_plugin.model.identity.probes import is_same_probe, preprocessing_digest, probe_image
from clip_lens_plugin.model.identity.verification import source_embedding
from clip_lens_plugin.model.protocol import ImageModel

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

LIBRARIES = ("open_clip_torch", "timm", "torch", "transformers")
"""Those whose modules a source model is made of."""

PROBE = "embedding of the probe image"


@dataclass(frozen=True)
class Fingerprints:
    """What the contributions of an image depend on, apart from the image; SHA-256 where it is not shown.

    Attributes:
        architecture: shape of the image tower.
        dtype: of its weights, for example "float32".
        image_weights: names and values of the image tower's weights.
        image_settings: everything else that its forward reads: classes and settings of its modules, masks.
        preprocessing: what ``model.preprocess`` makes of two probe pictures; "none" without.
        printed_preprocessing: its printed steps, which is all that a store of format 3 kept of it.
        probe: the embedding of a probe image [e], compared within the dtype's tolerance; empty if it is NaN.
        libraries: name to version of those that the image tower is made of; not compared.
    """

    architecture: str
    dtype: str
    image_weights: str
    image_settings: str
    preprocessing: str
    printed_preprocessing: str
    probe: tuple[float, ...] = ()
    libraries: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, model: ImageModel) -> Fingerprints:
        """Reads every weight of the image tower once, and embeds one probe image by the source's own forward."""
        shape = {name: getattr(model.cfg, name) for name in SHAPE_FIELDS}
        image_weights = {n: w for n, w in model.clip.state_dict().items() if n.startswith("visual.")}
        return cls(
            architecture=_digest([json.dumps(shape, sort_keys=True).encode()]),
            dtype=str(model.cfg.dtype).removeprefix("torch."),
            image_weights=weights_digest(image_weights),
            image_settings=settings_digest(model.clip.visual),
            preprocessing=preprocessing_digest(model.preprocess),
            printed_preprocessing=_printed(model.preprocess),
            probe=_embedded_probe(model),
            libraries=_libraries(),
        )

    @classmethod
    def of_format_3(cls, values: dict[str, str]) -> Fingerprints:
        """What a store of format 3 kept, which knew of no settings and printed the preprocessing.

        Raises:
            KeyError: if something is lacking.
        """
        return cls(
            architecture=values["architecture"],
            dtype=values["dtype"],
            image_weights=values["image_weights"],
            image_settings="",
            preprocessing="",
            printed_preprocessing=values["preprocessing"],
        )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Fingerprints:
        """Reads what ``asdict`` gave.

        Raises:
            TypeError: if something is lacking or unknown.
            ValueError: if the probe holds anything but numbers.
        """
        return cls(**{**values, "probe": tuple(float(each) for each in values.get("probe", ()))})

    @property
    def is_of_format_3(self) -> bool:
        """Whether it is what :meth:`of_format_3` read."""
        return not self.image_settings

    def differences(self, other: Fingerprints) -> list[str]:
        """Names of the parts that differ, readable: ["image weights"].

        Settings are named where the architecture is the same, and what the probe gives where all the rest is: they
        follow. Where one is of format 3, the preprocessing is compared as it was printed.
        """
        exact = ["architecture", "dtype", "image_weights", "image_settings", "preprocessing"]
        printed = self.is_of_format_3 or other.is_of_format_3
        if printed:
            exact = ["architecture", "dtype", "image_weights", "printed_preprocessing"]
        mine, theirs = asdict(self), asdict(other)
        parts = [name for name in exact if mine[name] != theirs[name]]
        if "architecture" in parts and "image_settings" in parts:
            parts.remove("image_settings")
        if not parts and not printed and not self.gives_the_same_as(other):
            return [PROBE]
        return [name.removeprefix("printed_").replace("_", " ") for name in parts]

    def gives_the_same_as(self, other: Fingerprints) -> bool:
        """Whether the probe image's embeddings differ by rounding alone; true where one was not run."""
        if not self.probe or not other.probe:
            return True
        dtype = getattr(torch, self.dtype, torch.float32)
        return is_same_probe(torch.tensor(other.probe), torch.tensor(self.probe), dtype)

    def other_libraries(self, other: Fingerprints) -> list[str]:
        """Libraries of another version, readable: ["timm 1.0.30 (here 1.0.31)"]."""
        return [
            f"{name} {was} (here {other.libraries.get(name, 'none')})"
            for name, was in sorted(self.libraries.items())
            if was != other.libraries.get(name, "none")
        ]


def weights_digest(weights: dict[str, Tensor], start: bytes = b"") -> str:
    """SHA-256 over names, shapes and values."""
    return _digest(_weight_bytes(weights, start))


def _weight_bytes(weights: dict[str, Tensor], start: bytes) -> Iterable[bytes | memoryview]:
    yield start
    for name, weight in weights.items():
        yield f"{name}{list(weight.shape)}".encode()
        yield tensor_bytes(weight)


def _digest(pieces: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _printed(preprocess: object) -> str:
    if preprocess is None:
        return "none"
    # A function among the steps is printed with its address, which changes from run to run.
    return _digest([re.sub(r" at 0x[0-9a-f]+", "", repr(preprocess)).encode()])


@torch.no_grad()
def _embedded_probe(model: ImageModel) -> tuple[float, ...]:
    """By the source itself, where no hook of ours can be; nothing where it is NaN, as float16 may overflow."""
    with torch.autocast(model.cfg.device.type, enabled=False):
        found = source_embedding(model, probe_image(*model.cfg.image_size))[0].float().cpu()
    return tuple(found.tolist()) if bool(found.isfinite().all()) else ()


def _libraries() -> dict[str, str]:
    """Without the part that says for which processor torch was built."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name).split("+")[0]
        except PackageNotFoundError:
            continue
    return found
