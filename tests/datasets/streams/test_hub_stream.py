"""Hugging Face streams: every sample once, with its own key, from any state; nothing unpickled or half read."""

from __future__ import annotations

import contextlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import IterableDataset

from clip_lens_plugin.datasets import HuggingFaceStream
from clip_lens_plugin.datasets.choose import as_collected, as_source
from clip_lens_plugin.datasets.image_folder import UnreadableImageError
from clip_lens_plugin.datasets.streams.steps import refuse_inexact
from clip_lens_plugin.datasets.streams.stream import checked_state
from tests.datasets.streams.written import SEED, sample, streamed, write_parquet, write_shards, write_tar

datasets = pytest.importorskip("datasets")

N = 11
UNDECODED = datasets.Image(decode=False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("streams")
    return {
        "webdataset": write_shards(folder / "w", [4, 4, 3], broken=(5,)),
        "parquet": write_parquet(folder / "p", [4, 4, 3], broken=(5,)),
    }


@pytest.fixture(scope="module")
def opened(folders) -> dict:
    """Both streams, opened once; no test moves them."""
    return {kind: streamed(kind, folder) for kind, folder in folders.items()}


@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_samples_come_with_their_keys_labels_and_pictures(opened, kind):
    stream = as_collected(opened[kind])
    arrivals = list(stream.arrivals())
    assert [stream.name(each) for each in arrivals] == [f"s{i:03d}" for i in range(N)]
    assert [each.number for each in arrivals] == list(range(N))
    assert stream.classes == (None if kind == "webdataset" else ("red", "green", "blue"))
    for i, each in enumerate(arrivals):
        if i == 5:
            with pytest.raises(UnreadableImageError, match="not an image"):
                stream.read(each)
        else:
            read = stream.read(each)
            assert read.label == i % 3
            assert read.image.mode == "RGB"


def test_the_picture_is_that_of_the_file(opened):
    from clip_lens_plugin.scenes.dataset import ScenesDataset

    stream = HuggingFaceStream(opened["webdataset"])
    picture = stream.read(next(iter(stream.arrivals()))).image
    assert np.array_equal(np.asarray(picture), np.asarray(ScenesDataset(1, SEED, "background")[0][0].convert("RGB")))


def plain(stream):
    return stream


def undecoded(stream):
    return stream.cast_column("image" if "image" in stream.features else "png", UNDECODED)


STEPS = {
    "plain": plain,
    "cut": lambda stream: stream.skip(2).take(7),
    "repeated": lambda stream: stream.take(3).repeat(2),
    "part": lambda stream: stream.shard(2, 1),
    "joined": lambda stream: datasets.concatenate_datasets([stream, stream.skip(6)]),
    "filtered": lambda stream: undecoded(stream).filter(lambda key: key[-1] in "13579", input_columns=["__key__"]),
    "mapped": lambda stream: undecoded(stream).map(
        lambda row, i: {"__key__": f"{i}:{row['json']['number']}"},
        with_indices=True,
        features=undecoded(stream).features,
    ),
    "in batches": lambda stream: undecoded(stream).map(
        lambda rows: {"__key__": [2 * key for key in rows["__key__"]]},
        batched=True,
        batch_size=3,
        features=undecoded(stream).features,
    ),
}


@pytest.mark.parametrize("step", STEPS)
def test_what_comes_after_a_state_is_what_was_left(opened, step):
    made = STEPS[step](opened["webdataset"])
    stream = HuggingFaceStream(made)
    whole = list(stream.arrivals())
    assert len(whole) >= 3
    for n in (0, 1, len(whole) // 2, len(whole) - 1, len(whole)):
        begun = HuggingFaceStream(made)
        arrivals = begun.arrivals()
        first = [next(arrivals) for _ in range(n)]
        state = json.loads(json.dumps(begun.state())) if n else None
        assert first + list(HuggingFaceStream(made).arrivals(state, n)) == whole
    assert HuggingFaceStream(made).fingerprint() == stream.fingerprint()


def test_a_parquet_stream_goes_on_inside_a_group_of_rows(opened):
    stream = HuggingFaceStream(opened["parquet"])
    whole = list(stream.arrivals())
    for n in (2, 5, 10):
        arrivals = stream.arrivals()
        first = [next(arrivals) for _ in range(n)]
        assert first + list(stream.arrivals(stream.state(), n)) == whole


@pytest.mark.parametrize(("kind", "world"), [("webdataset", 2), ("webdataset", 3), ("parquet", 2)])
def test_parts_hold_every_sample_once(opened, kind, world):
    stream = HuggingFaceStream(opened[kind])
    parts = [[stream.name(each) for each in stream.split(rank, world).arrivals()] for rank in range(world)]
    assert sorted(name for part in parts for name in part) == [f"s{i:03d}" for i in range(N)]


def test_the_given_stream_is_not_moved(opened):
    given = opened["webdataset"]
    mine = iter(given)
    first = next(mine)["__key__"]
    list(HuggingFaceStream(given).arrivals())
    assert (first, next(mine)["__key__"]) == ("s000", "s001")
    assert next(iter(given))["__key__"] == "s000"


def test_without_a_key_the_number_of_arrival_is_the_name(opened):
    rows = opened["parquet"].select_columns(["image", "label"])
    stream = HuggingFaceStream(rows)
    assert [stream.name(each) for each in stream.arrivals()][:2] == ["00000000", "00000001"]
    assert [each.name for each in stream.split(1, 2).arrivals()][:2] == ["1/00000000", "1/00000001"]


def test_it_is_opened_in_other_processes_without_the_stream(opened):
    stream = HuggingFaceStream(opened["webdataset"])
    arrival = next(iter(stream.arrivals()))
    copied = pickle.loads(pickle.dumps(stream))
    assert copied.read(pickle.loads(pickle.dumps(arrival))).label == stream.read(arrival).label


class Trap:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("above", ["nothing", "filter"])
def test_pickled_members_are_not_unpickled(tmp_path, monkeypatch, above):
    from datasets.packaged_modules.webdataset.webdataset import WebDataset

    trap = pickle.dumps(Trap(tmp_path / "sprung"))
    suffixes = ("pyd", "pickle", "pkl", "pth", "npy", "npz", "ten")
    # The first samples say which columns there are; members of later ones are read all the same.
    members = [each for i in range(6) for each in sample(i)]
    write_tar(tmp_path / "a.tar", members + [(f"s005.{suffix}", trap) for suffix in suffixes])
    stream = streamed("webdataset", tmp_path)
    # As other versions of the library had it.
    unpickled = dict.fromkeys(("pyd", "pickle", "pkl", "pth"), pickle.loads)
    monkeypatch.setattr(WebDataset, "DECODERS", {**WebDataset.DECODERS, **unpickled})
    if above == "filter":
        stream = stream.cast_column("png", UNDECODED).filter(lambda row: row["json"]["number"] >= 0)
    arrivals = list(HuggingFaceStream(stream).arrivals())
    assert [each.name for each in arrivals] == [f"s{i:03d}" for i in range(6)]
    assert not (tmp_path / "sprung").exists()
    with contextlib.suppress(Exception):
        list(stream)  # Which would have sprung it.
    assert (tmp_path / "sprung").exists()


def test_members_that_cannot_be_parsed_cost_their_sample_alone(tmp_path):
    members = [each for i in range(7) for each in sample(i)]
    members[3 * 5 + 1], members[3 * 6 + 2] = ("s005.cls", b"a cat"), ("s006.json", b"{" * 10_000)
    write_tar(tmp_path / "a.tar", members)
    stream = HuggingFaceStream(streamed("webdataset", tmp_path))
    arrivals = list(stream.arrivals())
    with pytest.raises(UnreadableImageError, match="its label is 'a cat'"):
        stream.read(arrivals[5])
    assert [stream.read(arrivals[i]).label for i in (4, 6)] == [1, 0]


@pytest.mark.parametrize("damage", ["cut between two members", "a header"])
def test_a_shard_that_would_be_half_read_is_refused(tmp_path, damage):
    write_tar(tmp_path / "a.tar", [each for i in range(4) for each in sample(i)])
    stream = streamed("webdataset", tmp_path)
    whole = (tmp_path / "a.tar").read_bytes()
    at = whole.index(b"s002.cls")  # Where the header of a member begins.
    changed = whole[:at] if damage.startswith("cut") else whole[:at] + b"\xff" + whole[at + 1 :]
    (tmp_path / "a.tar").write_bytes(changed)
    assert len(list(stream)) < 4  # The library takes it for the end.
    with pytest.raises(ValueError, match=r"a\.tar is cut off, damaged"):
        HuggingFaceStream(stream)


REFUSED = {
    "shuffle": (lambda s: s.shuffle(seed=0, buffer_size=4), r"shuffled through a buffer of 4.*without shuffle"),
    "decoded": (lambda s: s.filter(lambda key: True, input_columns=["__key__"]), r"Image\(decode=False\)"),
    "tables": (lambda s: undecoded(s).with_format("arrow").map(lambda t: t, features=s.features), r"with_format\(None"),
    "threads": (lambda s: s.decode(num_threads=2), r"without, they are opened here"),
    "unknown columns": (lambda s: undecoded(s).map(lambda row: row), r"features="),
    "no image": (lambda s: s.select_columns(["cls"]), r"cast_column"),
    "splits": (lambda s: datasets.IterableDatasetDict({"train": s}), r"stream\['train'\]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_resumed_is_refused_with_the_mend(opened, case):
    made, mend = REFUSED[case]
    with pytest.raises(ValueError, match=mend):
        as_collected(made(opened["webdataset"]))


def test_streams_that_were_moved_are_refused(folders):
    stream = streamed("webdataset", folders["webdataset"])
    stream.load_state_dict(stream.state_dict())
    with pytest.raises(ValueError, match=r"stream\.skip"):
        HuggingFaceStream(stream)
    stream = streamed("webdataset", folders["webdataset"])
    stream.set_epoch(2)
    with pytest.raises(ValueError, match=r"set_epoch\(0\)"):
        HuggingFaceStream(stream)


def test_parts_of_parts_and_mixtures_are_not_split(opened):
    given = opened["webdataset"]
    from datasets.distributed import split_dataset_by_node

    part = HuggingFaceStream(split_dataset_by_node(given, 0, 2))
    assert part.fingerprint() != HuggingFaceStream(given).fingerprint()
    with pytest.raises(ValueError, match="give every process the whole"):
        part.split(0, 2)
    mixed = HuggingFaceStream(datasets.interleave_datasets([given, given]))
    with pytest.raises(ValueError, match="in one process"):
        mixed.split(0, 2)


def test_other_streams_are_refused_in_one_line():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(())

    for given in (Stream(), iter([Image.new("RGB", (4, 4))])):
        with pytest.raises(TypeError, match=r"IterableDataset") as raised:
            as_collected(given)
        assert "\n" not in str(raised.value)


def test_positions_are_not_invented(opened):
    with pytest.raises(TypeError, match=r"collect\(\) takes it"):
        as_source(opened["webdataset"])


def test_another_stream_has_another_fingerprint(opened, tmp_path):
    given = opened["webdataset"]
    made = [
        given,
        given.skip(1),
        undecoded(given).filter(lambda key: key > "s003", input_columns=["__key__"]),
        undecoded(given).filter(lambda key: key > "s004", input_columns=["__key__"]),
        streamed("webdataset", write_shards(tmp_path / "w", [4, 3, 4], broken=(5,))),
    ]
    assert len({HuggingFaceStream(each).fingerprint() for each in made}) == len(made)


def test_states_that_json_would_change_are_refused():
    assert checked_state({"a": [1, {"b": None}]}, "stream") == {"a": [1, {"b": None}]}
    for state in ({"a": (1, 2)}, {1: "a"}, {"a": np.int64(3)}, {"a": float("nan")}, {"a": b"x"}, [1]):
        with pytest.raises(ValueError, match="more than JSON can"):
            checked_state(state, "stream")


def test_texts_in_the_place_of_labels_are_no_labels(tmp_path):
    members = [(name, data) for i in range(6) for name, data in sample(i) if not name.endswith("cls")]
    write_tar(tmp_path / "numbers.tar", members)
    members = [(name, b'{"label": "cat"}' if name.endswith("json") else data) for name, data in members]
    (tmp_path / "texts").mkdir()
    write_tar(tmp_path / "texts" / "a.tar", members)
    for folder, label in ((tmp_path, 0), (tmp_path / "texts", -1)):
        stream = HuggingFaceStream(streamed("webdataset", folder))
        assert [stream.read(each).label for each in stream.arrivals()] == [label] * 6


def test_columns_within_a_column_are_no_pictures_that_are_decoded() -> None:
    columns = {"image": UNDECODED, "about": datasets.Features({"id": datasets.Value("int64")})}
    rows = [{"image": {"bytes": b"", "path": None}, "about": {"id": 3}}]
    stream = datasets.IterableDataset.from_generator(lambda: iter(rows), features=datasets.Features(columns))
    refuse_inexact(stream.map(lambda row: row))
