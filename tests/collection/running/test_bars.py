"""What is seen while a store is made: moves with each batch, a count of what was there, and when nothing is left."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from clip_lens_plugin.collection.running import collecting
from tests.collection.conftest import BrokenScenes, collect_rows, scenes


@pytest.fixture
def moves(monkeypatch):
    """What each bar is given: the total, what was done before, and each move."""
    bars_shown = []

    @contextmanager
    def bar(visible, total, done):
        bars_shown.append([total, done])
        yield bars_shown[-1].append

    monkeypatch.setattr(collecting, "samples_bar", bar)
    return bars_shown


def test_the_bar_moves_with_each_batch_and_begins_where_it_was_left(clip, tmp_path, moves, capfd):
    with pytest.raises(KeyboardInterrupt) as first:
        collect_rows(clip, BrokenScenes(11, {5: KeyboardInterrupt()}), tmp_path / "store")
    assert first.value.__notes__ == ["nothing is kept yet of 4 samples that had run: they are kept 8 at a time"]
    with pytest.raises(KeyboardInterrupt):
        collect_rows(clip, BrokenScenes(11, {9: KeyboardInterrupt()}), tmp_path / "store", resume=True)
    collect_rows(clip, scenes(11), tmp_path / "store", resume=True)
    assert moves == [[11, 0, 4], [11, 0, 4, 4], [11, 8, 3]]
    capfd.readouterr()
    collect_rows(clip, scenes(11), tmp_path / "store", resume=True, progress=True)
    assert capfd.readouterr().err == "all 11 were there already\n"
