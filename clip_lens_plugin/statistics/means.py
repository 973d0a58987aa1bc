"""The mean of every component over a data set: what mean ablation puts in a component's place."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.decomposition.constants import Constants, checked_constants
from clip_lens_plugin.decomposition.contributions import Contributions, Data
from clip_lens_plugin.files.saved_sums import word_of, word_tensor
from clip_lens_plugin.statistics.moments import WORDS


@dataclass(frozen=True)
class ComponentSums:
    """Sums of components over n images, in float64. They add, so they stream and merge.

    Attributes:
        n: number of images.
        unit: "embedding" or "cosine", see :attr:`Contributions.unit`.
        coordinates: of each head's y [l, h, k]; its mean contribution is ``mean().coordinates @ M_{l,h}``, with
            ``M_{l,h} = readout.head_map(l, h, sums.constants)``.
        attn_bias: of what each layer's b_O adds [l, e].
        mlps: [l, e].
        embed: [e].
        self_attention: what the class token sends to itself [l, e]; NaN where it was not kept.
        constants: "separate" or "shared", see :func:`decompose`.
        rest: of everything else [e]: βP, what an attention pool adds, edits; None in sums of earlier versions.
    """

    n: int
    unit: str
    coordinates: Float[Tensor, "l h k"]
    attn_bias: Float[Tensor, "l e"]
    mlps: Float[Tensor, "l e"]
    embed: Float[Tensor, " e"]
    self_attention: Float[Tensor, "l e"]
    constants: Constants = "separate"
    rest: Float[Tensor, " e"] | None = None

    def __repr__(self) -> str:
        l, h, k = self.coordinates.shape
        return (
            f"ComponentSums(images={self.n}, layers={l}, heads={h}, coordinates={k}, unit={self.unit!r}, "
            f"constants={self.constants!r})"
        )

    @classmethod
    def from_contributions(cls, contributions: Contributions) -> ComponentSums:
        """The sums over a batch, in the batch's unit, with its constants.

        Raises:
            ValueError: if a value is NaN or infinite.
        """
        c, mlps, coordinates = contributions, contributions.mlps.double(), contributions.head_coordinates.double()
        bad = ~(coordinates.flatten(1).isfinite().all(1) & mlps.flatten(1).isfinite().all(1))
        if bool(bad.any()):
            raise ValueError(
                f"The images at positions {bad.nonzero().flatten().tolist()[:5]} have NaN or infinite contributions."
            )
        return cls(
            n=len(c),
            unit=c.unit,
            constants=c.constants,
            coordinates=coordinates.sum(0),
            attn_bias=c.attn_bias.double().sum(0),
            mlps=mlps.sum(0),
            embed=c.embed.double().sum(0),
            rest=rest_of(c).double().sum(0),
            self_attention=c.self_attention.double().sum(0) if c.has_self_attention else mlps.sum(0) * float("nan"),
        )

    @classmethod
    def of(cls, data: Data, constants: Constants | None = None) -> ComponentSums:
        """The sums over all rows, in cosine units: those that were kept with the data, or else of its blocks.

        Args:
            data: contributions, or a store.
            constants: of the sums that are taken; those of the data if not given. Kept sums are as they were kept.

        Raises:
            ValueError: if there is no row, a value is NaN or infinite, or what sharing constants out needs was not
                kept.
        """
        found = data.kept(cls)
        for rows in data.blocks() if found is None else ():
            own = data.select(rows).normalized()
            more = cls.from_contributions(own if constants is None else own.with_constants(constants))
            found = more if found is None else found + more
        if found is None:
            raise ValueError("There is no mean over no images.")
        return found

    def to_tensors(self) -> dict[str, Tensor]:
        """The fields as tensors, as they are written to a file."""
        words = {name: word_tensor(getattr(self, name)) for name in WORDS}
        sums = {name: value.cpu().contiguous() for name, value in self._sums().items()}
        return {"n": torch.tensor(self.n, device="cpu"), **words, **sums}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> ComponentSums:
        """Reads what :meth:`to_tensors` gave.

        Raises:
            KeyError: if one is missing that every version wrote.
        """
        values = {each.name: tensors[each.name] for each in fields(cls) if each.name not in ("constants", "rest")}
        words = {name: word_of(tensors[name]) for name in WORDS if name in tensors}
        words["constants"] = checked_constants(words.get("constants", "separate"))
        return cls(**{**values, **words, "n": int(values["n"]), "rest": tensors.get("rest")})

    def _sums(self) -> dict[str, Tensor]:
        return {each.name: value for each in fields(self) if isinstance(value := getattr(self, each.name), Tensor)}

    def __add__(self, other: ComponentSums) -> ComponentSums:
        """The sums over both data sets.

        Raises:
            ValueError: if they are of models of different shape, in different units, or one has the constants
                separate and the other shared out.
        """
        if self.constants != other.constants:
            raise ValueError(
                f"Sums with constants={self.constants!r} and constants={other.constants!r} do not add: decompose all "
                f"images with the same."
            )
        if self.unit != other.unit:
            raise ValueError(f"Sums in {self.unit!r} and in {other.unit!r} units do not add.")
        if self.coordinates.shape != other.coordinates.shape:
            raise ValueError(
                f"Sums over different models do not add: [layers, heads, coordinates] is "
                f"{list(self.coordinates.shape)} and {list(other.coordinates.shape)}."
            )
        own, theirs = self._sums(), other._sums()
        known = {name: value + theirs[name].to(value.device) for name, value in own.items() if name in theirs}
        return replace(self, n=self.n + other.n, **{**dict.fromkeys(own), **known})

    def mean(self) -> ComponentSums:
        """The means: sums of "one image".

        Raises:
            ValueError: if there is no image.
        """
        if self.n == 0:
            raise ValueError("There is no mean over no images.")
        return replace(self, n=1, **{name: value / self.n for name, value in self._sums().items()})


def rest_of(c: Contributions) -> Float[Tensor, "b e"]:
    """The rest of each image's embedding, beside heads, their biases, MLPs and the stream that enters block 0."""
    edits = c.edits.sum(1) + sum(edit.sum(1) for edit in c.head_edits.values()) if c.has_edits else 0
    return c.ln_bias + sum(c.extra_components.values()) + edits
