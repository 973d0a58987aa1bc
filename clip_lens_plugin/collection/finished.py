"""What a finished store says of itself, which needs no model."""

from __future__ import annotations

from pathlib import Path

from clip_lens_plugin.collection.checks.description import Description, read_description, read_plan
from clip_lens_plugin.collection.errors import CollectionNotFoundError
from clip_lens_plugin.collection.place import Place
from clip_lens_plugin.collection.plan import PLAN_FILE, Plan
from clip_lens_plugin.hints import hint, typed


def read_finished(address: str | Path) -> tuple[Place, Plan, Description]:
    """The place of a finished store, its plan, and the description of its files.

    Raises:
        CollectionNotFoundError: if there is none, or it is not finished.
        CollectionDamagedError: if its description is damaged.
        ValueError: if it is of another version.
    """
    place = Place(address)
    plan = read_plan(place)
    if plan is None:
        data, out = ("", str(address))
        if place.is_local and place.foreign(PLAN_FILE) is not None:  # It may be the data set itself.
            data, out = str(address), f"{str(address).rstrip('/')}-collected"
        make = hint(
            f"clip_lens_plugin.collect(model, {repr(data) if data else 'dataset'}, {out!r})",
            f"clip-lens collect {typed(data) if data else 'DATASET'} --out {typed(out)}",
        )
        raise CollectionNotFoundError(f"{address} holds no store. Make one: {make}.")
    description = read_description(place, plan)
    if description is None:
        again = hint("call collect again with resume=True", "clip-lens collect again, with --resume")
        raise CollectionNotFoundError(f"The store in {address} is not finished: {again}.")
    return place, plan, description
