"""Sparse codes in words: which words each vector is the sum of."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.arguments import checked_index
from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.plain_text import one_line
from clip_lens_plugin.shown import Shown

MOST_SHOWN, WORDS_SHOWN, LONGEST = 4, 3, 24
"""What a result says at most: vectors, words of each, and letters of a name or a word."""


@dataclass(frozen=True, kw_only=True)
class SparseText(Shown):
    """The words and weights of b vectors over a vocabulary of v texts; all tensors are in float64 on the CPU.

    Attributes:
        names: of the vectors.
        texts: the vocabulary.
        indices: of each vector's words in it, that of the greatest weight first [b, m]; 0 where the weight is 0.
        weights: of the words [b, m]; negative for directions alone. Rows are filled up with 0.
        objective: the minimum, ``½ ‖w C − z‖² + λ Σ |w|``.
        kkt: the greatest violation of the conditions of the minimum over the whole vocabulary; of ``k`` words, over
            these.
        cosine: of the vector, centred, to the sum of its words; NaN where it has no word.
        lengths: of unit embeddings less the mean; of directions as they were given.
        penalty: λ, 0 where the number of words was given.
        k: the number of words that was asked for.
        text_mean: mean of the vocabulary's unit embeddings, that it is centred by [e].
        image_mean: mean of unit embeddings, that images are centred by [e]; None of directions.
        mean_of: what that is a mean of, in words.
        data: the images that were given, of which the view takes the pictures.
    """

    names: tuple[str, ...]
    texts: tuple[str, ...]
    indices: Int[Tensor, "b m"]
    weights: Float[Tensor, "b m"]
    objective: Float[Tensor, " b"]
    kkt: Float[Tensor, " b"]
    cosine: Float[Tensor, " b"]
    lengths: Float[Tensor, " b"]
    penalty: float
    k: int | None
    text_mean: Float[Tensor, " e"]
    image_mean: Float[Tensor, " e"] | None
    mean_of: str = ""
    data: Data | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def counts(self) -> Int[Tensor, " b"]:
        """How many words each vector has."""
        return (self.weights != 0).sum(1)

    @property
    def codes(self) -> Float[Tensor, "b v"]:
        """The weight of every text, as a sparse tensor; ``codes.to_dense()`` has the zeros too."""
        used = self.weights != 0
        places = torch.stack([used.nonzero()[:, 0], self.indices[used]])
        size = len(self), len(self.texts)
        return torch.sparse_coo_tensor(places, self.weights[used], size, device="cpu", check_invariants=True).coalesce()

    def words(self, row: int) -> list[tuple[str, float]]:
        """Each word of the vector at ``row`` with its weight, the greatest first.

        Raises:
            IndexError: if there is no such vector.
        """
        row = checked_index("vector", row, len(self))
        n = int(self.counts[row])
        pairs = zip(self.indices[row, :n].tolist(), self.weights[row, :n].tolist(), strict=True)
        return [(self.texts[index], weight) for index, weight in pairs]

    def to_dataframe(self) -> pd.DataFrame:
        """One row per word of a vector: row, name, rank (from 1), text, weight."""
        rows = [
            (row, name, rank, text, weight)
            for row, name in enumerate(self.names)
            for rank, (text, weight) in enumerate(self.words(row), start=1)
        ]
        return pd.DataFrame(rows, columns=["row", "name", "rank", "text", "weight"])

    @property
    def about(self) -> str:
        """How the codes were made, in a sentence."""
        aim = f"{self.k} words each" if self.k is not None else f"penalty {self.penalty:g}"
        centred = "directions, not centred" if self.image_mean is None else f"centred by {self.mean_of}"
        return f"{len(self.texts):,} texts, centred by their own mean; {aim}; {centred}"

    def __repr__(self) -> str:
        lines = "".join(f"\n  {one_line(name, LONGEST)}: {self._row_in_words(row)}" for row, name in self._first())
        more = f"\n  and {len(self) - MOST_SHOWN} more" if len(self) > MOST_SHOWN else ""
        return f"{type(self).__name__}({self.about}){lines}{more}"

    def _first(self) -> list[tuple[int, str]]:
        return list(enumerate(self.names[:MOST_SHOWN]))

    def _row_in_words(self, row: int) -> str:
        words = self.words(row)
        listed = ", ".join(f"{one_line(text, LONGEST)} {weight:+.2f}" for text, weight in words[:WORDS_SHOWN])
        more = f" and {len(words) - WORDS_SHOWN} more" if len(words) > WORDS_SHOWN else ""
        return f"{listed}{more}; cosine {float(self.cosine[row]):.2f}" if words else "no word is worth its penalty"
