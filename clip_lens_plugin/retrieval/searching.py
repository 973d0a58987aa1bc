"""Per-head retrieval: images that show most, and least, of what a head writes of a text.

Source: Gandelsman, Efros and Steinhardt, ICLR 2024, figure 4. Everything is found in the k coordinates of a head
and block by block, so that nothing of width e is built for an image and a store of any size is read once.

Scores are computed in float64 and rounded to float32; what is then equal stands in the order of the
rows. So the size of the blocks that data are read in does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.ablation.data import means_of
from clip_lens_plugin.arguments import checked_number, checked_texts
from clip_lens_plugin.collection.given_data import data_of
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.describe.spans import TextSpanResult
from clip_lens_plugin.numerics.noise import least_variance
from clip_lens_plugin.retrieval.found import ExtremeImages
from clip_lens_plugin.retrieval.reading import Best, checked_noise, written
from clip_lens_plugin.texts.embedding import embed_texts
from clip_lens_plugin.warned import warn

IMAGE_COLUMNS = ["layer", "head", "rank", "text", "side", "place", "row", "score"]


@torch.no_grad()
def extreme_images(
    data: Any,
    texts: TextSpanResult | str | Sequence[str],
    k: int = 4,
    *,
    heads: Iterable[tuple[int, int]] | int | None = None,
    n_texts: int | None = None,
    text_embeddings: Float[Tensor, "t e"] | None = None,
) -> ExtremeImages:
    """The images whose contribution through a head leans most to a text, and most away from it (figure 4).

    The score is (c[b, l, h] − E[c[l, h]]) · e_t, what the head adds to the image's cosine similarity to the text, less
    the mean of that over the images. The mean changes no order, but signs: most of what a head adds is the same for all
    images. A head that writes the same for all images, but for rounding, is left out, with a warning: no image is
    extreme.

    Args:
        data: contributions of the images, a store, or the path of one.
        texts: each head's own, or the same free texts (or one) for every head.
        k: images of each side; all of them if there are fewer.
        heads: (layer, head) pairs, or a layer for all heads of it; those of the TextSpan result, or all for free texts,
            if not given.
        n_texts: only this many of the texts, the first ones.
        text_embeddings: unit embeddings of the free texts, or of the pool that TextSpan picked from, to use instead of
            the model's own.

    Returns:
        layer, head, rank (of the text, from 1), text, side ("highest", "lowest"), place (from 1), row, score; and name,
        where the images have names.

    Raises:
        ValueError: if ``k`` or ``n_texts`` is no whole number of at least 1; if there is no image, text or head; if the
            embeddings do not match; if contributions are not finite, have the constants shared out over them, or are of
            a hook on ``hook_result``; if a store keeps no rows.
        IndexError: if there is no such head.
        KeyError: if TextSpan was not run on a head.
    """
    data = data_of(data)
    noise = checked_noise(data)
    if not isinstance(texts, TextSpanResult):
        texts = checked_texts("extreme_images", [texts] if isinstance(texts, str) else texts)
    elif len(texts) == 0:
        raise ValueError("The TextSpan result holds no head; run text_span with one or more.")
    k, n_texts = checked_number("k", k), None if n_texts is None else checked_number("n_texts", n_texts)
    searches = _searches(data.readout, texts, heads, n_texts, text_embeddings)
    for rows, y in written(data, [(each.layer, each.head) for each in searches]):
        for m, search in enumerate(searches):
            search.add(y[:, m], rows, k)
    means = means_of(data).coordinates
    varied = [each for each in searches if each.varies(means[each.layer, each.head], noise)]
    if len(varied) < len(searches) and len(data) > 1:
        same = [f"layer {each.layer}, head {each.head}" for each in searches if each not in varied]
        rest = f" and {len(same) - 3} more" if len(same) > 3 else ""
        warn(
            f"What the following heads write is the same for all {len(data)} images, but for rounding, so none is "
            f"extreme: {', '.join(same[:3])}{rest}."
        )
    if len(data) == 1:
        warn(
            "There is one image, which is its own mean: its scores are zero, and it is extreme in nothing. Give two or "
            "more."
        )
    kept = varied if len(data) > 1 else searches
    lines = [line for search in kept for line in search.lines(means[search.layer, search.head])]
    found = ExtremeImages(lines, columns=IMAGE_COLUMNS)
    found.know(data)
    found.spans = tuple(texts[each.layer, each.head] for each in kept) if isinstance(texts, TextSpanResult) else None
    return found


class _Search:
    """The images of one head's texts, whose map M_{l,h} is ``head_map``."""

    def __init__(
        self,
        layer: int,
        head: int,
        texts: Sequence[str],
        head_map: Float[Tensor, "k e"],
        embeddings: Float[Tensor, "t e"],
    ) -> None:
        self.layer, self.head, self.texts = layer, head, texts
        self.directions, self._gram = equations.towards(head_map, embeddings), equations.gram(head_map)
        self.highest = self.lowest = Best.none(len(texts))
        self._n, self._squares = 0, 0.0

    def add(self, y: Float[Tensor, "s k"], rows: range, k: int) -> None:
        """Later rows."""
        self._n, self._squares = self._n + len(y), self._squares + float(equations.quadratic(y, self._gram).sum())
        scores, numbers = (
            equations.contribution(y, self.directions).cpu(),
            torch.arange(rows.start, rows.stop, device="cpu"),
        )
        self.highest = self.highest.with_more(scores, numbers, k)
        self.lowest = self.lowest.with_more(-scores, numbers, k)

    def varies(self, mean: Float[Tensor, " k"], noise: float) -> bool:
        """Whether what the head writes differs between images by more than rounding."""
        second, away = self._squares / self._n, mean.to(self._gram)
        return second - float(equations.quadratic(away, self._gram)) > least_variance(second, noise)

    def lines(self, mean: Float[Tensor, " k"]) -> Iterable[tuple]:
        """Rows of the table, given the mean of the head's coordinates."""
        means = equations.contribution(mean.to(self.directions), self.directions).tolist()
        for rank, text in enumerate(self.texts):
            for side, sign, best in (("highest", 1, self.highest), ("lowest", -1, self.lowest)):
                both = zip(best.rows[:, rank].tolist(), best.scores[:, rank].tolist(), strict=True)
                for place, (row, score) in enumerate(both, start=1):
                    yield self.layer, self.head, rank + 1, text, side, place, row, sign * score - means[rank]


