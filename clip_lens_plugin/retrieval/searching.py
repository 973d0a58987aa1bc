"""Per-head retrieval: images that show most of what a head writes of a text, and images that it writes alike.

Source: Gandelsman, Efros and Steinhardt, ICLR 2024, figures 1 and 4. Everything is found in the k coordinates of a head
and block by block, so that nothing of width e is built for an image and a store of any size is read once.

Similarities and scores are computed in float64 and rounded to float32; what is then equal stands in the order of the
rows. So the size of the blocks that data are read in does not matter.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clip_lens_plugin.ablation.data import means_of, pieces, rows_of
from clip_lens_plugin.arguments import checked_index, checked_number, checked_texts
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.contributions import Contributions, Data
from clip_lens_plugin.decomposition.given_data import data_of
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.decomposition.runs import decompose_images
from clip_lens_plugin.describe.spans import TextSpanResult
from clip_lens_plugin.model.bridged import resolved
from clip_lens_plugin.model.inputs.given import given_image, is_images
from clip_lens_plugin.numerics.noise import least_variance
from clip_lens_plugin.retrieval.found import ExtremeImages, NearestImages
from clip_lens_plugin.texts.embedding import embed_texts

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
    _refuse_empty(data)
    if not isinstance(texts, TextSpanResult):
        texts = checked_texts("extreme_images", [texts] if isinstance(texts, str) else texts)
    elif len(texts) == 0:
        raise ValueError("The TextSpan result holds no head; run text_span with one or more.")
    k, n_texts = checked_number("k", k), None if n_texts is None else checked_number("n_texts", n_texts)
    searches = _searches(data.readout, texts, heads, n_texts, text_embeddings)
    noise = 0.0
    for rows, own in pieces(data):
        y, noise = _coordinates(own), own.noise
        for search in searches:
            search.add(y[:, search.layer, search.head], rows, k)
    means = means_of(data).coordinates
    varied = [each for each in searches if each.varies(means[each.layer, each.head], noise)]
    if len(varied) < len(searches) and len(data) > 1:
        same = [f"layer {each.layer}, head {each.head}" for each in searches if each not in varied]
        rest = f" and {len(same) - 3} more" if len(same) > 3 else ""
        warnings.warn(
            f"What the following heads write is the same for all {len(data)} images, but for rounding, so none is "
            f"extreme: {', '.join(same[:3])}{rest}.",
            stacklevel=2,
        )
    if len(data) == 1:
        warnings.warn(
            "There is one image, which is its own mean: its scores are zero, and it is extreme in nothing. Give two or "
            "more.",
            stacklevel=2,
        )
    kept = varied if len(data) > 1 else searches
    lines = [line for search in kept for line in search.lines(means[search.layer, search.head])]
    found = ExtremeImages(lines, columns=IMAGE_COLUMNS)
    found.know(data)
    found.spans = tuple(texts[each.layer, each.head] for each in kept) if isinstance(texts, TextSpanResult) else None
    return found


@torch.no_grad()
def nearest_images(
    data: Any, query: Any, layer: int, head: int, k: int = 4, *, remove_mean: bool = True
) -> NearestImages:
    """The images to which a head writes most alike what it writes to one image (figure 1).

    Similarity is the cosine of the angle between c[l, h] of both in the joint space, in cosine units. By default the
    mean over ``data`` is removed from both first: most of what a head writes is the same for all images, so that
    otherwise every similarity is close to 1 and what differs between images hardly counts. The paper compares
    contributions as they are; ``remove_mean=False`` does so.

    Args:
        data: the images to search: contributions, a store, or the path of one.
        query: one image: its path, a picture, or preprocessed pixels [3, height, width]; its contributions by the same
            model; or a row of ``data``, which is then left out; negative ones count from the end.
        layer, head: which head.
        k: images to find; all of them if there are fewer.
        remove_mean: see above.

    Returns:
        place (from 1), row, similarity (from −1 to 1; 0 for an image to which the head writes nothing); and name, where
        the images have names.

    Raises:
        ValueError: if ``k`` is no whole number of at least 1; if there is no image; if the query is neither a row nor
            one image, or is of a model of another shape, or the head writes nothing (but the mean) to it; if
            contributions are not finite, have the constants shared out over them, or are of a hook on ``hook_result``;
            if a store keeps no rows.
        IndexError: if there is no such head or row.
    """
    data = data_of(data)
    _refuse_empty(data)
    k = checked_number("k", k)
    layer, head = data.readout.model.cfg.checked_head(layer, head)
    row, asked = None, query
    if is_images(query):
        model = resolved(data.readout.model)
        asked = decompose_images(model, given_image(model, query))
    if isinstance(asked, Contributions):
        asked = _one_image(data, asked)
    else:
        row = checked_index("row", query, len(data))
        asked = rows_of(data, torch.tensor([row], device="cpu"))
    M = asked.readout.head_map(layer, head).double()
    gram = equations.gram(M)
    written = _coordinates(asked)[0, layer, head]
    mean = means_of(data).coordinates[layer, head].to(M) if remove_mean else torch.zeros_like(written)
    towards = gram @ (written - mean)
    length = equations.quadratic(written - mean, gram)
    if not length > least_variance(float(equations.quadratic(written, gram)), asked.noise):
        rest = " but its mean" if remove_mean else ""
        raise ValueError(f"Layer {layer}, head {head} writes nothing{rest} to the query, so nothing is like it.")
    best = _Best.none(1)
    for rows, own in pieces(data):
        y = _coordinates(own)[:, layer, head]
        z = y - mean
        lengths = equations.quadratic(z, gram)
        writes = lengths > least_variance(1.0, own.noise) * equations.quadratic(y, gram)
        similarity = torch.where(writes, z @ towards / (length * lengths).sqrt(), 0.0).clamp(-1, 1)
        numbers = torch.arange(rows.start, rows.stop, device="cpu")
        others = numbers >= 0 if row is None else numbers != row
        best = best.with_more(similarity.cpu()[others, None], numbers[others], k)
    places = range(1, len(best.rows) + 1)
    columns = {"place": places, "row": best.rows[:, 0].tolist(), "similarity": best.scores[:, 0].tolist()}
    found = NearestImages(columns)
    found.know(data)
    found.chosen_head, found.query_row = (layer, head), row
    found.query = None if asked.photographs is None else asked.photographs[0]
    return found


@dataclass(frozen=True)
class _Best:
    """The highest scores so far of each of m columns, highest first, and their rows; of equal ones the first row."""

    scores: Float[Tensor, "s m"]
    rows: Int[Tensor, "s m"]

    @classmethod
    def none(cls, m: int) -> _Best:
        return cls(torch.empty(0, m, device="cpu"), torch.empty(0, m, dtype=torch.int64, device="cpu"))

    def with_more(self, scores: Float[Tensor, "n m"], rows: Int[Tensor, " n"], k: int) -> _Best:
        """The best k of these and of later rows' scores."""
        # Last bits of a product depend on how many rows are multiplied at once; float32 does not show them.
        both = torch.cat([self.scores, scores.float()])
        order = both.sort(dim=0, descending=True, stable=True).indices[:k]
        return _Best(both.gather(0, order), torch.cat([self.rows, rows[:, None].expand(scores.shape)]).gather(0, order))


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
        self.highest = self.lowest = _Best.none(len(texts))
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
        embeddings = embed_texts(resolved(readout.model), wanted) if wanted else torch.empty(0, cfg.d_embed)
    elif len(embeddings) < needed or not (isinstance(texts, TextSpanResult) or len(embeddings) == needed):
        raise ValueError(
            f"The texts, or the pool that they were picked from, need {needed} embeddings, got {len(embeddings)}."
        )
    columns = readout.checked_texts(embeddings).double()
    return [
        _Search(layer, head, found, readout.head_map(layer, head).double(), columns[at])
        for (layer, head), (found, at) in zip(chosen, named, strict=True)
    ]


def _coordinates(own: Contributions) -> Float[Tensor, "b l h k"]:
    """Of all heads, in float64."""
    own.refuse_result_edits()
    if own.constants != "separate":
        raise ValueError("Retrieval takes what heads write alone: decompose with constants='separate'.")
    y = own.head_coordinates.double()
    if not bool(y.isfinite().all()):
        raise ValueError("Head contributions are NaN or infinite, or an embedding is zero: leave such images out.")
    return y


def _one_image(data: Data, query: Contributions) -> Contributions:
    """The one image asked about, in cosine units."""
    readout = data.readout
    cfg = readout.model.cfg
    expected = (1, cfg.n_layers, cfg.n_heads, readout.n_coordinates(query.constants))
    if tuple(query.head_coordinates.shape) != expected:
        raise ValueError(
            f"The query's heads have shape {list(query.head_coordinates.shape)} (images, layers, heads, coordinates), "
            f"expected {list(expected)}. Give the contributions of one image of the same model."
        )
    return query.normalized()


def _refuse_empty(data: Data) -> None:
    if len(data) == 0:
        raise ValueError("There is no image to retrieve.")
