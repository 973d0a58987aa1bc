"""Many pursuits at once pick what each picks by itself."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin.describe.frames import HeadFrame
from clip_lens_plugin.roles.pursuit import PrincipalFrames, pursued_each


def frames_of(*ranks: int) -> list[HeadFrame]:
    g = torch.Generator().manual_seed(5)
    found = []
    for rank in ranks:
        axes = torch.linalg.qr(torch.randn(20, rank, generator=g, dtype=torch.float64)).Q
        spread = torch.randn(rank, rank, generator=g, dtype=torch.float64)
        found.append(HeadFrame(axes, torch.zeros(rank).double(), spread @ spread.T, 1e-12))
    return found


@pytest.mark.parametrize(("dtype", "same"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_each_picks_what_it_picks_alone(dtype, same):
    frames = frames_of(6, 9, 4)
    texts = torch.nn.functional.normalize(torch.randn(50, 20, generator=torch.Generator().manual_seed(1)).double())
    together = PrincipalFrames.of(frames)
    found = pursued_each((texts @ together.axes).to(dtype), together, 4)
    for at, frame in enumerate(frames):
        alone = frame.picked(texts, 4)
        assert found.indices[at].tolist() == alone.indices
        explained = found.gained[at].cumsum(0) / together.total[at]
        assert explained.tolist() == pytest.approx(alone.explained, abs=same)


def test_it_ends_where_texts_are_used_up_or_nothing_varies():
    wide, narrow, still = frames_of(6, 2, 5)
    still = HeadFrame(still.axes, still.mean, still.covariance * 0, 1e-12)
    two = torch.randn(2, 20, generator=torch.Generator().manual_seed(2)).double()
    texts = torch.nn.functional.normalize(torch.cat([two, two @ torch.eye(20).double(), two[:1] + two[1:]]))
    together = PrincipalFrames.of([wide, narrow, still])
    for dtype in (torch.float64, torch.float32):
        found = pursued_each((texts @ together.axes).to(dtype), together, 4)
        for row, frame in zip(found.indices.tolist(), (wide, narrow, still), strict=True):
            alone = frame.picked(texts, 4).indices
            assert [index for index in row if index >= 0] == alone
            assert len(alone) == (0 if frame is still else 2)
        assert float(found.gained[2].sum()) == 0.0


def test_directions_of_texts_that_are_almost_the_same_are_orthonormal():
    """Then the variances along as many as there are coordinates add up to all of it."""
    together = PrincipalFrames.of(frames_of(16))
    g = torch.Generator().manual_seed(3)
    texts = torch.ones(200, 20).double() + 1e-3 * torch.randn(200, 20, generator=g, dtype=torch.float64)
    found = pursued_each((texts @ together.axes).double(), together, 16)
    assert int((found.indices >= 0).sum()) == 16
    torch.testing.assert_close(found.gained.sum(1), together.total, rtol=1e-13, atol=0)
