"""The pictures of a collection's rows, from the data set that it names or one that is given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clip_lens_plugin.collection.store import ContributionStore
from clip_lens_plugin.datasets.choose import as_source
from clip_lens_plugin.datasets.source import ImageSource
from clip_lens_plugin.decomposition.contributions import Contributions, Data
from clip_lens_plugin.labelling.names import few
from clip_lens_plugin.model.bridged import resolved
from clip_lens_plugin.report.pictures import Pictures, PicturesGiven, PicturesOfSource
from clip_lens_plugin.scenes.attributes import ATTRIBUTES
from clip_lens_plugin.scenes.dataset import ScenesDataset
from clip_lens_plugin.scenes.seeds import SCENES_SEED

FOLDER = "folder of photographs "
"""What stands before a folder's path in the description of a data set."""


def pictures_of(store: ContributionStore, source: ImageSource) -> PicturesOfSource:
    """The pictures of the rows whose names the data set has."""
    place = {source.name(position): position for position in range(len(source))}
    found = {row: place[name] for row, name in enumerate(store.names) if name in place}
    return PicturesOfSource(store.model, source, found)


def given_pictures(store: ContributionStore, images: Path) -> PicturesOfSource:
    """The pictures in a folder or in shards.

    Raises:
        ValueError: if none of the names of the collection is there.
    """
    source = as_source(images)
    found = pictures_of(store, source)
    if not any(row in found for row in range(len(store))):
        raise ValueError(
            f"None of the collection's samples ({few(store.names, 3)}) is in --images {images}: give the data set that "
            f"was collected."
        )
    return found


def pictures_in_reach(data: Data) -> Pictures | None:
    """The pictures of the rows: those that were decomposed, or of the data set that a collection names.

    That is drawn, or a folder seen from where we are. None where it is neither, or is not the same any more.
    """
    if isinstance(data, Contributions):
        return None if data.photographs is None else PicturesGiven(resolved(data.readout.model), data.photographs)
    if not isinstance(data, ContributionStore):
        return None
    store, plan = data, data.plan
    for source in (*_scenes(plan.n_samples, plan.classes), *_folders(plan.dataset, store.folder)):
        if source.fingerprint() == plan.dataset_fingerprint:
            return pictures_of(store, source)
    return None


def _scenes(n: int | None, classes: tuple[str, ...] | None) -> list[ImageSource]:
    if n is None:
        return []
    drawn = [as_source(ScenesDataset(n, SCENES_SEED, attribute)) for attribute in (None, *ATTRIBUTES)]
    return [source for source in drawn if source.classes == classes]


def _folders(dataset: str, store: Path | None) -> Iterator[ImageSource]:
    """Folders that may be the described one, whose path ends so: as seen from here and from the store."""
    _, found, told = dataset.partition(FOLDER)
    named = Path(told)
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
