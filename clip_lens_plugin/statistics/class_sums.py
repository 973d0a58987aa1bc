"""What of each class a data set's sums say: how many images, and the sum of every head's coordinates over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.decomposition.constants import Constants, checked_constants
from clip_lens_plugin.decomposition.contributions import Contributions
from clip_lens_plugin.files.saved_sums import SavedSums, word_of, word_tensor
from clip_lens_plugin.statistics.class_variance import sums_by_class
from clip_lens_plugin.statistics.moments import WORDS, Moments

MOST_BYTES = 32 * 10**7
"""The largest class sums that are kept."""

UNLABELLED = "unlabelled."
"""Before the names of what is kept of images without a label."""


def class_sums_bytes(n_classes: int, n_layers: int, n_heads: int, width: int, d_embed: int) -> int:
    """Bytes of class sums of so many layers, however many images they are of.

    Args:
        n_classes: with images or without.
        n_layers: that are kept.
        n_heads: of a layer.
        width: coordinates of a head.
        d_embed: e.
    """
    return 8 * n_classes * (1 + n_layers * n_heads * width + d_embed)


@dataclass(frozen=True)
class ClassSums(SavedSums):
    """Sums over the images of each of c classes, in float64. They add, so they stream and merge.

    With the moments of all images they say how much of a head's variance the classes explain. The moments of images
    without a label are kept too, since they have to be subtracted. For ImageNet's 1,000 classes they take 78 MB for
    ViT-B-16 (all layers: 1,000 x 144 heads x 64 numbers, and 1,000 x 512 of the embedding) and 0.2 GB for ViT-L-14.
    MLPs and biases would be more than that again, and stand in the rows of a store; all that is not heads together
    follows from the embedding.

    Attributes:
        counts: images of each class.
        sum_y: of the head coordinates of the layers that are kept.
        sum_embedding: of the embeddings.
        unit, constants: as of :class:`Moments`.
        layers: numbers of the m layers that are kept, in increasing order; all or the late ones.
        unlabelled: the moments of images whose class is not known; None if there are none.
    """

    KIND: ClassVar[str] = "sums of classes"

    counts: Int[Tensor, " c"]
    sum_y: Float[Tensor, "c m h k"]
    sum_embedding: Float[Tensor, "c e"]
    unit: str
    constants: Constants
    layers: tuple[int, ...]
    unlabelled: Moments | None = None

    def __repr__(self) -> str:
        c, m, h, k = self.sum_y.shape
        return (
            f"ClassSums(classes={c}, images={int(self.counts.sum())}, without a label={self.n_unlabelled}, layers={m}, "
            f"heads={h}, coordinates={k}, unit={self.unit!r})"
        )

    @property
    def n_unlabelled(self) -> int:
        """Images whose class is not known."""
        return 0 if self.unlabelled is None else self.unlabelled.n

    @classmethod
    def none(cls, contributions: Contributions, n_classes: int, layers: Sequence[int]) -> ClassSums:
        """Empty sums, to be added to; in the unit of these contributions, with their constants, on their device.

        Args:
            contributions: of some images.
            n_classes: that labels may name.
            layers: that are kept, in increasing order.
        """
        c = contributions
        _, _, h, k = c.head_coordinates.shape
        sum_y = c.embedding.new_zeros(n_classes, len(layers), h, k, dtype=torch.float64)
        sum_embedding = sum_y.new_zeros(n_classes, c.embedding.shape[-1])
        counts = torch.zeros(n_classes, dtype=torch.int64, device="cpu")
        return cls(counts, sum_y, sum_embedding, c.unit, c.constants, tuple(layers))

    def absorb(self, batches: Sequence[Contributions], labels: Sequence[int]) -> ClassSums:
        """These sums with images added in place: ``self`` shares them and is not to be used any more.

        Args:
            batches: contributions in the unit of the sums.
            labels: of their images, one batch after another, -1 where unknown.

        Raises:
            ValueError: if a hook on ``hook_result`` moved a head out of its own span.
        """
        of_rows, device = torch.tensor(labels, dtype=torch.int64, device="cpu"), self.sum_y.device
        known = of_rows >= 0
        classes, number = of_rows[known].unique(return_inverse=True)
        for each in batches:
            each.refuse_result_edits()
        if len(classes):
            at, rows, target = number.to(device), known.nonzero().flatten().to(device), classes.to(device)
            embeddings = torch.cat([each.embedding for each in batches]).to(device)[rows].double()
            self.sum_embedding[target] += sums_by_class(embeddings, at, len(classes))
            every = [each.head_coordinates for each in batches]
            for place, layer in enumerate(self.layers):
                y = torch.cat([each[:, layer] for each in every]).to(device)[rows].double()
                self.sum_y[target, place] += sums_by_class(y, at, len(classes))
        counts = self.counts + torch.bincount(of_rows[known], minlength=len(self.counts))
        return replace(self, counts=counts, unlabelled=self._with_unlabelled(batches, known))

    def _with_unlabelled(self, batches: Sequence[Contributions], known: Tensor) -> Moments | None:
        found = self.unlabelled
        for batch, labelled in zip(batches, known.split([len(each) for each in batches]), strict=True):
            if not bool(labelled.all()):
                own = batch.select(~labelled)
                found = Moments.from_contributions(own, self.layers) if found is None else found.absorb(own)
        return found

    def absorb_sums(self, other: ClassSums) -> ClassSums:
        """These sums with those of elsewhere added in place, as by :meth:`absorb`.

        Raises:
            ValueError: if they are of other models, classes, units, layers or constants.
        """
        same = (self.unit, self.constants, self.layers, self.sum_y.shape)
        if same != (other.unit, other.constants, other.layers, other.sum_y.shape):
            raise ValueError(f"{self!r} and {other!r} do not add: they are of other models, classes, units or layers.")
        self.sum_y.add_(other.sum_y.to(self.sum_y.device))
        self.sum_embedding.add_(other.sum_embedding.to(self.sum_embedding.device))
        mine, theirs = self.unlabelled, other.unlabelled
        both = theirs if mine is None else mine if theirs is None else mine.absorb_sums(theirs)
        return replace(self, counts=self.counts + other.counts, unlabelled=both)

    def labelled(self, moments: Moments) -> Moments:
        """The moments of the images whose class is known, of the layers that are kept.

        Args:
            moments: of all images, of these layers or more.

        Raises:
            ValueError: if they are of other images, or of other layers.
        """
        n = int(self.counts.sum())
        if moments.n != n + self.n_unlabelled:
            raise ValueError(
                f"Class sums of {n + self.n_unlabelled} images need the moments of these, got {moments!r}."
            )
        for layer in self.layers:
            moments.refuse_left_out(layer)
        of_all = range(len(moments.sum_y)) if moments.layers is None else moments.layers
        kept = [[*of_all].index(layer) for layer in self.layers]
        sum_y, sum_yy = moments.sum_y, moments.sum_yy[kept]
        if self.unlabelled is not None:
            sum_y = sum_y - self.unlabelled.sum_y.to(sum_y.device)
            sum_yy = sum_yy - self.unlabelled.sum_yy.to(sum_yy.device)
        layers = None if len(self.layers) == len(moments.sum_y) else self.layers
        return replace(moments, n=n, sum_y=sum_y, sum_yy=sum_yy, layers=layers)

    def to(self, device: torch.device) -> ClassSums:
        """The same sums on a device."""
        unlabelled = None if self.unlabelled is None else self.unlabelled.to(device)
        moved = {"sum_y": self.sum_y.to(device), "sum_embedding": self.sum_embedding.to(device)}
        return replace(self, unlabelled=unlabelled, **moved)

    def to_tensors(self) -> dict[str, Tensor]:
        """The fields as tensors, as they are written to a file."""
        words = {name: word_tensor(getattr(self, name)) for name in WORDS}
        own = {
            "counts": self.counts.cpu(),
            "sum_y": self.sum_y.cpu().contiguous(),
            "sum_embedding": self.sum_embedding.cpu().contiguous(),
            "layers": torch.tensor(self.layers, dtype=torch.int64, device="cpu"),
            **words,
        }
        rest = {} if self.unlabelled is None else self.unlabelled.to_tensors()
        return {**own, **{UNLABELLED + name: value for name, value in rest.items()}}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> ClassSums:
        """Reads the ``tensors`` that :meth:`to_tensors` gave.

        Raises:
            KeyError: if one is missing.
            ValueError: if they do not fit each other.
        """
        counts, sum_y, sum_embedding = (tensors[name] for name in ("counts", "sum_y", "sum_embedding"))
        words = {name: word_of(tensors[name]) for name in WORDS}
        layers = tuple(tensors["layers"].tolist())
        if counts.shape != sum_y.shape[:1] or len(sum_embedding) != len(counts) or sum_y.shape[1] != len(layers):
            raise ValueError("its sums do not fit each other")
        rest = {name.removeprefix(UNLABELLED): value for name, value in tensors.items() if name.startswith(UNLABELLED)}
        unlabelled = Moments.from_tensors(rest) if rest else None
        constants = checked_constants(words["constants"])
        return cls(counts, sum_y, sum_embedding, words["unit"], constants, layers, unlabelled)
