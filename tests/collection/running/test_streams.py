"""A collected stream: rows in order of arrival under their own keys; however it ends, resumed as if it had not."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from zarr.storage import LocalStore

from clip_lens_plugin import Moments, text_span
from clip_lens_plugin.collection import ContributionStore
from clip_lens_plugin.collection.errors import CollectionWarning
from clip_lens_plugin.collection.place import Place
from clip_lens_plugin.collection.plan import CollectionMismatchError, Plan
from clip_lens_plugin.collection.processes.ranks import Ranks
from clip_lens_plugin.collection.rows import make_arrays
from clip_lens_plugin.collection.running.finish import finish
from clip_lens_plugin.collection.running.streams import run_stream
from clip_lens_plugin.datasets import HuggingFaceStream, ShardSource
from clip_lens_plugin.files.given import UnreachableError
from tests.collection.conftest import BLOCK, collect_rows, files_of
from tests.datasets.streams.written import streamed, write_parquet, write_shards

pytestmark = pytest.mark.slow

datasets = pytest.importorskip("datasets")

N = 21
UNREADABLE = (5, 17)


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return write_shards(tmp_path_factory.mktemp("streams") / "w", [6, 9, 6], UNREADABLE)


@pytest.fixture(scope="module")
def stream(shards):
    """Opened once; collecting does not move it."""
    return streamed("webdataset", shards)


WRITES = []
"""Keys that an undisturbed store writes, in order."""


@pytest.fixture(scope="module")
def undisturbed(clip, stream, tmp_path_factory) -> Path:
    write = LocalStore.set

    async def noted(store, key, value):
        WRITES.append(key)
        await write(store, key, value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clip_lens_plugin.collection.plan.BLOCK_IMAGES", BLOCK)
        patch.setattr("clip_lens_plugin.collection.running.progress.SECONDS", 0.0)
        patch.setattr("clip_lens_plugin.collection.running.progress.WRITING", 1e9)
        patch.setattr(LocalStore, "set", noted)
        folder = tmp_path_factory.mktemp("undisturbed")
        collect_rows(clip, stream, folder)
        return folder


@pytest.fixture(autouse=True)
def kept_after_each_block(monkeypatch):
    monkeypatch.setattr("clip_lens_plugin.collection.running.progress.SECONDS", 0.0)
    monkeypatch.setattr("clip_lens_plugin.collection.running.progress.WRITING", 1e9)


class Ending(HuggingFaceStream):
    """A stream that raises when a sample comes, or when it is opened."""

    def __init__(self, dataset, error: BaseException, number: int, where: str) -> None:
        super().__init__(dataset)
        self.error, self.number, self.where = error, number, where

    def arrivals(self, state=None, first=0):
        for arrival in super().arrivals(state, first):
            if self.where == "coming" and arrival.number == self.number:
                raise self.error
            yield arrival

    def read(self, arrival):
        if self.where == "opened" and arrival.number == self.number:
            raise self.error
        return super().read(arrival)


def test_rows_are_those_of_the_same_shards_by_position(clip, shards, undisturbed, tmp_path):
    store = ContributionStore.open(undisturbed, clip)
    by_position = collect_rows(clip, ShardSource(shards), tmp_path)
    read = [i for i in range(N) if i not in UNREADABLE]
    assert store.names == tuple(f"s{i:03d}" for i in read)
    assert store.plan.n_samples == N
    assert torch.equal(store.labels, by_position.labels)
    assert [each.name for each in store.skipped] == ["s005", "s017"]
    assert np.array_equal(store.positions, by_position.positions)
    for name in ("embedding", "head_coordinates", "mlps"):
        assert torch.equal(getattr(store[:], name), getattr(by_position[:], name))
    for name in ("moments.safetensors", "part_moments.safetensors"):
        assert files_of(undisturbed)[name] == files_of(tmp_path)[name]
    assert store.verify().is_whole


def test_moments_of_neurons_are_those_of_the_same_shards_by_position(clip, stream, shards, tmp_path):
    arrived = collect_rows(clip, stream, tmp_path / "stream", neurons={4: [7, 9]})
    by_position = collect_rows(clip, ShardSource(shards), tmp_path / "shards", neurons={4: [7, 9]})
    found, expected = (store.neuron_moments(4).to_tensors() for store in (arrived, by_position))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert set(found["positions"].flatten().tolist()) <= set(arrived.positions.tolist())


def test_what_takes_a_store_takes_that_of_a_stream(clip, undisturbed):
    store = ContributionStore.open(undisturbed, clip)
    rows = sum(len(store[block]) for block in store.blocks())
    assert rows == len(store) == N - len(UNREADABLE)
    assert store.completeness_error < 1e-5
    found = text_span(clip, store.moments, ["red", "a circle", "blue"], n_directions=2)
    alone = text_span(clip, Moments.from_contributions(store[:].normalized()), ["red", "a circle", "blue"], 2)
    assert found.to_dataframe()["text"].tolist() == alone.to_dataframe()["text"].tolist()


@pytest.mark.parametrize(("where", "number"), [("coming", 8), ("opened", 20)])
def test_interrupted_and_resumed(clip, stream, tmp_path, undisturbed, where, number):
    with pytest.raises(KeyboardInterrupt) as raised:
        collect_rows(clip, Ending(stream, KeyboardInterrupt(), number, where), tmp_path)
    assert raised.value.__notes__ == [f"{number // BLOCK * BLOCK} samples are kept"]
    collect_rows(clip, stream, tmp_path, resume=True)
    assert files_of(tmp_path) == files_of(undisturbed)


def test_what_was_kept_is_not_opened_again(clip, stream, tmp_path, undisturbed):
    with pytest.raises(KeyboardInterrupt):
        collect_rows(clip, Ending(stream, KeyboardInterrupt(), 17, "opened"), tmp_path)
    state = _progress(tmp_path)["stream"]
    assert state["arrived"] == 16
    again = Ending(stream, KeyboardInterrupt(), 15, "opened")
    collect_rows(clip, again, tmp_path, resume=True)
    assert files_of(tmp_path) == files_of(undisturbed)


def _progress(folder: Path) -> dict:
    from safetensors.numpy import load_file

    return json.loads(load_file(folder / "progress" / "0.safetensors")["about"].tobytes())


@pytest.mark.parametrize("key", ["progress/0.safetensors", "label/zarr.json", "clip_lens_description.json"])
def test_stopped_dead_before_the_last_write_of_a_file(clip, stream, tmp_path, undisturbed, monkeypatch, key):
    left = [len(WRITES) - 1 - WRITES[::-1].index(key)]
    write = LocalStore.set

    async def dead(store, key, value):
        if left[0] == 0:
            raise RuntimeError("killed")
        left[0] -= 1
        await write(store, key, value)

    monkeypatch.setattr(LocalStore, "set", dead)
    with pytest.raises(RuntimeError, match="killed"):
        collect_rows(clip, stream, tmp_path)
    monkeypatch.setattr(LocalStore, "set", write)
    collect_rows(clip, stream, tmp_path, resume=True)
    assert files_of(tmp_path) == files_of(undisturbed)


def test_a_stream_that_breaks_stops_and_keeps_what_came(clip, stream, tmp_path, undisturbed):
    """Also what was read ahead of the break, by processes that open it."""
    gone = OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
    with pytest.raises(UnreachableError, match=r"No route to host.*go on with resume") as raised:
        collect_rows(clip, Ending(stream, gone, 18, "coming"), tmp_path, workers=2)
    assert raised.value.__notes__ == ["16 samples are kept"]
    assert "\n" not in str(raised.value)
    collect_rows(clip, stream, tmp_path, resume=True, workers=2)
    assert files_of(tmp_path) == files_of(undisturbed)


def test_a_file_that_vanishes_stops_and_the_rest_is_not_skipped(clip, tmp_path):
    folder = write_parquet(tmp_path / "p", [5, 2])
    given = streamed("parquet", folder)
    (folder / "part-1.parquet").rename(folder / "away")
    with pytest.raises(FileNotFoundError, match=r"part-1"):
        collect_rows(clip, given, tmp_path / "out", what="moments")
    (folder / "away").rename(folder / "part-1.parquet")
    taken = HuggingFaceStream(given)
    (folder / "part-1.parquet").rename(folder / "away")
    with pytest.raises(UnreachableError, match=r"part-1"):
        collect_rows(clip, taken, tmp_path / "out", what="moments")
    (folder / "away").rename(folder / "part-1.parquet")
    store = collect_rows(clip, given, tmp_path / "out", what="moments", resume=True)
    assert (len(store), store.skipped) == (7, ())


def test_other_streams_and_numbers_of_processes_are_not_gone_on_with(clip, stream, tmp_path, shards):
    with pytest.raises(KeyboardInterrupt):
        collect_rows(clip, Ending(stream, KeyboardInterrupt(), 0, "opened"), tmp_path)
    with pytest.raises(CollectionMismatchError, match="dataset_fingerprint"):
        collect_rows(clip, stream.skip(1), tmp_path, resume=True)
    with pytest.raises(CollectionMismatchError, match="n_samples"):
        collect_rows(clip, ShardSource(shards), tmp_path, resume=True)
    plan = Plan.of(clip, HuggingFaceStream(stream), "contributions", "float16", 4, None, ranks=1)
    asked = Plan.of(clip, HuggingFaceStream(stream), "contributions", "float16", 4, None, ranks=3)
    with pytest.raises(CollectionMismatchError, match=r"ranks was 1, now 3.*by as many processes.* 1\."):
        plan.refuse_other_plan(asked, "here")


@pytest.mark.parametrize("damaged", ["mlps/c/0/0/0", "progress/0.safetensors"])
def test_what_is_damaged_is_run_again(clip, stream, tmp_path, undisturbed, damaged):
    with pytest.raises(KeyboardInterrupt):
        collect_rows(clip, Ending(stream, KeyboardInterrupt(), 17, "opened"), tmp_path)
    content = bytearray((tmp_path / damaged).read_bytes())
    content[len(content) // 2] ^= 8
    (tmp_path / damaged).write_bytes(content)
    with pytest.warns(CollectionWarning, match="damaged"):
        collect_rows(clip, stream, tmp_path, resume=True)
    assert files_of(tmp_path) == files_of(undisturbed)


def test_a_finished_one_is_opened(clip, stream, tmp_path):
    first = collect_rows(clip, stream.take(8), tmp_path / "whole block")
    again = collect_rows(clip, stream.take(8), tmp_path / "whole block", resume=True)
    assert (len(first), again.names) == (7, first.names)
    moments = collect_rows(clip, stream.take(3), tmp_path / "moments", what="moments")
    assert (len(moments), moments.has_rows) == (3, False)


def test_a_stream_of_nothing_says_so(clip, stream, tmp_path):
    with pytest.raises(ValueError, match="holds no sample"):
        collect_rows(clip, stream.take(0), tmp_path / "none")
    with pytest.raises(ValueError, match="None of the 1 sample could be read; the first, s005"):
        collect_rows(clip, stream.skip(5).take(1), tmp_path / "unreadable")


def test_parts_of_several_processes_are_put_together(clip, stream, tmp_path, undisturbed):
    world, alone, whole = 2, ContributionStore.open(undisturbed, clip), HuggingFaceStream(stream)
    plan = Plan.of(clip, whole, "contributions", "float16", 4, None, ranks=world)
    place = Place(tmp_path)
    place.create("clip_lens_plan.json", plan.to_bytes())
    make_arrays(place, plan)
    every = [
        run_stream(clip, whole.split(rank, world), place, plan, Ranks(rank, world), 0, strict=False, progress=False)[0]
        for rank in reversed(range(world))
    ][::-1]
    for other in every[1:]:
        every[0].take_sums(other)
    finish(place, plan, every, clip.verify())
    store = ContributionStore.open(tmp_path, clip)
    assert store.verify().is_whole
    assert sorted(store.names) == sorted(alone.names)
    assert sorted(each.name for each in store.skipped) == ["s005", "s017"]
    order = [store.names.index(name) for name in alone.names]
    assert torch.equal(store[order].head_coordinates, alone[:].head_coordinates)
    assert torch.equal(store.labels[order], alone.labels)
    torch.testing.assert_close(store.moments.covariance, alone.moments.covariance)
    assert sum(map(len, store.blocks())) == len(store)
