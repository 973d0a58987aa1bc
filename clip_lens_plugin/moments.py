"""What TextSpan and mean ablation need to know of a data set: its size, and each head's mean and covariance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from clip_lens_plugin.constants import Constants, checked_constants
from clip_lens_plugin.contributions import Contributions
from clip_lens_plugin.noise import computed_noise, psd_covariance
from clip_lens_plugin.whole_files import whole_files

WORDS = ("unit", "constants")
"""Fields that are written as the bytes of a word."""


@dataclass(frozen=True)
class Moments:
    """Sums over n images of each head's coordinates y = Σ_q ω z and of their products, in float64.

    They add, so they stream and merge, and their size does not grow with n: 8 · l · h · k² bytes, which is 5 MB for
    ViT-B-16 and 0.7 GB for its SigLIP, where k is 12 x 64. The mean contribution of a head is ``mean @ M_{l,h}``, with
    ``M_{l,h} = readout.head_map(l, h, moments.constants)``.

    Attributes:
        n: number of images.
        sum_y: [l, h, k], k counting a head's coordinates: its width, times the heads of an attention pool; and, where
            constants are shared out, a few more (see :func:`~clip_lens_plugin.parts.share_weights`).
        sum_yy: [l, h, k, k].
        unit: "embedding" or "cosine", see :attr:`Contributions.unit`.
        constants: "separate" or "shared", see :func:`decompose`.
        noise: relative size of what rounding left of a contribution; None if it is not known, in old files.
    """

    n: int
    sum_y: Float[Tensor, "l h k"]
    sum_yy: Float[Tensor, "l h k k"]
    unit: str = "embedding"
    constants: Constants = "separate"
    noise: float | None = None

    @classmethod
    def from_contributions(cls, contributions: Contributions) -> Moments:
        """The moments of a batch, in the batch's unit, with its constants.

        Raises:
            ValueError: if a hook on ``hook_result`` moved a head out of its own span, or a value is not finite.
        """
        contributions.refuse_result_edits()
        y = contributions.head_coordinates.double()
        if not bool(y.isfinite().all()):
            bad = (~y.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
            raise ValueError(f"The images at positions {bad[:5]} have NaN or infinite head coordinates.")
        c = contributions
        return cls(len(y), y.sum(0), torch.einsum("blhi,blhj->lhij", y, y), c.unit, c.constants, c.noise)

    def __add__(self, other: Moments) -> Moments:
        """The moments of both data sets together.

        Raises:
            ValueError: if they are of models of different shape, in different units, or one has the constants
                separate and the other shared out.
        """
        if self.constants != other.constants:
            raise ValueError(
                f"Moments with constants={self.constants!r} and constants={other.constants!r} do not add: decompose "
                f"all images with the same."
            )
        if self.sum_y.shape != other.sum_y.shape:
            raise ValueError(
                f"Moments of different models do not add: [layers, heads, coordinates] is {list(self.sum_y.shape)} and "
                f"{list(other.sum_y.shape)}."
            )
        if self.unit != other.unit:
            raise ValueError(f"Moments in {self.unit!r} and in {other.unit!r} units do not add.")
        device = self.sum_y.device
        sums = self.sum_y + other.sum_y.to(device), self.sum_yy + other.sum_yy.to(device)
        known = [each for each in (self.noise, other.noise) if each is not None]
        return Moments(self.n + other.n, *sums, self.unit, self.constants, max(known, default=None))

    @property
    def mean(self) -> Float[Tensor, "l h k"]:
        """E[y]."""
        return self.sum_y / self.n

    @property
    def covariance(self) -> Float[Tensor, "l h k k"]:
        """E[y yᵀ] − E[y] E[y]ᵀ, over n (not n − 1); a variance at or below rounding of E[y yᵀ] is zero."""
        noise = computed_noise(torch.float32) if self.noise is None else self.noise
        return psd_covariance(self.sum_yy / self.n, self.mean, noise)

    def to_tensors(self) -> dict[str, Tensor]:
        """The fields as tensors, as they are written to a file."""
        words = {name: torch.tensor([*getattr(self, name).encode()], dtype=torch.uint8, device="cpu") for name in WORDS}
        sums = {"sum_y": self.sum_y.cpu().contiguous(), "sum_yy": self.sum_yy.cpu().contiguous()}
        noise = {} if self.noise is None else {"noise": torch.tensor(self.noise, dtype=torch.float64, device="cpu")}
        return {"n": torch.tensor(self.n, device="cpu"), **words, **sums, **noise}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Moments:
        """Reads what :meth:`to_tensors` gave.

        Raises:
            KeyError: if one is missing that every version wrote.
        """
        words = {name: bytes(tensors[name].tolist()).decode() for name in WORDS if name in tensors}
        constants = checked_constants(words.get("constants", "separate"))
        noise = float(tensors["noise"]) if "noise" in tensors else None
        return cls(int(tensors["n"]), tensors["sum_y"], tensors["sum_yy"], words["unit"], constants, noise)

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file, whole or not at all.

        Raises:
            OSError: if it cannot be written.
        """
        with whole_files() as beside:
            save_file(self.to_tensors(), str(beside(path)))

    @classmethod
    def load(cls, path: str | Path) -> Moments:
        """Reads what :meth:`save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it does not hold moments.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"There is no moments file {path}.")
        try:
            return cls.from_tensors(load_file(str(path)))
        except (SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"{path} holds no moments: {error}. Write it with Moments.save.") from error