def _searches(
    readout: Readout,
    texts: TextSpanResult | Sequence[str],
    heads: Iterable[tuple[int, int]] | int | None,
    n_texts: int | None,
    embeddings: Float[Tensor, "t e"] | None,
) -> list[_Search]:
    """One a head; each text is encoded once."""
    cfg = readout.model.cfg
    if heads is None:
        every = ((l, h) for l in range(cfg.n_layers) for h in range(cfg.n_heads))
        heads = texts.heads if isinstance(texts, TextSpanResult) else every
    chosen = cfg.checked_heads(heads)
    if isinstance(texts, TextSpanResult):
        named = [(texts[each].texts[:n_texts], texts[each].indices[:n_texts]) for each in chosen]
        needed = 1 + max((i for _, at in named for i in at), default=-1)
    else:
        named = [(list(texts)[:n_texts], list(range(len(texts)))[:n_texts])] * len(chosen)
        needed = len(texts)
    if embeddings is None:
        wanted = list(dict.fromkeys(text for found, _ in named for text in found))
        places = {text: place for place, text in enumerate(wanted)}
        named = [(found, [places[text] for text in found]) for found, _ in named]
        embeddings = embed_texts(readout.image_model, wanted) if wanted else torch.empty(0, cfg.d_embed)
    elif len(embeddings) < needed or not (isinstance(texts, TextSpanResult) or len(embeddings) == needed):
        raise ValueError(
            f"The texts, or the pool that they were picked from, need {needed} embeddings, got {len(embeddings)}."
        )
    columns = readout.checked_texts(embeddings).double()
    return [
        _Search(layer, head, found, readout.head_map(layer, head).double(), columns[at])
        for (layer, head), (found, at) in zip(chosen, named, strict=True)
    ]
