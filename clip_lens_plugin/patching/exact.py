"""Embeddings of the corrupted run with one head's or neuron's activation from the clean run, one after the other.

TransformerLens makes each by a run of its own. Up to the patched layer all of them are the same run, so it is made
once, and several patched streams go on from there as one batch. With hooks on the model every one is a whole run, as
in TransformerLens: a hook may tell a run's inputs apart, or keep count of runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.model.hooks.interventions import active_hooks
from clip_lens_plugin.model.protocol import Begun, Tower
from clip_lens_plugin.patching.kinds import Kind
from clip_lens_plugin.patching.pairs import Pairs

Wanted = Mapping[int, Sequence[int]]
"""Layer to the numbers of the heads or neurons that are patched in it, one at a time."""


@dataclass(frozen=True)
class Patched:
    """Some patched runs of s pairs.

    Attributes:
        layer: that is patched.
        numbers: of the heads or neurons.
        embeddings: of each of them [u, s, e].
    """

    layer: int
    numbers: Sequence[int]
    embeddings: Float[Tensor, "u s e"]


def patched_runs(model: Tower, pairs: Pairs, kind: Kind, wanted: Wanted, batch_size: int) -> Iterator[Patched]:
    """All that is wanted, for some pairs after the other in their order, in runs of at most ``batch_size`` rows."""
    hooked = bool(active_hooks(model))
    for rows in pairs.parts(batch_size):
        corrupted, clean = pairs.rows(rows)
        if hooked:
            yield from _whole_runs(model, corrupted, clean, kind, wanted)
        else:
            together = batch_size // len(corrupted)
            yield from _from_the_layer(model, corrupted, clean, kind, wanted, together)


def count_runs(model: Tower, pairs: Pairs, wanted: Wanted, batch_size: int) -> int:
    """How many times :func:`patched_runs` gives something."""
    sizes = [rows.stop - rows.start for rows in pairs.parts(batch_size)]
    together = [1 if active_hooks(model) else batch_size // size for size in sizes]
    return sum(-(-len(numbers) // each) for each in together for numbers in wanted.values())


def _whole_runs(model: Tower, corrupted: Tensor, clean: Tensor, kind: Kind, wanted: Wanted) -> Iterator[Patched]:
    for layer, numbers in wanted.items():
        name = kind.point(layer)
        donor = model.run_with_cache(clean, names_filter=name)[1][name]
        for number in numbers:

            def patch(activation: Tensor, hook: object, number: int = number, donor: Tensor = donor) -> Tensor:
                return kind.put(activation, donor, number)

            embedding = model.run_with_hooks(corrupted, fwd_hooks=[(name, patch)])
            yield Patched(layer, [number], embedding[None])


def _from_the_layer(
    model: Tower, corrupted: Tensor, clean: Tensor, kind: Kind, wanted: Wanted, together: int
) -> Iterator[Patched]:
    own, donor = model.begin(corrupted), model.begin(clean)
    stream, donor_stream = own.stream, donor.stream
    for layer in range(max(wanted) + 1):
        mid, activation, stream = _recorded(model, kind, layer, stream, own.mask)
        _, donated, donor_stream = _recorded(model, kind, layer, donor_stream, donor.mask)
        mid, activation, donated = (_still_read(model, layer, each) for each in (mid, activation, donated))
        numbers = wanted.get(layer, ())
        for start in range(0, len(numbers), together):
            chosen = numbers[start : start + together]
            patched = kind.after_layer(model, layer, mid, donated, activation, chosen)
            embedding = _finished(model, layer + 1, patched, own, len(chosen))
            yield Patched(layer, chosen, embedding.unflatten(0, (len(chosen), -1)))


def _recorded(
    model: Tower, kind: Kind, layer: int, stream: Float[Tensor, "b n d"], mask: Tensor | None
) -> tuple[Float[Tensor, "b n d"], Tensor, Float[Tensor, "b n d"]]:
    """The stream in the middle of a layer, the activation that is patched, and the stream after it."""
    name, block = kind.point(layer), model.blocks[layer]
    seen: dict[str, Tensor] = {}
    with model.hooks(fwd_hooks=[(name, lambda activation, hook: seen.update({name: activation}))]):
        mid = block.through_attention(stream, mask)
        after = block.after_attention(mid)
    return mid, seen[name], after


def _finished(
    model: Tower, layer: int, stream: Float[Tensor, "b_u n d"], begun: Begun, copies: int
) -> Float[Tensor, "b_u e"]:
    """The embeddings of streams that enter a layer.

    Args:
        begun: the run of the batch that stands in the stream so many times over.
    """
    mask = begun.mask
    if mask is not None and len(mask) > 1:
        mask = mask.repeat(copies, 1, 1, 1)
    for at in range(layer, len(model.blocks)):
        mid = model.blocks[at].through_attention(stream, mask)
        stream = model.blocks[at].after_attention(_still_read(model, at, mid))
    read = {name: each.repeat(copies, *(1 for _ in each.shape[1:])) for name, each in begun.read.items()}
    return model.finish(stream, read)


def _still_read(model: Tower, layer: int, activation: Tensor) -> Tensor:
    """The tokens of an activation after a layer's attention that can reach the embedding.

    After the last attention no token reads another, so of a class token that is pooled alone the others are left out.
    """
    is_last = layer == len(model.blocks) - 1
    return activation[:, model.pooling.positions] if is_last and model.pooling.reads_class_token_alone else activation
