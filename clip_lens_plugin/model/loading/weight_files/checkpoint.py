"""A file of weights, read without running anything in it."""

from __future__ import annotations

import argparse
import collections
import pathlib
import pickle
import types
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from clip_lens_plugin.model.loading.errors import UnfitError, first_line, refuse_machine_errors

CONTAINERS = ("state_dict", "model", "model_state_dict", "model_state", "module", "net", "network", "weights", "params")
"""Keys under which training code keeps the weights."""

AVERAGES = ("ema", "state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "averaged_model")
"""Keys under which it keeps a running mean of them beside the weights."""

TENSORS_NAMED = ("lora_", "loha_", "lokr_", "ia3_", "lora.")
QUANTISED = (".absmax", ".quant_map", ".quant_state", ".SCB", ".qweight", ".qzeros", "_packed_params", ".weight_format")
START = 4096
MUST_BE = (
    "It must be a state dict of this very architecture, as safetensors or as a file that torch.load opens with "
    "weights_only=True"
)


class Inert:
    """Stands in for an object beside the weights that is data of training code: it takes anything and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


_NUMPY = [
    f"numpy.{module}.multiarray.{function}" for module in ("core", "_core") for function in ("scalar", "_reconstruct")
]
_NUMPY += ["numpy.dtype", "numpy.ndarray"]
_NUMPY += [f"numpy.dtypes.{kind}DType" for kind in ("Bool", "Int32", "Int64", "Float32", "Float64")]
_OMEGACONF = [
    f"omegaconf.{name}"
    for name in (
        "base.ContainerMetadata",
        "base.Metadata",
        "dictconfig.DictConfig",
        "listconfig.ListConfig",
        "nodes.AnyNode",
    )
]
READ_AT_ONCE = 1 << 22
"""Bytes."""

HARMLESS: list[Any] = [
    argparse.Namespace,
    types.SimpleNamespace,
    collections.defaultdict,
    *[(Inert, f"pathlib.{kind.__name__}") for kind in (pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath)],
    *[(Inert, f"pathlib._local.{kind}") for kind in ("PosixPath", "WindowsPath")],
    *[(Inert, name) for name in (*_NUMPY, *_OMEGACONF, "typing.Any", "builtins.dict", "builtins.list")],
]
"""What stands beside weights in checkpoints of training code: values of the command line, counters and scores."""


def read_weights(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a file by name, and what had to be unwrapped or left out, as parts of a sentence.

    Args:
        path: of a safetensors file, or one that torch.load opens with weights_only=True; its content says which.

    Raises:
        UnfitError: if it is neither, holds code, no weights, or no plain ones (LoRA, quantised, one shard of
            several).
        MemoryError, OSError: if the machine cannot read it.
    """
    _refuse_other_files(path)
    try:
        held = _safetensors(path) if _is_safetensors(path) else _pickled(path)
    except UnfitError:
        raise
    except Exception as error:
        refuse_machine_errors(error)
        raise _unreadable(error) from error
    found, said = _contained(held)
    weights = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if not weights:
        raise UnfitError(f"holds no weights: its keys are {some(found)}")
    others = [name for name in found if name not in weights]
    if others:
        said.append(f"{counted(others, 'entry', 'entries')} without a tensor left out ({some(others)})")
    _refuse_other_weights(path, weights)
    return weights, said


def some(names: Any, most: int = 3) -> str:
    names = [str(name) for name in names]
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "") if names else "none"


def counted(names: list[str], one: str, more: str) -> str:
    return f"{len(names)} {one if len(names) == 1 else more}"


def _unreadable(error: BaseException) -> UnfitError:
    # torch's own words are not passed on: they advise to load with weights_only=False.
    reason = first_line(error) if isinstance(error, SafetensorError) else "it is damaged or of another format"
    return UnfitError(f"could not be loaded: {reason}. {MUST_BE}")


# ---------------------------------------------------------------------- files


def _refuse_other_files(path: Path) -> None:
    """By name, what is no file of weights."""
    if path.is_dir():
        raise UnfitError(f"is a folder{_kind_of_folder(path)}")
    if not path.is_file():
        raise UnfitError("is no regular file" if path.exists() else "does not exist")
    with path.open("rb") as file:
        start = file.read(START)
    if not start:
        raise UnfitError(f"could not be loaded: it is empty. {MUST_BE}")
    if start.startswith(b"version https://git-lfs"):
        raise UnfitError("is Git LFS's pointer to the file, not the file itself: fetch it with git lfs pull")
    if start.startswith(b"GGUF"):
        raise UnfitError("is GGUF, which is quantised; give the weights as safetensors")
    if start.startswith(b"\x89HDF"):
        raise UnfitError("is HDF5 (Keras); give the weights as safetensors or as a PyTorch state dict")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise UnfitError("is a web page: the download gave an error or a login page; fetch the file itself")
    if start.lstrip().startswith(b"{") and b"weight_map" in start:
        raise UnfitError(f"lists the shards of a model, {_JOIN}")


_JOIN = "and one file with all weights is needed: load the shards and save them as one with safetensors' save_file"


def _kind_of_folder(path: Path) -> str:
    names = [each.name for each in path.iterdir()]
    if "open_clip_config.json" in names:
        return f" of an open_clip model: give it as the name, 'local-dir:{path}'"
    if "config.json" in names:
        return f" of a Hugging Face model: give it as the name, 'transformers:{path}'"
    if any(name.endswith(".distcp") for name in names):
        return (
            " of a distributed checkpoint: make one file of it with python -m "
            "torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE"
        )
    if "latest" in names or any("zero_pp_rank" in name or name.startswith("global_step") for name in names):
        return " of DeepSpeed: make one file of it with the zero_to_fp32.py beside it"
    return ": give the file with the weights"


