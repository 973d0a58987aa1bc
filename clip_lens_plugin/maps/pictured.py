"""The pictures that maps are of, so that a map draws itself in the right place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from clip_lens_plugin.files.given import UnreachableError
from clip_lens_plugin.images.photographs import Photograph
from clip_lens_plugin.images.pictures import UnreadableImageError, upright_rgb
from clip_lens_plugin.images.preprocessed import shown_pictures
from clip_lens_plugin.maps.crop_geometry import Geometry, Placement
from clip_lens_plugin.model.inputs.given import GivenImages
from clip_lens_plugin.model.inputs.pixels import has_values

Placed = tuple[Image.Image, Placement | None]
"""A picture, and where the model's input lies on it; None where it is that input."""

MOST_REMEMBERED = 256
"""A map keeps the pictures of so many images that were given as pixels; of more it keeps none."""


class NoPicturesError(ValueError):
    """Maps do not know the pictures that they are of, and none were given."""


@dataclass(frozen=True)
class Pictured:
    """What a map knows of the picture that one image is of.

    Each image has its own, since maps of several models may be joined, whose preprocessings crop differently.

    Attributes:
        photograph: as it was given, or what the model sees of it; None if it is not known.
        geometry: where the model's preprocessing puts a photograph; None if that is not known.
        as_seen: whether the photograph is what the model sees, made of its pixels.
    """

    photograph: Photograph | None = None
    geometry: Geometry | None = None
    as_seen: bool = False

    def name(self, position: int) -> str:
        """Its file's, or "image 0" and so on."""
        return f"image {position}" if self.photograph is None else self.photograph.name

    def of_photograph(self, picture: Image.Image, name: str) -> Pictured:
        """The same on the photograph that was preprocessed; itself where nobody knows where the input lies on it."""
        return self if self.geometry is None else Pictured(Photograph(picture, name), self.geometry)

    def placed(self, grid_size: tuple[int, int], picture: Image.Image | None = None) -> Placed:
        """The picture, and where the model's input lies on it.

        Args:
            grid_size: rows and columns of patches.
            picture: the photograph that was prepared, or what the model sees of it; the one that is known if not given.

        Raises:
            NoPicturesError: a ValueError, if none is known, or it cannot be opened any more.
            ValueError: if the picture cannot be what was prepared, or nobody knows where the input lies on it.
        """
        if picture is not None:
            shown = upright_rgb(picture)
            return shown, self._placement(shown, grid_size)
        if self.photograph is None:
            raise NoPicturesError(
                "These maps do not know the pictures that they are of: give them, maps.view(pictures=[...]), the "
                "photographs that were prepared or what the model sees of them."
            )
        if self.as_seen:
            return self._opened(self.photograph), None
        if self.geometry is None:
            raise ValueError(
                f"Where the model's input lies on {self.photograph.name!r} is not known, since the preprocessing is "
                f"none of those that can be followed: give what the model sees, maps.view(pictures=[...])."
            )
        opened = self._opened(self.photograph)
        return opened, self.geometry.placement(opened.size)

    def _opened(self, photograph: Photograph) -> Image.Image:
        try:
            return photograph.open()
        except (UnreadableImageError, UnreachableError) as error:
            raise NoPicturesError(
                f"The photograph {photograph.source} that this map is of cannot be opened any more: {error}. Give it: "
                f"maps.view(pictures=[...])."
            ) from error

    def _placement(self, picture: Image.Image, grid_size: tuple[int, int]) -> Placement | None:
        if self.geometry is None:
            refuse_other_shape(picture, grid_size)
            return None
        if self.as_seen and picture.size == self.geometry.input_size:
            return None
        return self.geometry.placement(picture.size)


def followed(given: GivenImages) -> GivenImages:
    """The same; prepared at once where nobody knows where the input lies on a photograph, to show what is seen."""
    if given.photographs is None or len(given) > MOST_REMEMBERED or _geometry(given) is not None:
        return given
    return GivenImages(given.model, given.pixels(slice(None)), given.photographs)


def pictured_of(given: GivenImages) -> tuple[Pictured, ...]:
    """The pictures of given images: the photographs themselves, or what the model sees of their pixels."""
    model, geometry = given.model, _geometry(given)
    unknown = tuple(Pictured(each, geometry) for each in given.photographs or (None,) * len(given))
    if given.tensor is None:
        return unknown
    if len(given) > MOST_REMEMBERED or model.preprocess is None or not has_values(given.tensor):
        return unknown
    try:
        seen = shown_pictures(given.tensor, model.preprocess)
    except ValueError:  # What it does to colours is not known.
        return unknown
    names = [f"image {i}" if each.photograph is None else each.photograph.name for i, each in enumerate(unknown)]
    return tuple(Pictured(Photograph(*each), geometry, as_seen=True) for each in zip(seen, names, strict=True))


def _geometry(given: GivenImages) -> Geometry | None:
    height, width = given.model.cfg.image_size
    return Geometry.of(given.model.preprocess, (width, height))


def all_placed(
    pictured: Sequence[Pictured], grid_size: tuple[int, int], pictures: Sequence[Image.Image] | None = None
) -> list[Placed]:
    """:meth:`Pictured.placed` of each image.

    Raises:
        ValueError: as there, or if there are more or fewer pictures than images.
    """
    if pictures is None:
        return [each.placed(grid_size) for each in pictured]
    if len(pictures) != len(pictured):
        raise ValueError(f"{len(pictured)} images need as many pictures, got {len(pictures)}.")
    return [each.placed(grid_size, picture) for each, picture in zip(pictured, pictures, strict=True)]


def refuse_other_shape(picture: Image.Image, grid_size: tuple[int, int]) -> None:
    """Raises ValueError if a picture cannot be what the model sees, by its sides: a map would lie in a wrong place."""
    (rows, columns), (width, height) = grid_size, picture.size
    # A patch or less may be left over at the edges, in no patch.
    if not (columns / (rows + 1) < width / height < (columns + 1) / rows):
        raise ValueError(
            f"The picture has {width} x {height} pixels, the map {columns} x {rows} patches: it cannot be what the "
            f"model sees. Give the placement as well, Placement.of(model.preprocess, picture.size, (width, height) of "
            f"the model's input), or make the map of the photograph itself: patch_text_map(model, 'photo.jpg', texts)."
        )
