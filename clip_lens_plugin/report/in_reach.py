"""The pictures of a collection's rows, from the data set that it names or one that is given."""

from __future__ import annotations

from pathlib import Path

from clip_lens_plugin.collection.own_pictures import own_source
from clip_lens_plugin.collection.store import ContributionStore
from clip_lens_plugin.datasets.choose import as_source
from clip_lens_plugin.datasets.source import ImageSource
from clip_lens_plugin.decomposition.contributions import Contributions, Data
from clip_lens_plugin.labelling.names import few
from clip_lens_plugin.model.bridged import resolved
from clip_lens_plugin.report.pictures import Pictures, PicturesGiven, PicturesOfSource


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
    source = own_source(data.plan, data.folder)
    return None if source is None else pictures_of(data, source)
