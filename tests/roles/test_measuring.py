"""What chance and other images give, against plain restatements on the images themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clip_lens_plugin import Moments, text_span
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.describe.frames import HeadFrame, noise_of
from clip_lens_plugin.roles import stability as stabilities
from clip_lens_plugin.roles.chance import explained_by_chance
from clip_lens_plugin.roles.null_pools import mirrored_pool, turned_pool
from clip_lens_plugin.roles.parts import summed
from clip_lens_plugin.statistics.bootstrap import bootstrap_counts
from clip_lens_plugin.statistics.chance import family_wise_p
from tests.conftest import random_images
from tests.roles.planted import random_model, random_pool
from tests.support.reference import plain_text_span

HEADS = [(0, 1), (2, 1), (2, 3)]


@pytest.fixture(scope="module")
def world():
    model = random_model()
    contributions = model.decompose(random_images(model, 40)).normalized()
    moments = Moments.from_contributions(contributions)
    frames = [HeadFrame.of(Readout.of(model), moments, *head) for head in HEADS]
    return model, contributions, moments, frames


@pytest.mark.parametrize("make", [turned_pool, mirrored_pool])
def test_chance_is_text_span_itself_on_each_turned_pool(world, make, monkeypatch):
    """On the images, in float64; heads in groups of one too."""
    _, contributions, _, frames = world
    texts = random_pool(1)[1]
    null, picks, done = make(texts), torch.tensor([2, 1, 2]), []
    found = explained_by_chance(null, frames, picks, 6, 11, done.append)
    assert done == [4, 6]
    generator, whole = torch.Generator().manual_seed(11), null.seen_by(torch.eye(24, dtype=torch.float64))
    drawn = [null.draw(generator) for _ in range(2)]
    pools = [each.double() for turns in drawn for each in whole.turned(turns, null.quarters(turns))]
    for row, turned in zip(found, pools[:6], strict=True):
        for head, n, share in zip(HEADS, picks.tolist(), row.tolist(), strict=True):
            _, plain = plain_text_span(contributions.heads[:, head[0], head[1]], turned, n)
            assert share == pytest.approx(plain[-1], abs=1e-4)
    monkeypatch.setattr("clip_lens_plugin.roles.chance.MOST_NUMBERS", 1)
    alone = explained_by_chance(null, frames, picks, 6, 11, lambda done: None)
    assert torch.allclose(alone, found, atol=1e-5)


@pytest.mark.parametrize("make", [turned_pool, mirrored_pool])
def test_random_pools_are_alarmed_as_rarely_as_said(world, make):
    """With 19 draws a family of heads is alarmed in one pool of twenty."""
    _, _, _, frames = world
    alarms, picks = 0, torch.tensor([2, 2, 2])
    for seed in range(30):
        texts = random_pool(seed)[1]
        observed = torch.tensor([frame.picked(texts, 2).explained[-1] for frame in frames], dtype=torch.float64)
        drawn = explained_by_chance(make(texts), frames, picks, 19, seed, lambda done: None)
        alarms += bool((family_wise_p(observed, drawn) <= 0.05).any())
    assert alarms <= 5  # 1.5 of 30 on the average.


def test_stability_is_that_of_text_span_on_images_that_are_drawn_again(world):
    model, contributions, moments, frames = world
    pool, texts = random_pool(1)
    rows = torch.arange(40).chunk(8)
    parts = [Moments.from_contributions(contributions.select(some)) for some in rows]
    assert torch.allclose(summed(parts).sum_yy, moments.sum_yy)
    drawn = torch.from_numpy(bootstrap_counts(8, 3, 5)).double()
    assert drawn.sum(1).tolist() == [8.0] * 5
    readout = Readout.of(model)
    for head, frame in zip(HEADS, frames, strict=True):
        picks = frame.picked(texts, 2).indices
        found = stabilities.stability(
            frame, readout.head_map(*head), parts, head, texts, picks, drawn, noise_of(readout, moments)
        )
        again = []
        for counts in drawn.long().tolist():
            some = torch.cat([rows[part] for part, n in enumerate(counts) for _ in range(n)])
            sample = Moments.from_contributions(contributions.select(some))
            theirs = set(text_span(model, sample, pool, 2, [head], texts)[head].indices)
            again.append(len(theirs & set(picks)) / len(theirs | set(picks)))
        assert found == pytest.approx(np.mean(again))


def test_few_images_leave_a_bootstrap_with_fewer_directions(world):
    """Six images: a bootstrap of them spans less than all of them, and texts are projected on that alone."""
    model, contributions, *_ = world
    few = contributions.select(torch.arange(6))
    parts = [Moments.from_contributions(few.select([row])) for row in range(6)]
    moments, texts = summed(parts), random_pool(2)[1]
    readout = Readout.of(model)
    frame = HeadFrame.of(readout, moments, 2, 1)
    drawn = torch.from_numpy(bootstrap_counts(6, 1, 4)).double()
    found = stabilities.bootstrapped_frames(
        frame, readout.head_map(2, 1), parts, (2, 1), drawn, noise_of(readout, moments)
    )
    for counts, each in zip(drawn.long().tolist(), found, strict=True):
        some = [row for row, n in enumerate(counts) for _ in range(n)]
        assert each.rank == len(set(some)) <= frame.rank == 6
        inside = each.picked(texts @ frame.axes, 1).indices
        plain, _ = plain_text_span(few.heads[some, 2, 1], texts, 1)
        assert inside == plain


def test_jaccard():
    assert stabilities.jaccard([1, 2, 3], {3, 2, 5}) == 0.5
    assert stabilities.jaccard([1], []) == 0.0
    assert stabilities.jaccard([], []) == 1.0