def _is_safetensors(path: Path) -> bool:
    if path.suffix == ".safetensors":
        return True
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _safetensors(path: Path) -> dict[str, Tensor]:
    return load_file(path, device="cpu")


def _pickled(path: Path) -> Any:
    """What torch.load gives with weights_only=True."""
    zipped = zipfile.is_zipfile(path)
    if zipped:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
            raise UnfitError(
                f"is a TorchScript archive, which is a program and is not run here. If you trust where it is from, "
                f"make a state dict of it yourself: torch.save(torch.jit.load({str(path)!r}, "
                f"map_location='cpu').state_dict(), 'weights.pt')",
            )
        if not any(name.endswith("data.pkl") for name in names):
            raise UnfitError(f"is a zip archive without weights, it holds {some(names)}")
        _refuse_damaged(path)
    try:
        with torch.serialization.safe_globals(HARMLESS):
            # Mapped, so that an optimizer's state beside the weights need not fit into memory.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        refuse_machine_errors(error)
        foreign = _foreign(path) if zipped else []
        if foreign:
            raise UnfitError(
                f"could not be loaded: it holds objects of {some(foreign)} besides tensors, and only weights are read "
                f"(weights_only=True), since such objects can run code. Where it was made, save the weights alone: "
                f"torch.save(model.state_dict(), 'weights.pt')",
            ) from error
        raise _unreadable(error) from error


def _refuse_damaged(path: Path) -> None:
    """By name, a part of an archive that is not what was written: torch does not look at the checksums."""
    with zipfile.ZipFile(path) as archive:
        # What is packed could unpack to any size, and torch does not write it.
        members = [each for each in archive.infolist() if each.compress_type == zipfile.ZIP_STORED]
        wrong = [each for each in members if not _is_whole(archive, each)]
    # torch.serialization.set_crc32_options(False) leaves one and the same number in place of checksums: of all
    # tensors, or of all members.
    tensors = [each for each in members if "/data/" in each.filename]
    without = wrong in (tensors, members) and len(wrong) > 1 and len({each.CRC for each in wrong}) == 1
    if wrong and not without:
        raise UnfitError(
            f"is damaged: {some([each.filename for each in wrong])} in it does not match its checksum. Download or "
            f"copy the file again"
        )


def _is_whole(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(member) as file:
            while file.read(READ_AT_ONCE):
                pass
    except zipfile.BadZipFile:
        return False
    return True


def _foreign(path: Path) -> list[str]:
    """Names of what a pickle asks for that is not among the harmless; found without calling any of it."""
    try:
        with torch.serialization.safe_globals(HARMLESS):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # The file is refused anyway; this only says why.
        return []


# ---------------------------------------------------------------------- what is in them


def _contained(held: Any) -> tuple[Mapping[str, Any], list[str]]:
    """The mapping with the weights inside the containers of training code."""
    said: list[str] = []
    while isinstance(held, Mapping):
        inner = [key for key in CONTAINERS if isinstance(held.get(key), Mapping) and _has_tensors(held[key])]
        averages = [key for key in AVERAGES if isinstance(held.get(key), Mapping) and _has_tensors(held[key])]
        if not inner and averages:
            raise UnfitError(
                f"holds a running mean of weights ({some(averages)}) and no weights; save the one that is meant alone",
            )
        if not inner:
            return held, said
        key = inner[0]
        beside = [str(other) for other in held if other != key]
        said.append(f"weights taken from {key!r}" + (f", beside it {some(beside, 6)}" if beside else ""))
        held = held[key]
    kind = type(held).__name__
    raise UnfitError(f"holds a {kind}, expected a state dict: names of parameters and their tensors")


def _has_tensors(held: Any, depth: int = 3) -> bool:
    if isinstance(held, Tensor):
        return True
    return isinstance(held, Mapping) and depth > 0 and any(_has_tensors(each, depth - 1) for each in held.values())


def _refuse_other_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """By name, what are weights, but not those of a plain model."""
    lora = [name for name in weights if any(mark in name for mark in TENSORS_NAMED)]
    if lora:
        raise UnfitError(
            f"holds LoRA's or another adapter's weights ({some(lora)}). Merge them where it was made: "
            f"model.merge_and_unload(), then torch.save(model.state_dict(), 'weights.pt')",
        )
    quantised = [
        name
        for name, weight in weights.items()
        if any(mark in f".{name}" for mark in QUANTISED)
        or weight.is_quantized
        or (weight.ndim > 1 and (not weight.is_floating_point() or weight.itemsize == 1) and name.endswith("weight"))
    ]
    if quantised:
        raise UnfitError(
            f"holds quantised weights ({some(quantised)}); give those of the model before it was quantised"
        )
    shards = [name for name, weight in weights.items() if weight.numel() == 0]
    if shards:
        raise UnfitError(
            f"holds empty tensors ({some(shards)}), as DeepSpeed's ZeRO-3 leaves them in one shard; make one file of "
            f"its folder with the zero_to_fp32.py beside it",
        )
    if "-of-" in path.stem and path.stem.rsplit("-of-", 1)[1].isdigit():
        raise UnfitError(f"is one shard of several, {_JOIN}")
