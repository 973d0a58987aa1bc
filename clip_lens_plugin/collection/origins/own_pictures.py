"""The data set that a store was made of, found again where it is in reach."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clip_lens_plugin.collection.plan import Plan
from clip_lens_plugin.datasets.choose import as_source
from clip_lens_plugin.datasets.part import PartOfSource
from clip_lens_plugin.datasets.source import ImageSource
from clip_lens_plugin.hints import hint
from clip_lens_plugin.scenes.attributes import ATTRIBUTES
from clip_lens_plugin.scenes.dataset import ScenesDataset
from clip_lens_plugin.scenes.seeds import SCENES_SEED

FOLDER = "folder of photographs "
"""What stands before a folder's path in the description of a data set."""


def own_source(plan: Plan, folder: Path | None) -> ImageSource | None:
    """Drawn scenes, or a folder of pictures seen from where we are; None where it is neither, or is not the same.

    Args:
        plan: of the store.
        folder: where that lies; None if it is not on this machine.
    """
    n = plan.n_samples
    for whole in (*_scenes(plan), *_folders(plan.dataset, folder)):
        part = [PartOfSource(whole, n)] if n is not None and 0 < n < len(whole) else []
        for source in (whole, *part):
            if source.fingerprint() == plan.dataset_fingerprint:
                return source
    return None


def needed_source(plan: Plan, folder: Path | None) -> ImageSource:
    """As :func:`own_source`, where the pictures are needed.

    Raises:
        ValueError: if they are not in reach; the message says what to give.
    """
    found = own_source(plan, folder)
    if found is None:
        raise ValueError(
            f"The {plan.dataset} is not in reach (from this folder or the store's), or not as it was, and the model "
            f"has to be run on it again: give the data set that was collected, "
            f"{hint('images=DATASET', '--images DATASET')}."
        )
    return found


def _scenes(plan: Plan) -> list[ImageSource]:
    if plan.n_samples is None:
        return []
    drawn = [as_source(ScenesDataset(plan.n_samples, SCENES_SEED, attribute)) for attribute in (None, *ATTRIBUTES)]
    return [source for source in drawn if source.classes == plan.classes]


def _folders(dataset: str, store: Path | None) -> Iterator[ImageSource]:
    """Folders that may be the described one, whose path ends so: as seen from here and from the store."""
    _, found, folder = dataset.partition(FOLDER)
    named = Path(folder)
    if not found or ".." in named.parts:
        return
    seen: set[Path] = set()
    for base in (Path.cwd(), *([] if store is None else [store.parent])):
        for path in (base / named, base / named.name, base.parent / named):
            place = path.resolve()
            if place not in seen and place.is_dir():
                seen.add(place)
                try:
                    yield as_source(place)
                except (ValueError, OSError):  # Of the same name, and no folder of pictures.
                    continue
