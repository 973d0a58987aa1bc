"""ImageNet's validation labels, read from the development kit of ILSVRC 2012."""

from __future__ import annotations

import re
import tarfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from clip_lens_plugin.labelling.wordnet import imagenet_ids, is_wordnet_id

TRUTH, META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
MOST_BYTES = 64 * 2**20
"""Of either file once unpacked; the kit's own take less than one."""
MOST_MEMBERS = 10_000
_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})")


def is_devkit(path: Path) -> bool:
    """Whether it is a folder or a tar file, compressed or not; whether it is a devkit is for :func:`read_devkit`."""
    return path.is_dir() or (path.is_file() and path.name.lower().endswith((".tar", ".tar.gz", ".tgz")))


def is_ground_truth(path: Path) -> bool:
    """Whether it goes by the name of the devkit's list of labels, which says nothing without the kit's table."""
    return path.stem.lower() == Path(TRUTH).stem.lower()


def read_devkit(path: Path) -> list[str]:
    """The WordNet id of each validation image, the first of ``ILSVRC2012_val_00000001.JPEG``.

    Of ``meta.mat`` only the numbers and ids of the classes are taken.

    Raises:
        FileNotFoundError: if it does not hold ``data/meta.mat`` and the ground truth.
        ValueError: if one of the two is damaged, too large, or not what the devkit of 2012 holds.
        OSError: if it cannot be read.
    """
    truth, meta = _members(path) if path.is_file() else _files(path)
    ids = _ids(meta, path)
    lines = truth.decode("ascii", "replace").rstrip().splitlines()
    found = []
    for number, line in enumerate(lines, start=1):
        given = line.strip()
        if not given.isdecimal() or int(given) not in ids:
            raise ValueError(f"Line {number} of {TRUTH} in {path} is {given[:40]!r}, which is no class of {META}.")
        found.append(ids[int(given)])
    if not found:
        raise ValueError(f"{TRUTH} in {path} is empty.")
    return found


def image_number(name: str, n: int) -> int:
    """The sample's place among the n validation images, counted from 0.

    Raises:
        ValueError: if its name does not say so.
    """
    match = _IMAGE.search(name)
    if match is None or not 1 <= int(match[1]) <= n:
        raise ValueError(
            f"The sample {name!r} is none of the devkit's {n:,} validation images; expected names such as "
            f"ILSVRC2012_val_00000001.JPEG. Give its label by name, in a file of name and label."
        )
    return int(match[1]) - 1


def _files(folder: Path) -> tuple[bytes, bytes]:
    for data in (folder / "data", folder, *sorted(folder.glob("*/data"))):
        if (data / TRUTH).is_file() and (data / META).is_file():
            return _small((data / TRUTH), folder), _small((data / META), folder)
    raise _missing(folder)


def _small(file: Path, folder: Path) -> bytes:
    if file.stat().st_size > MOST_BYTES:
        raise _too_large(file.name, folder)
    return file.read_bytes()


def _members(path: Path) -> tuple[bytes, bytes]:
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as tar:
            for number, member in enumerate(tar):
                if member.size > MOST_BYTES or number >= MOST_MEMBERS:
                    raise ValueError(
                        f"{path} is no devkit: {member.name[:80]!r} is member {number} of the tar file, "
                        f"with {member.size:,} bytes. Expected ILSVRC2012_devkit_t12.tar.gz."
                    )
                for name in (TRUTH, META):
                    if member.isreg() and f"/{member.name}".endswith(f"/data/{name}"):
                        found[name] = tar.extractfile(member).read()  # pyright: ignore[reportOptionalMemberAccess]
    except (tarfile.TarError, EOFError, zlib.error, OverflowError) as error:
        raise ValueError(f"{path} is cut off, damaged or no tar file: {error}. Fetch the devkit anew.") from error
    if len(found) < 2:
        raise _missing(path)
    return found[TRUTH], found[META]


def _missing(path: Path) -> FileNotFoundError:
    return FileNotFoundError(
        f"{path} is no devkit of ILSVRC 2012: expected data/{TRUTH} and data/{META} in it. Labels by name go into a "
        f"file, a name and a label on each line."
    )


def _too_large(name: str, path: Path) -> ValueError:
    return ValueError(f"{name} in {path} unpacks to more than {MOST_BYTES:,} bytes: it is not the devkit's.")


def _ids(meta: bytes, path: Path) -> dict[int, str]:
    """ILSVRC's number of each of the classes that images belong to, and its WordNet id."""
    from scipy.io import loadmat

    _refuse_bomb(meta, path)
    try:
        synsets = np.atleast_1d(loadmat(BytesIO(meta), variable_names=["synsets"], squeeze_me=True)["synsets"])
        rows = [(row["ILSVRC2012_ID"], row["WNID"], row["num_children"]) for row in synsets]
        leaves = {_whole(number): str(name) for number, name, children in rows if _whole(children) == 0}
        n = sum(_whole(children) == 0 for _, _, children in rows)
    except Exception as error:  # scipy raises whatever comes of damaged bytes.
        raise ValueError(
            f"{META} in {path} is damaged or not ILSVRC 2012's: expected a table 'synsets' with ILSVRC2012_ID, WNID "
            f"and num_children ({type(error).__name__}). Fetch the devkit anew."
        ) from error
    strange = [name for name in leaves.values() if not is_wordnet_id(name) or name not in imagenet_ids()]
    if strange or n != len(leaves) or len(set(leaves.values())) != n:
        which = f"{strange[0][:40]!r} is none of ImageNet's 1,000 classes" if strange else "a class stands in it twice"
        raise ValueError(f"{META} in {path} is not ILSVRC 2012's: {which}.")
    return leaves


def _whole(given: Any) -> int:
    array = np.asarray(given)
    if array.size != 1 or int(array.item()) != array.item():
        raise ValueError("not a whole number")
    return int(array.item())


def _refuse_bomb(meta: bytes, path: Path) -> None:
    """Raises ValueError if a compressed element of a MATLAB 5 file unpacks to more than it may."""
    at = 128  # bytes of the header
    while at + 8 <= len(meta):
        kind, size = (int.from_bytes(meta[at + i : at + i + 4], "little") for i in (0, 4))
        if kind == 15:  # miCOMPRESSED
            unpacking = zlib.decompressobj()
            try:
                unpacking.decompress(meta[at + 8 : at + 8 + size], MOST_BYTES)
            except zlib.error:
                return  # loadmat says so.
            if unpacking.unconsumed_tail:
                raise _too_large(META, path)
        at += 8 + size
