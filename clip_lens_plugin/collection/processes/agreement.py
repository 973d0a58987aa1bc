"""Processes that collect together collect the same: their plans are compared before the first image."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from clip_lens_plugin import __version__
from clip_lens_plugin.collection.checks.description import read_plan
from clip_lens_plugin.collection.place import Place
from clip_lens_plugin.collection.plan import Plan, shortened
from clip_lens_plugin.collection.processes.ranks import Ranks

MOST_NAMED = 4

VISIBLE = 30.0
"""Seconds that a file of another machine may take to be seen on a shared file system."""


class ProcessesDisagreeError(ValueError):
    """Processes that should collect together were given different models, data sets, settings or libraries."""


def refuse_other_plans(ranks: Ranks, plan: Plan, **options: Any) -> None:
    """Returns in every process, or raises in every one of them.

    Args:
        ranks: of this process.
        plan: of this process.
        options: other settings that have to be the same, as JSON's types.

    Raises:
        ProcessesDisagreeError: naming what differs from process 0, and in which process.
    """
    if ranks.world == 1:
        return
    versions = {**plan.fingerprints.libraries, "clip_lens_plugin": __version__}
    mine = {"plan": plan.to_json(), "options": {**options, **versions}}
    first, *others = map(json.loads, ranks.say(json.dumps(mine)))
    found = [
        f"process {rank} has {', '.join(differing)}"
        for rank, other in enumerate(others, start=1)
        if (differing := list(_differences(other, first)))
    ]
    if found:
        more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        raise ProcessesDisagreeError(
            f"The processes would not collect the same: {'; '.join(found[:MOST_NAMED])}{more}. Start all with the same "
            f"model, data set, options and libraries."
        )


def _differences(other: dict[str, Any], first: dict[str, Any]) -> Iterator[str]:
    """Readable, "another model (image weights)" or "batch_size 8 (process 0: 4)"."""
    theirs, firsts = Plan.from_json(other["plan"]), Plan.from_json(first["plan"])
    parts = firsts.fingerprints.differences(theirs.fingerprints)
    if parts:
        yield f"another model, {theirs.model_name} (process 0: {firsts.model_name}): other {' and '.join(parts)}"
    if firsts.dataset_fingerprint != theirs.dataset_fingerprint and firsts.dataset != theirs.dataset:
        yield f"the {theirs.dataset} (process 0: the {firsts.dataset})"
    for name, before, now in firsts.settings_that_differ(theirs):
        yield f"{name} {shortened(now)} (process 0: {shortened(before)})"
    for name in sorted(other["options"].keys() | first["options"].keys()):
        now, before = other["options"].get(name, "none"), first["options"].get(name, "none")
        if now != before:
            yield f"{name} {now} (process 0: {before})"


def plan_for_all(ranks: Ranks, place: Place, begin: Callable[[], Plan | None]) -> Plan | None:
    """What ``begin``, run in process 0, gave, in every process.

    Raises:
        ProcessesDisagreeError: in every process, if one does not see at its own place what process 0 has begun.
    """
    if ranks.world == 1:
        return begin()
    begun = None

    def is_left() -> bool:
        nonlocal begun
        begun = begin()
        return begun is not None

    if not ranks.first_does(is_left):
        return None
    end = time.monotonic() + VISIBLE
    while begun is None and time.monotonic() < end:
        ranks.check()
        begun = read_plan(place)
        if begun is None:
            time.sleep(0.5)
    seen = ranks.say("" if begun is None else hashlib.sha256(begun.to_bytes()).hexdigest())
    blind = [str(rank) for rank, each in enumerate(seen) if each != seen[0]]
    if blind:
        raise ProcessesDisagreeError(
            f"Process {', '.join(blind)} does not see what process 0 began in its {place}. Collect into a folder or "
            f"address that is the same for all."
        )
    return begun
