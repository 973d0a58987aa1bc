"""The pictures of a collection's rows, from the data set that it names or one that is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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


def given_pictures(store: ContributionStore, images: Any) -> PicturesOfSource:
    """The pictures in a folder or in shards, or of another data set.

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


def pictures_at(store: ContributionStore, positions: Sequence[int], images: Any = None) -> PicturesOfSource | None:
    """The pictures at positions of the data set that was collected; None where it is not in reach.

    Args:
        store: of the data set; it may keep no rows.
        positions: of the samples; those that a data set does not have are left out.
        images: the data set, or one in which samples of the same names are; found by itself if not given.

    Raises:
        ValueError: if ``images`` is another data set, and the store keeps no names.
    """
    if images is None:
        source = own_source(store.plan, store.folder)
        return None if source is None else PicturesOfSource(store.model, source, {each: each for each in positions})
    source = as_source(images)
    if store.has_rows:
        given = pictures_of(store, source)
        rows = {int(position): row for row, position in enumerate(store.positions)}
        return given.among({each: rows[each] for each in positions})
    if source.fingerprint() != store.plan.dataset_fingerprint:
        raise ValueError(
            f"{images} is not the {store.plan.dataset} that was collected, or not as it was, and the collection keeps "
            f"no names of samples: give that data set."
        )
    return PicturesOfSource(store.model, source, {each: each for each in positions})


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
