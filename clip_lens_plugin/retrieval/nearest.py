"""Images that are like an image, or near to a text, in what chosen heads write.

Source: Gandelsman, Efros and Steinhardt, ICLR 2024, figure 1, for one head; what several write is summed. The chosen
heads alone are read, piece by piece, so that a store of any size is searched.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.ablation.data import means_of, rows_of
from clip_lens_plugin.arguments import checked_index, checked_number, checked_texts
from clip_lens_plugin.collection.given_data import data_of
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.contributions import Contributions, Data
from clip_lens_plugin.decomposition.running.runs import decompose_images
from clip_lens_plugin.model.inputs.given import given_image, is_images
from clip_lens_plugin.numerics.noise import least_variance
from clip_lens_plugin.retrieval.found import NearestImages
from clip_lens_plugin.retrieval.reading import Best, checked_noise, map_together, together, written
from clip_lens_plugin.texts.embedding import embed_texts

Heads = tuple[tuple[int, int], ...]


@torch.no_grad()
def nearest_images(
    data: Any,
    query: Any,
    layer: int | None = None,
    head: int | None = None,
    k: int = 4,
    *,
    heads: Iterable[tuple[int, int]] | int | None = None,
    remove_mean: bool = True,
) -> NearestImages:
    """The images to which a head, or several, writes most nearly the same as to one image (figure 1).

    Similarity is the cosine of the angle between c[l, h] of both in the joint space; of several heads, between the sums
    of what they write. By default the mean over ``data`` is removed from both first: most of what a head writes is the
    same for all images, so otherwise every similarity is close to 1 and differences between images hardly count.
    The paper compares contributions as they are; ``remove_mean=False`` does so.

    Args:
        data: the images to search: contributions, a store, or the path of one.
        query: one image: its path, a picture, or preprocessed pixels [3, height, width]; its contributions by the same
            model; or a row of ``data``, which is then left out; negative ones count from the end.
        layer, head: which head.
        k: images to find; all of them if there are fewer.
        heads: in the place of ``layer`` and ``head``: (layer, head) pairs, or a layer for all heads of it.
        remove_mean: see above.

    Returns:
        place (from 1), row, similarity (from −1 to 1; 0 for an image to which the heads write nothing); and name, where
        the images have names.

    Raises:
        ValueError: if ``k`` is no whole number of at least 1; if no head is chosen, or in both ways; if there is no
            image; if the query is neither a row nor one image, or is of a model of another shape, or the heads write
            nothing (but the mean) to it; if contributions are not finite, have the constants shared out over them, or
            are of a hook on ``hook_result``; if a store keeps no rows.
        IndexError: if there is no such head or row.
    """
    data = data_of(data)
    noise = checked_noise(data)
    k, chosen = checked_number("k", k), _chosen(data, layer, head, heads)
    row, asked = _asked(data, query)
    to_frame, _ = equations.orthonormal_frame(map_together(data.readout, chosen))
    own = together(asked, chosen)
    mean = _mean(data, chosen).to(own) if remove_mean else torch.zeros_like(own[0])
    shift = equations.contribution(mean, to_frame)
    asked_for = equations.contribution(own - mean, to_frame)[0]
    length = asked_for.square().sum()
    if not length > least_variance(float((asked_for + shift).square().sum()), asked.noise):
        raise ValueError(_nothing_written(chosen, remove_mean))
    best = Best.none(1)
    for rows, y in written(data, chosen):
        x = equations.contribution(y.flatten(1) - mean, to_frame)
        lengths = x.square().sum(1)
        writes = lengths > least_variance(1.0, noise) * (x + shift).square().sum(1)
        products = equations.towards(x, asked_for[None])[:, 0]
        similarity = torch.where(writes, products / (length * lengths).sqrt(), 0.0).clamp(-1, 1)
        numbers = torch.arange(rows.start, rows.stop, device="cpu")
        others = numbers >= 0 if row is None else numbers != row
        best = best.with_more(similarity.cpu()[others, None], numbers[others], k)
    found = _table(data, best, "similarity", chosen)
    found.query_row, found.query = row, None if asked.photographs is None else asked.photographs[0]
    return found


@torch.no_grad()
def nearest_to_text(
    data: Any,
    text: str,
    k: int = 4,
    *,
    heads: Iterable[tuple[int, int]] | int | None = None,
    text_embeddings: Float[Tensor, "t e"] | None = None,
) -> NearestImages:
    """The images to whose cosine with a text the chosen heads add most, compared with their mean over all images.

    The score is Σ (c[b, l, h] − E[c[l, h]]) · e_t over the chosen heads: of one head, that of
    :func:`~clip_lens_plugin.retrieval.extreme_images`.

    Args:
        data: the images to search: contributions, a store, or the path of one.
        text: that is searched for.
        k: images to find; all of them if there are fewer.
        heads: (layer, head) pairs, or a layer for all heads of it; all heads if not given.
        text_embeddings: the text's unit embedding, to use instead of the model's own.

    Returns:
        place (from 1), row, score (in cosine units); and name, where the images have names.

    Raises:
        ValueError: if ``k`` is no whole number of at least 1; if there is no image or no head, or the text is none; if
            what the heads add is the same for all images, but for rounding; if contributions are not finite, have the
            constants shared out over them, or are of a hook on ``hook_result``; if a store keeps no rows.
        IndexError: if there is no such head.
    """
    data = data_of(data)
    noise, cfg = checked_noise(data), data.readout.model.cfg
    (text,) = checked_texts("nearest_to_text", [text])
    every = [(l, h) for l in range(cfg.n_layers) for h in range(cfg.n_heads)]
    k, chosen = checked_number("k", k), tuple(cfg.checked_heads(every if heads is None else heads))
    if text_embeddings is None:
        text_embeddings = embed_texts(data.readout.image_model, [text])
    elif len(text_embeddings) != 1:
        raise ValueError(f"One text needs one embedding, got {len(text_embeddings)}.")
    columns = data.readout.checked_texts(text_embeddings).double()
    directions = equations.towards(map_together(data.readout, chosen), columns)
    mean = equations.contribution(_mean(data, chosen).to(directions)[None], directions)[0]
    best, away, size = Best.none(1), 0.0, 0.0
    for rows, y in written(data, chosen):
        scores = equations.contribution(y.flatten(1), directions) - mean
        away, size = away + float(scores.square().sum()), size + float((y.flatten(1) * directions[:, 0]).square().sum())
        best = best.with_more(scores.cpu(), torch.arange(rows.start, rows.stop, device="cpu"), k)
    if not away > least_variance(size, noise):
        raise ValueError(
            f"What the heads add to the cosine with {text!r:.80} is the same for all images: none is near."
        )
    found = _table(data, best, "score", chosen)
    found.text = text
    return found


def _chosen(data: Data, layer: Any, head: Any, heads: Any) -> Heads:
    """The heads of either way to choose them."""
    cfg = data.readout.model.cfg
    if heads is None and layer is not None and head is not None:
        return (cfg.checked_head(layer, head),)
    if heads is None or layer is not None or head is not None:
        raise ValueError(
            "Choose one head as layer=5, head=3, each a whole number, or several as heads=[(5, 3), (4, 6)], and not in "
            "both ways."
        )
    return tuple(cfg.checked_heads(heads))


def _asked(data: Data, query: Any) -> tuple[int | None, Contributions]:
    """The row of the data, None if it is another image; and the one image asked about, in cosine units."""
    if is_images(query):
        model = data.readout.image_model
        query = decompose_images(model, given_image(model, query))
    if not isinstance(query, Contributions):
        row = checked_index("row", query, len(data))
        return row, rows_of(data, torch.tensor([row], device="cpu"))
    readout = data.readout
    cfg = readout.model.cfg
    expected = (1, cfg.n_layers, cfg.n_heads, readout.n_coordinates(query.constants))
    if tuple(query.head_coordinates.shape) != expected:
        raise ValueError(
            f"The query's heads have shape {list(query.head_coordinates.shape)} (images, layers, heads, coordinates), "
            f"expected {list(expected)}. Give the contributions of one image of the same model."
        )
    return None, query.normalized()


def _mean(data: Data, heads: Heads) -> Float[Tensor, " mk"]:
    """Of the coordinates of heads, end to end."""
    means = means_of(data).coordinates
    return torch.cat([means[head] for head in heads])


def _nothing_written(heads: Heads, remove_mean: bool) -> str:
    first, *others = heads
    if others:
        named, mean = "The chosen heads together write", " but their mean"
    else:
        named, mean = f"Layer {first[0]}, head {first[1]} writes", " but its mean"
    return f"{named} nothing{mean if remove_mean else ''} to the query, so nothing is like it."


def _table(data: Data, best: Best, column: str, heads: Heads) -> NearestImages:
    places = range(1, len(best.rows) + 1)
    found = NearestImages({"place": places, "row": best.rows[:, 0].tolist(), column: best.scores[:, 0].tolist()})
    found.know(data)
    found.chosen_heads = heads
    return found
