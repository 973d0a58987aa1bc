"""How much of each head the classes explain, and which classes each head tells apart."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.arguments import checked_head, checked_number
from clip_lens_plugin.shown import Shown

MOST_NAMED = 3
"""Classes of a head, and heads of a class, in the tables of all."""


@dataclass(frozen=True, eq=False, repr=False)
class ClassHeads(Shown):
    """What :func:`~clip_lens_plugin.class_heads` found, over n images of c classes; float64, on the CPU.

    Attributes:
        classes: names of the classes that have images.
        counts: their images.
        empty: names of the classes without images.
        n_unlabelled: images without a label, which are left out.
        layers: numbers of the m layers that were looked at.
        n_layers: of the model.
        eta_squared: η², the share of each head's variance that lies between the means of the classes, 0 to 1; NaN where
            a head writes the same for all images.
        chance: what η² is for labels that say nothing: the mean over permuted labels or, where ``permutations`` is 0,
            over all that there are, (c − 1) / (n − 1).
        chance_most: the greatest η² of the permuted labels; NaN without permutations.
        permutations: how often labels were permuted; 0 for sums alone, without rows.
        total_variance: of each head's contribution, in cosine².
        shares: what each class brings of η²; the sum over the classes.
        lengths: how far the mean contribution of a class is from that of all images, in cosine units.
        towards: how much more a head adds towards the class's own text, less the mean of all texts, to images of the
            class than to all images; None without a classifier.
        towards_whole: the same of the whole embedding.
    """

    classes: tuple[str, ...]
    counts: Int[Tensor, " c"]
    empty: tuple[str, ...]
    n_unlabelled: int
    layers: tuple[int, ...]
    n_layers: int
    eta_squared: Float[Tensor, "m h"]
    chance: Float[Tensor, "m h"]
    chance_most: Float[Tensor, "m h"]
    permutations: int
    total_variance: Float[Tensor, "m h"]
    shares: Float[Tensor, "c m h"]
    lengths: Float[Tensor, "c m h"]
    towards: Float[Tensor, "c m h"] | None = None
    towards_whole: Float[Tensor, " c"] | None = None

    @property
    def n(self) -> int:
        """Images whose class is known."""
        return int(self.counts.sum())

    @property
    def chance_told(self) -> str:
        """What stands for chance, in words."""
        if self.permutations:
            return f"the mean of {self.permutations} permutations of the labels"
        return "(classes − 1) / (images − 1), the mean over all permutations of the labels"

    def classes_of(self, layer: int, head: int, count: int = 10) -> pd.DataFrame:
        """The classes that a head tells apart best.

        Args:
            layer, head: which head; negative ones count from the end.
            count: of classes, at most.

        Returns:
            One row per class: ``class``, ``images``, ``share`` of the head's variance (their sum over all classes is
            η²), ``chance`` of that, ``length``, and with a classifier ``towards``; by share or, with a classifier, by
            towards.

        Raises:
            ValueError: if the layer was not looked at, or a number is none.
            IndexError: if there is no such head.
        """
        layer, head = checked_head(layer, head, self.n_layers, self.eta_squared.shape[1])
        at = (self._place(layer), head)
        columns = {
            "class": self.classes,
            "images": self.counts.numpy(),
            "share": self.shares[:, *at].numpy(),
            "chance": self._chance_of_classes().numpy(),
            "length": self.lengths[:, *at].numpy(),
        }
        return self._first(pd.DataFrame(columns), self._along(at), "share", count)

    def heads_of(self, name: str, count: int = 10) -> pd.DataFrame:
        """The heads that move the images of a class farthest from the mean.

        Args:
            name: of the class.
            count: of heads, at most.

        Returns:
            One row per head: ``layer``, ``head``, ``length``, its ``chance`` for as many images drawn from all,
            ``share`` of the head's variance, and with a classifier ``towards``; by length or, with a classifier, by
            towards.

        Raises:
            ValueError: if there is no such class, or it has no image; or if ``count`` is no whole number.
        """
        if name not in self.classes:
            why = "has no image" if name in self.empty else f"is none of the {len(self.classes):,} classes"
            raise ValueError(f"{name!r} {why}; the classes are in .classes, from {self.classes[0]!r} on.")
        at = self.classes.index(name)
        pairs = [(layer, head) for layer in self.layers for head in range(self.eta_squared.shape[1])]
        table = pd.DataFrame(pairs, columns=["layer", "head"])
        chance = (self._chance_of_classes()[at] * self.n / self.counts[at] * self.total_variance).sqrt()
        table = table.assign(length=self.lengths[at].flatten().numpy(), chance=chance.flatten().numpy())
        table = table.assign(share=self.shares[at].flatten().numpy())
        along = None if self.towards is None else self.towards[at].flatten()
        return self._first(table, along, "length", count)

    def by_class(self) -> pd.DataFrame:
        """One row per class: ``class``, ``images``, and ``heads``, the first three of :meth:`heads_of` in words."""
        n_heads = self.eta_squared.shape[1]
        score = self.lengths if self.towards is None else self.towards
        best = score.flatten(1).nan_to_num(-torch.inf).topk(min(MOST_NAMED, score[0].numel())).indices
        heads = ["; ".join(f"L{self.layers[at // n_heads]}H{at % n_heads}" for at in row) for row in best.tolist()]
        return pd.DataFrame({"class": self.classes, "images": self.counts.numpy(), "heads": heads})

    def to_dataframe(self) -> pd.DataFrame:
        """One row per head.

        ``layer``, ``head``, ``eta_squared``, ``chance``, ``chance_most``, ``total_variance``, and ``classes``: the
        first three of :meth:`classes_of`, in words.
        """
        n_heads = self.eta_squared.shape[1]
        score = self.shares if self.towards is None else self.towards
        best = score.flatten(1).nan_to_num(-torch.inf).topk(min(MOST_NAMED, len(score)), dim=0).indices.T
        alive = self.eta_squared.isfinite().flatten().tolist()
        of_heads = [
            "; ".join(self.classes[at] for at in row) if varies else ""
            for row, varies in zip(best.tolist(), alive, strict=True)
        ]
        pairs = [(layer, head) for layer in self.layers for head in range(n_heads)]
        names = ("eta_squared", "chance", "chance_most", "total_variance")
        columns = {name: getattr(self, name).flatten().numpy() for name in names}
        return pd.DataFrame(pairs, columns=["layer", "head"]).assign(**columns, classes=of_heads)

    def grid(self) -> Float[Tensor, "l h"]:
        """η² of every head of the model, NaN where a layer was not looked at."""
        whole = torch.full((self.n_layers, self.eta_squared.shape[1]), torch.nan, dtype=torch.float64, device="cpu")
        whole[list(self.layers)] = self.eta_squared
        return whole

    def __repr__(self) -> str:
        best = self.to_dataframe().sort_values("eta_squared", ascending=False).head(MOST_NAMED)
        best_classes = [
            f"L{row['layer']}H{row['head']} {row['eta_squared']:.2f} (chance {row['chance']:.2f}): {row['classes']}"
            for row in best.to_dict("records")
        ]
        return f"ClassHeads({len(self.classes):,} classes, {self.n:,} images; {' | '.join(best_classes)})"

    def _place(self, layer: int) -> int:
        if layer not in self.layers:
            raise ValueError(
                f"Layer {layer} was not looked at: these are layers {self.layers[0]} to {self.layers[-1]}, of which "
                f"sums were kept."
            )
        return self.layers.index(layer)

    def _along(self, at: tuple[int, int]) -> Float[Tensor, " c"] | None:
        return None if self.towards is None else self.towards[:, *at]

    def _chance_of_classes(self) -> Float[Tensor, " c"]:
        """What each class brings of η² if labels say nothing."""
        return (1 - self.counts.double() / self.n) / (self.n - 1)

    @staticmethod
    def _first(table: pd.DataFrame, towards: Tensor | None, by: str, count: int) -> pd.DataFrame:
        count = checked_number("count", count)
        if towards is not None:
            table, by = table.assign(towards=towards.numpy()), "towards"
        return table.sort_values(by, ascending=False, kind="stable").head(count).reset_index(drop=True)
