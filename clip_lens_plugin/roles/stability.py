"""How far the picked texts stay the same if the images had been others of the same kind: a bootstrap of their parts."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.describe.frames import HeadFrame
from clip_lens_plugin.roles.pursuit import PrincipalFrames, pursued_each
from clip_lens_plugin.statistics.moments import Moments

MOST_NUMBERS = 2**20
"""Of the texts of all problems that are solved at once."""


def jaccard(one: Collection[int], other: Collection[int]) -> float:
    """``|A ∩ B| / |A ∪ B|``: 1 for the same texts, 0 for none in common."""
    together = set(one) | set(other)
    return len(set(one) & set(other)) / len(together) if together else 1.0


def stability(
    frame: HeadFrame,
    head_map: Float[Tensor, "k e"],
    parts: Sequence[Moments],
    head: tuple[int, int],
    texts: Float[Tensor, "t e"],
    indices: Sequence[int],
    drawn: Float[Tensor, "s p"],
    noise: float,
) -> float:
    """The mean Jaccard index of a head's picks and those on each bootstrap.

    Args:
        frame: of the head, on all images.
        head_map: of the head.
        parts: of the images.
        head: layer and head.
        texts: unit embeddings, float64.
        indices: of the picks on all images.
        drawn: how often each part is drawn in each, see
            :func:`~clip_lens_plugin.statistics.bootstrap.bootstrap_counts`.
        noise: see :func:`~clip_lens_plugin.describe.frames.noise_of`.
    """
    frames = bootstrapped_frames(frame, head_map, parts, head, drawn, noise)
    inside = equations.contribution(texts, frame.axes)
    step = max(1, MOST_NUMBERS // max(1, inside.numel()))
    found = []
    for start in range(0, len(frames), step):
        some = PrincipalFrames.of(frames[start : start + step])
        picked = pursued_each(inside @ some.axes, some, len(indices))
        found += picked.indices.tolist()
    return sum(jaccard(indices, [index for index in each if index >= 0]) for each in found) / len(found)


def bootstrapped_frames(
    frame: HeadFrame,
    head_map: Float[Tensor, "k e"],
    parts: Sequence[Moments],
    head: tuple[int, int],
    drawn: Float[Tensor, "s p"],
    noise: float,
) -> list[HeadFrame]:
    """The head's frame on each bootstrap, its axes in the r coordinates of the frame of all images."""
    layer, number = head
    to_frame = equations.contribution(head_map, frame.axes)  # As x = y F with F = M Qᵀ.
    sizes = torch.tensor([part.n for part in parts], device="cpu").to(drawn)
    means = torch.stack([equations.contribution(part.mean[layer, number].to(to_frame), to_frame) for part in parts])
    seconds = torch.stack(
        [equations.moment_in(to_frame, part.second_moment(layer, number).to(to_frame)) for part in parts]
    )
    weights = (drawn * sizes / (drawn @ sizes)[:, None]).to(to_frame)
    same = torch.eye(frame.rank).to(to_frame)
    mean, second = weights @ means, torch.einsum("sp,pij->sij", weights, seconds)
    return [HeadFrame.spanned(same, mean[at], second[at], noise) for at in range(len(drawn))]
