"""Finished and unfinished stores as they are found: changed in one place, or written by an earlier version."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import zarr
from safetensors.torch import load_file, save_file
from zarr.codecs import BloscCodec

from clip_lens_plugin.collection.checks.description import CHUNKS, CLASSES, DESCRIPTION, PARTS, KeptFile
from clip_lens_plugin.collection.checks.sealed import sealed, unsealed
from clip_lens_plugin.collection.plan import PLAN_FILE


def rewrite_plan(folder: Path, change: Callable[[dict], object]) -> None:
    """Changes the plan, as if another version had written it so."""
    plan = unsealed((folder / PLAN_FILE).read_bytes())
    change(plan)
    (folder / PLAN_FILE).write_bytes(sealed(plan))

    def keep(description: dict) -> None:
        kept = KeptFile.of(sealed(plan))
        description["files"][PLAN_FILE] = {"bytes": kept.bytes, "sha256": kept.sha256}

    if (folder / DESCRIPTION).exists():
        rewrite_description(folder, keep)


def rewrite_description(folder: Path, change: Callable[[dict], object]) -> None:
    """Changes the description and the digest of its content."""
    description = unsealed((folder / DESCRIPTION).read_bytes())
    change(description)
    (folder / DESCRIPTION).write_bytes(sealed(description))


def as_of_format(folder: Path, version: int) -> None:
    """Makes a store, finished or not, one of format 3 or 4: the plan in the group, no checksums."""
    plan = unsealed((folder / PLAN_FILE).read_bytes())
    plan["format"] = version
    for name in ("parts", "class_sums"):
        plan.pop(name, None)
    if version == 3:
        kept = plan["fingerprints"]
        plan["fingerprints"] = {
            **{name: kept[name] for name in ("architecture", "dtype", "image_weights")},
            "preprocessing": kept["printed_preprocessing"],
        }
    attributes: dict[str, Any] = {"clip_lens_plan": plan}
    if (folder / DESCRIPTION).exists():
        description = unsealed((folder / DESCRIPTION).read_bytes())
        attributes["clip_lens_finished"] = {name: description[name] for name in ("completeness_error", "verified")}
    for path in folder.glob("*/zarr.json"):
        _without_checksums(folder, path.parent.name)
    (folder / "zarr.json").write_text(
        json.dumps({"attributes": attributes, "zarr_format": 3, "node_type": "group"}, indent=2)
    )
    for path in folder.glob("progress/*.safetensors"):
        later = ("chunks.", "parts.", "classes.")
        tensors = {name: each for name, each in load_file(path).items() if not name.startswith(later)}
        about = json.loads(tensors["about"].numpy().tobytes())
        del about["sha256"]
        tensors["about"] = torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8)
        save_file(tensors, path)
    for name in (PLAN_FILE, DESCRIPTION, CHUNKS, PARTS, CLASSES):
        (folder / name).unlink(missing_ok=True)


def as_of_format_5(folder: Path) -> None:
    """Makes a finished store one of format 5: no moments of parts, no sums of classes."""
    files = (PARTS, CLASSES)

    def change(plan: dict) -> None:
        plan["format"] = 5
        for name in ("parts", "class_sums"):
            plan.pop(name, None)

    for name in files:
        (folder / name).unlink(missing_ok=True)
    rewrite_description(folder, lambda description: [description["files"].pop(name, None) for name in files])
    rewrite_plan(folder, change)


def _without_checksums(folder: Path, name: str) -> None:
    """Writes an array again as the first versions did, which left out chunks of zeros too."""
    old = zarr.open_group(folder, mode="r")[name]
    assert isinstance(old, zarr.Array)
    values = old[:]
    shutil.rmtree(folder / name)
    codec = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")
    shape, chunks = old.shape, old.chunks
    kind = str if name == "name" else old.dtype
    new = zarr.open_group(folder, mode="r+").create_array(
        name, shape=shape, chunks=chunks, dtype=kind, compressors=codec
    )
    new[:] = values


def everything(store: Any) -> dict[str, Any]:
    """All that a store gives, for comparison; it reads every file."""
    found: dict[str, Any] = {f"moments.{name}": each for name, each in store.moments.to_tensors().items()}
    found |= {f"sums.{name}": each for name, each in store.sums.to_tensors().items()}
    for part, moments in enumerate(store.part_moments if store.plan.parts else ()):
        found |= {f"parts.{part}.{name}": each for name, each in moments.to_tensors().items()}
    if store.plan.class_sums is not None:
        found |= {f"class_sums.{name}": each for name, each in store.class_sums.to_tensors().items()}
    found |= {"skipped": store.skipped, "error": store.completeness_error, "verified": str(store.verified)}
    found |= {"classes": store.classes, "dataset": store.plan.dataset, "plan": store.plan.to_bytes()}
    if store.has_rows:
        rows = store[:]
        found |= {"labels": store.labels, "names": store.names, "positions": torch.from_numpy(store.positions)}
        for name in ("embedding", "omega", "head_coordinates", "mlps", "embed", "self_attention"):
            found[f"rows.{name}"] = getattr(rows, name)
    return found


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether two stores give the same to the last bit."""
    return found.keys() == expected.keys() and all(
        torch.equal(found[name].nan_to_num(7.0), value.nan_to_num(7.0)) and found[name].dtype == value.dtype
        if isinstance(value, torch.Tensor)
        else found[name] == value
        for name, value in expected.items()
    )
