"""How a store is finished: everyone's sums added up, and the description written last."""

from __future__ import annotations

import json

import numpy as np
from safetensors.torch import save

from clip_lens_plugin.collection.checks.chunks import ChunkChecksums
from clip_lens_plugin.collection.checks.description import (
    CHUNKS,
    CLASSES,
    DESCRIPTION,
    MOMENTS,
    OLD_DESCRIPTION,
    PARTS,
    SKIPPED,
    SUMS,
    Description,
    KeptFile,
    neuron_files,
)
from clip_lens_plugin.collection.place import Place
from clip_lens_plugin.collection.plan import PLAN_FILE, Plan
from clip_lens_plugin.collection.rows import chunk_patterns, make_arrays, metadata_keys
from clip_lens_plugin.collection.running.begin import not_written, recorded_checksums, writing
from clip_lens_plugin.collection.running.progress import Progress
from clip_lens_plugin.collection.running.streams import counted_samples, write_empty
from clip_lens_plugin.hints import go_on
from clip_lens_plugin.model.identity.verification import Verification
from clip_lens_plugin.plain_text import how_many


def finish(place: Place, plan: Plan, present: list[Progress], verified: Verification) -> None:
    """Marks the store finished.

    Args:
        place, plan: of the store.
        present: what each process did, by rank, the sums of all in the first; those of processes of earlier calls are
            added to them.
        verified: the model beside its source.
    """
    whole, every = present[0], list(present)
    for each in Progress.load_earlier(place, plan, present):
        whole.take_sums(each)
        every.append(each)
    counted, empty = plan, set()
    if plan.is_of_stream:
        n_samples, empty = counted_samples(plan, every)
        counted = plan.counted(n_samples)
    missing = set(range(counted.n_blocks)) - empty - {block for each in every for block in each.blocks}
    if missing:
        raise ValueError(f"{place} lacks {len(missing)} of {counted.n_blocks} blocks: {go_on()}.")
    everyones_skipped = {position: skipped for each in every for position, skipped in each.skipped.items()}
    skipped = [(each.name, each.reason) for _, each in sorted(everyones_skipped.items())]
    if whole.moments is None or whole.sums is None:
        if not skipped:
            raise ValueError(f"The {plan.dataset} holds no sample.")
        raise ValueError(
            f"None of the {how_many(len(skipped), 'sample')} could be read; the first, {', '.join(skipped[0])}."
        )
    with writing(place):
        whole.chunks |= write_empty(place, plan, empty)
    files = {
        MOMENTS: save(whole.moments.to_tensors()),
        SUMS: save(whole.sums.to_tensors()),
        SKIPPED: json.dumps(skipped, indent=1).encode(),
        **{key: save(whole.neurons[layer].to_tensors()) for layer, key in neuron_files(plan).items()},
    }
    for key, sums in ((PARTS, whole.parts), (CLASSES, whole.classes)):
        if sums is not None:
            files[key] = save(sums.to_tensors())
    if chunk_patterns(plan) and plan.has_checksums:
        files[CHUNKS] = _checksums(place, counted, every).to_bytes()
    error = max(each.completeness_error for each in every)
    try:
        for key, content in files.items():
            place.set(key, content)
        if plan.has_checksums:
            _describe(place, plan, counted, files, error, verified)
        else:
            place.group(write=True).attrs[OLD_DESCRIPTION] = {
                "completeness_error": error,
                "verified": verified.to_json(),
            }
    except OSError as unwritten:
        raise not_written(place, unwritten) from unwritten
    Progress.remove_all(place)


def _describe(
    place: Place,
    plan: Plan,
    counted: Plan,
    files: dict[str, bytes],
    completeness_error: float,
    verified: Verification,
) -> None:
    """Writes the description, which makes the store a finished one."""
    make_arrays(place, counted)  # Their metadata are what they were.
    metadata = {key: place.get(key) or b"" for key in metadata_keys(plan)}
    kept = {PLAN_FILE: plan.to_bytes(), **metadata, **files}
    description = Description(
        completeness_error=completeness_error,
        verified=verified,
        files={key: KeptFile.of(content) for key, content in kept.items()},
        patterns=chunk_patterns(plan),
        block=plan.block,
        n_samples=counted.n_samples if plan.is_of_stream else None,
    )
    place.set(DESCRIPTION, description.to_bytes())


def _checksums(place: Place, plan: Plan, every: list[Progress]) -> ChunkChecksums:
    """Of all chunks, as they were when they were written."""
    found = []
    for block in range(plan.n_blocks):
        records = [each.chunks[block] for each in every if block in each.chunks]
        record = records[0] if len(records) == 1 else recorded_checksums(place, plan, every, block)
        if record is None:
            raise ValueError(f"Block {block} in {place} was damaged since it was written: {go_on()}.")
        found.append(record)
    return ChunkChecksums(chunk_patterns(plan), np.stack(found))
