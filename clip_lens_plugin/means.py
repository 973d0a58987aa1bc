"""The mean of every component over a data set: what mean ablation puts in a component's place."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.contributions import Contributions


@dataclass(frozen=True)
class ComponentSums:
    """Sums of components over n images, in float64. They add, so they stream and merge.

    Attributes:
        n: number of images.
        unit: "embedding" or "cosine", see :attr:`Contributions.unit`.
        coordinates: of each head's y [l, h, p · k]; its mean contribution is ``mean().coordinates @ M_{l,h}``.
        attn_bias: of what each layer's b_O adds [l, e].
        mlps: [l, e].
        embed: [e].
        self_attention: what the class token sends to itself [l, e]; NaN where it was not kept.
    """

    n: int
    unit: str
    coordinates: Float[Tensor, "l h pk"]
    attn_bias: Float[Tensor, "l e"]
    mlps: Float[Tensor, "l e"]
    embed: Float[Tensor, " e"]
    self_attention: Float[Tensor, "l e"]

    @classmethod
    def from_contributions(cls, contributions: Contributions) -> ComponentSums:
        """The sums over a batch, in the batch's unit."""
        c, mlps = contributions, contributions.mlps.double()
        return cls(
            n=len(c),
            unit=c.unit,
            coordinates=c.head_coordinates.double().sum(0),
            attn_bias=c.attn_bias.double().sum(0),
            mlps=mlps.sum(0),
            embed=c.embed.double().sum(0),
            self_attention=c.self_attention.double().sum(0) if c.has_self_attention else mlps.sum(0) * float("nan"),
        )

    def to_tensors(self) -> dict[str, Tensor]:
        """The fields as tensors, as they are written to a file."""
        unit = torch.tensor([*self.unit.encode()], dtype=torch.uint8, device="cpu")
        sums = {name: value.cpu().contiguous() for name, value in self._sums().items()}
        return {"n": torch.tensor(self.n, device="cpu"), "unit": unit, **sums}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> ComponentSums:
        """Reads what :meth:`to_tensors` gave.

        Raises:
            KeyError: if one is missing.
        """
        values = {each.name: tensors[each.name] for each in fields(cls)}
        return cls(**{**values, "n": int(values["n"]), "unit": bytes(values["unit"].tolist()).decode()})

    def _sums(self) -> dict[str, Tensor]:
        return {each.name: value for each in fields(self) if isinstance(value := getattr(self, each.name), Tensor)}

    def __add__(self, other: ComponentSums) -> ComponentSums:
        """The sums over both data sets.

        Raises:
            ValueError: if they are of models of different shape, or in different units.
        """
        if self.unit != other.unit:
            raise ValueError(f"Sums in {self.unit!r} and in {other.unit!r} units do not add.")
        if self.coordinates.shape != other.coordinates.shape:
            raise ValueError(
                f"Sums over different models do not add: [layers, heads, coordinates] is "
                f"{list(self.coordinates.shape)} and {list(other.coordinates.shape)}."
            )
        theirs = other._sums()
        summed = {name: value + theirs[name].to(value.device) for name, value in self._sums().items()}
        return replace(self, n=self.n + other.n, **summed)

    def mean(self) -> ComponentSums:
        """The means: sums of "one image".

        Raises:
            ValueError: if there is no image.
        """
        if self.n == 0:
            raise ValueError("There is no mean over no images.")
        return replace(self, n=1, **{name: value / self.n for name, value in self._sums().items()})
