"""Small streams on disk: drawn scenes as webdataset shards and as parquet files."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import datasets

from clip_lens_plugin.scenes.dataset import ScenesDataset

SEED = 3


def png(position: int) -> bytes:
    """A scene as the bytes of a file."""
    picture, _ = ScenesDataset(position + 1, SEED, "background")[position]
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    """A shard with these members."""
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def sample(position: int, broken: bool = False) -> list[tuple[str, bytes]]:
    """The members of a sample: picture, label, and a note in JSON."""
    key = f"s{position:03d}"
    about = json.dumps({"label": 0, "number": position}).encode()
    picture = b"no picture" if broken else png(position)
    return [(f"{key}.png", picture), (f"{key}.cls", str(position % 3).encode()), (f"{key}.json", about)]


def write_shards(folder: Path, sizes: list[int], broken: tuple[int, ...] = ()) -> Path:
    """Shards of as many samples each, numbered on through all."""
    folder.mkdir(parents=True)
    first = 0
    for number, size in enumerate(sizes):
        positions = range(first, first + size)
        members = [each for position in positions for each in sample(position, position in broken)]
        write_tar(folder / f"shard-{number}.tar", members)
        first += size
    return folder


def write_parquet(folder: Path, sizes: list[int], broken: tuple[int, ...] = ()) -> Path:
    """Parquet files of as many rows each: picture, label with names, id."""
    folder.mkdir(parents=True)
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["red", "green", "blue"]),
            "id": datasets.Value("string"),
        }
    )
    first = 0
    for number, size in enumerate(sizes):
        positions = range(first, first + size)
        rows = {
            "image": [{"bytes": b"none" if i in broken else png(i), "path": None} for i in positions],
            "label": [i % 3 for i in positions],
            "id": [f"s{i:03d}" for i in positions],
        }
        datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / f"part-{number}.parquet", batch_size=4)
        first += size
    return folder


def streamed(kind: str, folder: Path) -> Any:
    """The stream of what was written: "webdataset" or "parquet"."""
    suffix = {"webdataset": "tar", "parquet": "parquet"}[kind]
    files = sorted(str(path) for path in folder.glob(f"*.{suffix}"))
    return datasets.load_dataset(kind, data_files=files, split="train", streaming=True, trust_remote_code=False)
