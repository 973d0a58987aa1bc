"""Chance is what the paper's own algorithm gives on random directions, and no head is clear by chance."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.describe.spans import text_span
from clip_lens_plugin.report.clearest import COLUMNS, N_DRAWS, N_TEXTS, clarity
from clip_lens_plugin.statistics.moments import Moments
from tests.conftest import random_clip
from tests.support.reference import plain_text_span

N = 400
HEADS = [(2, h) for h in range(4)]


@pytest.fixture(scope="module")
def clip() -> HookedCLIP:
    return HookedCLIP.from_open_clip(random_clip())


@pytest.fixture(scope="module")
def texts(clip):
    drawn = torch.randn(6, clip.cfg.d_embed, generator=torch.Generator().manual_seed(1)).double()
    return drawn / drawn.norm(dim=-1, keepdim=True)


@pytest.fixture(scope="module")
def planted(clip, texts) -> torch.Tensor:
    """Coordinates of N images [n, h, k] in the last layer, their mean zero.

    Head 0 varies along three texts, and a little beyond; head 1 in all directions alike; head 2 along one direction
    alone; head 3 as head 0, but hardly at all.
    """
    readout, generator = Readout.of(clip), torch.Generator().manual_seed(2)
    y = torch.randn(N, 4, readout.n_coordinates("separate"), generator=generator).double()
    for head, scale in ((0, 1.0), (3, 1e-3)):
        towards = texts[:3] @ torch.linalg.pinv(readout.head_map(2, head).double())
        y[:, head] = scale * (torch.randn(N, 3, generator=generator).double() @ towards + 0.05 * y[:, head])
    y[:, 2] = y[:, 2, :1] * texts[3] @ torch.linalg.pinv(readout.head_map(2, 2).double())
    return y - y.mean(0)


@pytest.fixture(scope="module")
def table(clip, texts, planted):
    sum_y = torch.zeros(clip.cfg.n_layers, 4, planted.shape[2]).double()
    moments = Moments(N, sum_y, torch.einsum("nhk,nhj->hkj", planted, planted)[None], "cosine", layers=(2,))
    names = [f"text {i}" for i in range(len(texts))]
    spans = text_span(clip, moments, names, 5, HEADS, texts)
    return clarity(clip, moments, spans, len(texts))


def test_only_what_texts_describe_better_than_chance_is_clear(table):
    assert list(table.columns) == COLUMNS
    found = table.set_index("head")
    assert (found.loc[0, "explained"], found.loc[3, "explained"]) == (pytest.approx(1, abs=0.05),) * 2
    assert found.loc[0, "chance"] < 0.8
    # All directions are as good for a head that writes along one, and its text explains all of it.
    assert found.loc[2, ["explained", "chance"]].tolist() == pytest.approx([1, 1])
    assert found["varies"].loc[[0, 3]].tolist() == [True, False]
    assert not found.loc[[2, 3], "clear"].any()
    assert table.iloc[0]["head"] == 0
    assert (found["chance_most"] >= found["chance"]).all()


def test_chance_is_the_plain_algorithm_on_random_directions(clip, table, planted, texts):
    readout = Readout.of(clip)
    for head in (0, 1):
        contributions = planted[:, head] @ readout.head_map(2, head).double()
        explained = []
        for draw in range(N_DRAWS):
            seeded = torch.Generator().manual_seed(draw)
            directions = torch.randn(len(texts), clip.cfg.d_embed, generator=seeded, dtype=torch.float64)
            _, shares = plain_text_span(contributions, directions / directions.norm(dim=-1, keepdim=True), N_TEXTS)
            explained.append(shares[-1])
        row = table.set_index("head").loc[head]
        assert row["chance"] == pytest.approx(sum(explained) / N_DRAWS, abs=1e-9)
        assert row["chance_most"] == pytest.approx(max(explained), abs=1e-9)


def test_heads_without_texts_are_left_out(clip, texts):
    sum_y = torch.zeros(clip.cfg.n_layers, 4, 12).double()
    nothing = Moments(N, sum_y, torch.zeros(1, 4, 12, 12).double(), "cosine", layers=(2,))
    with pytest.warns(UserWarning, match="the same for all"):
        spans = text_span(clip, nothing, [str(i) for i in range(len(texts))], 5, HEADS, texts)
    assert clarity(clip, nothing, spans, len(texts)).empty
