"""What TextSpan and mean ablation need to know of a data set: its size, and each head's mean and covariance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_head, checked_index
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.constants import Constants, checked_constants
from clip_lens_plugin.decomposition.contributions import Contributions, Data
from clip_lens_plugin.files.saved_sums import SavedSums, word_of, word_tensor
from clip_lens_plugin.hints import hint
from clip_lens_plugin.numerics.noise import computed_noise, psd_covariance

WORDS = ("unit", "constants")
"""Fields that are written as the bytes of a word."""

LATE_LAYERS = 4
"""Layers that "late" means: the last four, as in the TextSpan paper."""


def late_layers(n_layers: int) -> range:
    """Numbers of the last :data:`LATE_LAYERS` layers."""
    return range(max(0, n_layers - LATE_LAYERS), n_layers)


@dataclass(frozen=True)
class Moments(SavedSums):
    """Sums over n images of each head's coordinates y = Σ_q ω z and of their products, in float64.

    They add, so they stream and merge, and their size does not grow with n: 8 · m · h · k² bytes for m layers, which is
    5 MB for all of ViT-B-16 and 0.7 GB for its SigLIP, where k is 12 x 64. So the products may be kept of some layers
    alone. The mean contribution of a head is ``mean[layer, head] @ M_{l,h}``, with
    ``M_{l,h} = readout.head_map(l, h, moments.constants)``.

    Attributes:
        n: number of images.
        sum_y: [l, h, k], k counting a head's coordinates: its width, times the heads of an attention pool; and, where
            constants are shared out, a few more (see :func:`~clip_lens_plugin.decomposition.equations.share_weights`).
        sum_yy: [m, h, k, k], of the layers that are kept.
        unit: "embedding" or "cosine", see :attr:`Contributions.unit`.
        constants: "separate" or "shared", see :func:`decompose`.
        noise: relative size of what rounding left of a contribution; None if it is not known, in old files.
        layers: numbers of the m layers whose products are kept, in increasing order; None for all.
    """

    KIND: ClassVar[str] = "moments"

    n: int
    sum_y: Float[Tensor, "l h k"]
    sum_yy: Float[Tensor, "m h k k"]
    unit: str = "embedding"
    constants: Constants = "separate"
    noise: float | None = None
    layers: tuple[int, ...] | None = None

    def __repr__(self) -> str:
        l, h, k = self.sum_y.shape
        kept = "all" if self.layers is None else list(self.layers)
        return (
            f"Moments(images={self.n}, layers={l}, heads={h}, coordinates={k}, products of layers={kept}, "
            f"unit={self.unit!r}, constants={self.constants!r})"
        )

    def __post_init__(self) -> None:
        """Raises ValueError if the layers are none, or not those of the sums."""
        n_layers, n_kept = len(self.sum_y), len(self.sum_yy)
        kept = tuple(range(n_layers)) if self.layers is None else self.layers
        if len(kept) != n_kept or sorted(set(kept)) != list(kept) or not all(0 <= each < n_layers for each in kept):
            raise ValueError(f"sum_yy is of {n_kept} layers, but the moments are said to be of {kept} of {n_layers}.")

    @classmethod
    def from_contributions(cls, contributions: Contributions, layers: Iterable[int] | None = None) -> Moments:
        """The moments of a batch, in the batch's unit, with its constants.

        Args:
            contributions: of the batch.
            layers: keep the products of these alone, negative numbers counted from the end; of all if not given.

        Raises:
            ValueError: if a hook on ``hook_result`` moved a head out of its own span, a value is not finite, or there
                is no layer.
            IndexError: if there is no such layer.
        """
        c = contributions
        shape = c.head_coordinates.shape[1:]
        kept = _checked_layers(layers, shape[0])
        n_kept = shape[0] if kept is None else len(kept)
        # In float64 on the device of the contributions, and summed up where it lies.
        sum_y = c.head_coordinates.new_zeros(shape, dtype=torch.float64)
        sum_yy = sum_y.new_zeros(n_kept, *shape[1:], shape[2])
        return cls(0, sum_y, sum_yy, c.unit, c.constants, None, kept).absorb(c)

    @classmethod
    def of(cls, data: Data, layers: Iterable[int] | None = None) -> Moments:
        """The moments of all rows, in cosine units: those that were kept with the data, or else of its blocks.

        Args:
            data: contributions, or a store.
            layers: see :meth:`from_contributions`; kept moments are of the layers that they were kept of.

        Raises:
            ValueError: if there is no row, or as :meth:`from_contributions`.
            IndexError: if there is no such layer.
        """
        found, layers = data.kept(cls), None if layers is None else tuple(layers)
        for rows in data.blocks() if found is None else ():
            own = data.select(rows).normalized()
            found = cls.from_contributions(own, layers) if found is None else found.absorb(own)
        if found is None:
            raise ValueError("There are no moments of no images.")
        return found

    def absorb(self, contributions: Contributions) -> Moments:
        """These sums with a batch added in place: ``self`` shares them and is not to be used any more.

        Nothing of the size of the sums is made, only of one layer's.

        Args:
            contributions: of the batch, with the constants, unit and layers of these sums.

        Raises:
            ValueError: as :meth:`from_contributions`, or as for adding; nothing is added then.
        """
        c = contributions
        c.refuse_result_edits()
        y = c.head_coordinates.double()
        if not bool(y.isfinite().all()):
            bad = (~y.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
            raise ValueError(f"The images at positions {bad[:5]} have NaN or infinite head coordinates.")
        self._refuse_other(c.constants, y.shape[1:], c.unit)
        device = self.sum_y.device
        self.sum_y.add_(y.sum(0).to(device))
        for mine, layer in zip(self.sum_yy, range(y.shape[1]) if self.layers is None else self.layers, strict=True):
            mine.add_(equations.second_moments(y[:, layer]).to(device))
        return replace(self, n=self.n + len(y), noise=_greatest(self.noise, c.noise))

    def __add__(self, other: Moments) -> Moments:
        """The moments of both data sets together.

        Raises:
            ValueError: if they are of models of different shape, in different units, of different layers, or one has
                the constants separate and the other shared out.
        """
        self._refuse_others(other)
        device = self.sum_y.device
        sums = self.sum_y + other.sum_y.to(device), self.sum_yy + other.sum_yy.to(device)
        return replace(
            self,
            n=self.n + other.n,
            sum_y=sums[0],
            sum_yy=sums[1],
            noise=_greatest(self.noise, other.noise),
        )

    def absorb_sums(self, other: Moments) -> Moments:
        """These sums with the ``other`` ones added in place, as by :meth:`absorb`.

        Raises:
            ValueError: as for adding.
        """
        self._refuse_others(other)
        self.sum_y.add_(other.sum_y.to(self.sum_y.device))
        for mine, theirs in zip(self.sum_yy, other.sum_yy, strict=True):
            mine.add_(theirs.to(mine.device))
        return replace(self, n=self.n + other.n, noise=_greatest(self.noise, other.noise))

    def to(self, device: torch.device) -> Moments:
        """The same sums on a device."""
        return replace(self, sum_y=self.sum_y.to(device), sum_yy=self.sum_yy.to(device))

    def _refuse_others(self, other: Moments) -> None:
        self._refuse_other(other.constants, other.sum_y.shape, other.unit)
        if self.layers != other.layers:
            raise ValueError(f"Moments of {_named(self.layers)} and of {_named(other.layers)} do not add.")

    def _refuse_other(self, constants: Constants, shape: torch.Size, unit: str) -> None:
        if self.constants != constants:
            raise ValueError(
                f"Moments with constants={self.constants!r} and constants={constants!r} do not add: decompose "
                f"all images with the same."
            )
        if self.sum_y.shape != shape:
            raise ValueError(
                f"Moments of different models do not add: [layers, heads, coordinates] is {list(self.sum_y.shape)} and "
                f"{list(shape)}."
            )
        if self.unit != unit:
            raise ValueError(f"Moments in {self.unit!r} and in {unit!r} units do not add.")

    def second_moment(self, layer: int, head: int) -> Float[Tensor, "k k"]:
        """E[y yᵀ] of one head.

        Raises:
            ValueError: if the products of its layer were not kept.
            IndexError: if there is no such head.
        """
        layer, head = checked_head(layer, head, *self.sum_y.shape[:2])
        self.refuse_left_out(layer)
        return self.sum_yy[layer if self.layers is None else self.layers.index(layer), head] / self.n

    def refuse_left_out(self, layer: int) -> None:
        """Raises ValueError if the products of this layer, counted from the start, were not kept."""
        if self.layers is not None and layer not in self.layers:
            every = hint("heads='all' (--heads all)", "--heads all")
            raise ValueError(
                f"Layer {layer} is not in these moments, which are of {_named(self.layers)} alone. Collect with "
                f"{every}."
            )

    @property
    def mean(self) -> Float[Tensor, "l h k"]:
        """E[y]."""
        return self.sum_y / self.n

    @property
    def covariance(self) -> Float[Tensor, "l h k k"]:
        """E[y yᵀ] − E[y] E[y]ᵀ, over n (not n − 1); a variance at or below rounding of E[y yᵀ] is zero.

        Raises:
            ValueError: if the products of some layers alone were kept; see :meth:`covariance_of`.
        """
        if self.layers is not None:
            raise ValueError(
                f"These moments are of {_named(self.layers)} alone, so that there is no covariance of every head. Ask "
                f"for covariance_of(layer, head), or collect with heads='all'."
            )
        covariance = torch.empty_like(self.sum_yy)
        for layer, mean in enumerate(self.mean):  # Of all at once, several times their size would be needed.
            covariance[layer] = psd_covariance(self.sum_yy[layer] / self.n, mean, self._known_noise())
        return covariance

    def covariance_of(self, layer: int, head: int) -> Float[Tensor, "k k"]:
        """The same of one head.

        Raises:
            ValueError: if the products of its layer were not kept.
            IndexError: if there is no such head.
        """
        second = self.second_moment(layer, head)
        return psd_covariance(second, self.mean[layer, head], self._known_noise())

    def _known_noise(self) -> float:
        return computed_noise(torch.float32) if self.noise is None else self.noise

    def to_tensors(self) -> dict[str, Tensor]:
        """The fields as tensors, as they are written to a file."""
        words = {name: word_tensor(getattr(self, name)) for name in WORDS}
        sums = {"sum_y": self.sum_y.cpu().contiguous(), "sum_yy": self.sum_yy.cpu().contiguous()}
        noise = {} if self.noise is None else {"noise": torch.tensor(self.noise, dtype=torch.float64, device="cpu")}
        layers = {} if self.layers is None else {"layers": torch.tensor(self.layers, device="cpu")}
        return {"n": torch.tensor(self.n, device="cpu"), **words, **sums, **noise, **layers}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Moments:
        """Reads the ``tensors`` that :meth:`to_tensors` gave.

        Raises:
            KeyError: if one is missing that every version wrote.
            ValueError: if they do not fit each other.
        """
        words = {name: word_of(tensors[name]) for name in WORDS if name in tensors}
        constants = checked_constants(words.get("constants", "separate"))
        noise = float(tensors["noise"]) if "noise" in tensors else None
        layers = tuple(tensors["layers"].tolist()) if "layers" in tensors else None
        return cls(int(tensors["n"]), tensors["sum_y"], tensors["sum_yy"], words["unit"], constants, noise, layers)


def _checked_layers(given: Iterable[int] | None, n_layers: int) -> tuple[int, ...] | None:
    """In increasing order, None for all."""
    if given is None:
        return None
    layers = tuple(sorted({checked_index("layer", layer, n_layers) for layer in given}))
    if not layers:
        raise ValueError("layers must name at least one layer, or be left out.")
    return None if len(layers) == n_layers else layers


def _named(layers: tuple[int, ...] | None) -> str:
    if layers is None:
        return "all layers"
    if len(layers) == 1:
        return f"layer {layers[0]}"
    if layers[-1] - layers[0] == len(layers) - 1:
        return f"layers {layers[0]} to {layers[-1]}"
    return f"layers {', '.join(map(str, layers[:-1]))} and {layers[-1]}"


def _greatest(*noises: float | None) -> float | None:
    """Of those that are known."""
    return max((each for each in noises if each is not None), default=None)
