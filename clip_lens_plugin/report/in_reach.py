"""The pictures of a store's rows, from the data set that it names or one that is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clip_lens_plugin.datasets.choose import as_source
from clip_lens_plugin.datasets.given_pictures import GivenPictures
from clip_lens_plugin.datasets.source import ImageSource
from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.labelling.names import few
from clip_lens_plugin.report.pictures import Pictures, PicturesGiven, PicturesOfSource


def pictures_of(data: Data, source: ImageSource) -> PicturesOfSource:
    """The pictures of the rows whose names the data set has."""
    place = {source.name(position): position for position in range(len(source))}
    return _pictures(data, source, {row: place[name] for row, name in enumerate(data.names or ()) if name in place})


def given_pictures(data: Data, images: Any) -> PicturesOfSource:
    """The pictures in a folder or in shards, or of another data set.

    Raises:
        ValueError: if none of the names of the store is there.
    """
    source = as_source(images)
    found = pictures_of(data, source)
    if not any(row in found for row in range(len(data))):
        names = few(data.names or (), 3)
        raise ValueError(
            f"None of the store's samples ({names}) is in --images {images}: give the data set that was collected."
        )
    return found


def pictures_at(data: Data, positions: Sequence[int], images: Any = None) -> Pictures | None:
    """The pictures at positions of the data set that the data are of; None where it is not in reach.

    Args:
        data: that may keep no rows.
        positions: of the samples; those that a data set does not have are left out.
        images: the data set that was collected, or one in which samples of the same names are; found by itself if not
            given, or of data that were not collected.

    Raises:
        ValueError: if ``images`` is another data set, and the data keep no names.
    """
    if images is None or data.origin is None:
        source = data.own_source()
        return None if source is None else _own_pictures(data, source, {each: each for each in positions})
    source = as_source(images)
    if data.has_rows:
        given = pictures_of(data, source)
        rows = {int(position): row for row, position in enumerate(data.positions)}
        return given.among({each: rows[each] for each in positions})
    if source.fingerprint() != data.origin.fingerprint:
        raise ValueError(
            f"{images} is not the {data.origin.dataset} that was collected, or not as it was, and the store keeps "
            f"no names of samples: give that data set."
        )
    return _pictures(data, source, {each: each for each in positions})


def pictures_in_reach(data: Data) -> Pictures | None:
    """The pictures of the rows: those that were decomposed, or of the data set that a store names.

    That is drawn, or a folder seen from where we are. None where it is neither, or is not the same any more.
    """
    source = data.own_source()
    return None if source is None else _own_pictures(data, source, dict(enumerate(data.positions.tolist())))


def _own_pictures(data: Data, source: ImageSource, positions: Mapping[int, int]) -> Pictures:
    if isinstance(source, GivenPictures):  # Messages name the file that was given. Its rows are its positions.
        return PicturesGiven(data.readout.image_model, source.photographs)
    return _pictures(data, source, positions)


def _pictures(data: Data, source: ImageSource, positions: Mapping[int, int]) -> PicturesOfSource:
    return PicturesOfSource(data.readout.image_model, source, positions)
