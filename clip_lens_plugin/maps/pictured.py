"""The pictures that maps are of, so that a map draws itself in the right place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from PIL import Image

from clip_lens_plugin.images.photographs import Photograph, Photographs, some_of
from clip_lens_plugin.images.pictures import upright_rgb
from clip_lens_plugin.images.preprocessed import shown_pictures
from clip_lens_plugin.maps.crop_geometry import Geometry, Placement
from clip_lens_plugin.model.inputs.given import GivenImages
from clip_lens_plugin.model.inputs.pixels import has_values

Placed = tuple[Image.Image, Placement | None]
"""A picture, and where the model's input lies on it; None where it is that input."""

MOST_REMEMBERED = 256
"""Of images that were given as pixels, whose pictures a map keeps; of more it keeps none."""


class NoPicturesError(ValueError):
    """Maps do not know the pictures that they are of, and none were given."""


@dataclass(frozen=True)
class Pictured:
    """What maps know of the pictures that they are of.

    Attributes:
        photographs: one an image, as they were given; None if they are not known.
        geometry: where the model's preprocessing puts a photograph; None if that is not known.
        as_seen: whether the photographs are what the model sees, made of its pixels.
    """

    photographs: Photographs | None
    geometry: Geometry | None
    as_seen: bool = False

    @classmethod
    def of(cls, given: GivenImages) -> Pictured:
        """Of images that were given: the photographs themselves, or what the model sees of its pixels."""
        model = given.model
        height, width = model.cfg.image_size
        geometry = Geometry.of(model.preprocess, (width, height))
        if given.photographs is not None:
            return cls(given.photographs, geometry)
        assert given.tensor is not None
        if len(given) > MOST_REMEMBERED or model.preprocess is None or not has_values(given.tensor):
            return cls(None, geometry)
        try:
            seen = shown_pictures(given.tensor, model.preprocess)
        except ValueError:  # What it does to colours is not known.
            return cls(None, geometry)
        return cls(tuple(Photograph(each, f"image {i}") for i, each in enumerate(seen)), geometry, as_seen=True)

    @classmethod
    def joined(cls, every: Sequence[Pictured | None]) -> Pictured | None:
        """Those of maps, one after another; None where some do not know, or know another kind."""
        known = [each for each in every if each is not None]
        if len(known) < len(every) or len({(each.as_seen, each.photographs is None) for each in known}) != 1:
            return None
        photographs = None if known[0].photographs is None else [each.photographs or () for each in known]
        joined = None if photographs is None else tuple(each for some in photographs for each in some)
        return replace(known[0], photographs=joined)

    def select(self, rows: Iterable[int]) -> Pictured:
        """Of some images, in the given order."""
        return replace(self, photographs=some_of(self.photographs, rows))

    def placed(self, grid_size: tuple[int, int], pictures: Sequence[Image.Image] | None = None) -> list[Placed]:
        """The pictures, and where the model's input lies on each.

        Args:
            grid_size: rows and columns of patches.
            pictures: the photographs that were prepared, or what the model sees of them; those that the maps know if
                not given.

        Raises:
            NoPicturesError: if none are known.
            ValueError: if a picture cannot be what was prepared.
            UnreadableImageError: a ValueError, if a photograph cannot be opened any more.
        """
        if pictures is not None:
            return [(each, self._placement(each, grid_size)) for each in map(upright_rgb, pictures)]
        if self.photographs is None:
            raise NoPicturesError(
                "These maps do not know the pictures that they are of: give them, maps.view(pictures=[...]), the "
                "photographs that were prepared or what the model sees of them."
            )
        opened = [each.open() for each in self.photographs]
        return [(each, None if self.as_seen else self._placement(each, grid_size)) for each in opened]

    def _placement(self, picture: Image.Image, grid_size: tuple[int, int]) -> Placement | None:
        if self.geometry is None:
            refuse_other_shape(picture, grid_size)
            return None
        if self.as_seen and picture.size == self.geometry.input_size:
            return None
        return self.geometry.placement(picture.size)


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
