"""A folder of photographs with masks: ``images/`` and ``masks/``, with the same names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clip_lens_plugin.arguments import checked_index, whole_numbers
from clip_lens_plugin.datasets.image_folder import find_images, folder_labels
from clip_lens_plugin.files.given import UnreachableError, leads_out
from clip_lens_plugin.hints import hint
from clip_lens_plugin.images.pictures import UnreadableImageError, open_upright
from clip_lens_plugin.labelling.names import few
from clip_lens_plugin.labelling.table import read_table
from clip_lens_plugin.labelling.wordnet import text_of
from clip_lens_plugin.segmentation.masked.dataset import MaskedImage
from clip_lens_plugin.segmentation.masked.mask_files import read_mask, read_value_names

IMAGES, MASKS = "images", "masks"
VOID = 255
"""The value of masks that is left out where values have names, as PASCAL VOC's masks have it."""


@dataclass(frozen=True)
class _Found:
    """One image that is scored: its number, its text, and the value of its mask; None for every value but 0."""

    image: int
    text: str
    value: int | None


class MaskFolder:
    """Photographs in ``images/`` and PNG masks of the same names in ``masks/``, with the texts in one of three ways.

    - ``names``: a file with the name of each value of the masks (``17,cat``). A photograph is scored once for each
      named value that its mask holds.
    - ``texts``: a file with a name and a text on each line. All that is not 0 in a mask is what the text names.
    - neither: the folders inside ``images/`` are the texts; WordNet ids stand for their words.

    Photographs and masks are opened one at a time. Those of one photograph are one group.

    Attributes:
        texts: every text once, in the order of the values, or sorted.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        names: str | Path | None = None,
        texts: str | Path | None = None,
        void: Iterable[int] | None = None,
    ) -> None:
        """Lists the photographs and finds their masks; with ``names``, reads every mask once.

        Args:
            folder: which holds ``images`` and ``masks``.
            names: file with the name of each value of the masks; a value without one is background.
            texts: file with a name and a text on each line; see
                :func:`~clip_lens_plugin.labelling.table.read_table`.
            void: values of masks that are left out; 255 with ``names``, unless it has a name, and none without.

        Raises:
            FileNotFoundError: if a folder or a file is missing.
            ImageFolderError: a ValueError, if there are no photographs.
            ValueError: if a photograph has no mask or no text, or ``names`` and ``texts`` are both given.
        """
        self.folder = Path(folder)
        if names is not None and texts is not None:
            one = hint("names= or texts=", "--names or --texts")
            raise ValueError(f"A folder of masks takes {one}: texts by value of the mask, or one text per photograph.")
        for each in (IMAGES, MASKS):
            if not (self.folder / each).is_dir():
                raise FileNotFoundError(
                    f"{self.folder} has no folder {each!r}: expected photographs in {IMAGES}/ and PNG masks of the "
                    f"same names in {MASKS}/."
                )
        images = self.folder / IMAGES
        self._images = find_images(images)
        self._names = [path.relative_to(images).as_posix() for path in self._images]
        self._masks = self._all_masks()
        self._by_value = None if names is None else read_value_names(Path(names))
        chosen = whole_numbers("void", void)
        usual = [VOID] if self._by_value is not None and VOID not in self._by_value else []
        self._void, self._void_chosen = frozenset(usual if chosen is None else chosen), chosen is not None
        self._texts_file = None if texts is None else Path(texts)
        self._found = self._of_values() if self._by_value is not None else self._of_images()

    @property
    def title(self) -> str:
        """What it is, in a line."""
        what = f"{len(self._images):,} photographs of {self.folder.name}"
        return what if len(self) == len(self._images) else f"{what}, {len(self):,} masks of one text each"

    @property
    def texts(self) -> Sequence[str]:
        """Every text once."""
        if self._by_value is None:
            return sorted({each.text for each in self._found})
        return list(dict.fromkeys(name for value, name in self._by_value.items() if value not in self._void))

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, position: Any, /) -> MaskedImage:
        found = self._found[checked_index("image", position, len(self))]
        path, name = self._images[found.image], self._names[found.image]
        try:
            picture = open_upright(path)
        except (UnreadableImageError, UnreachableError) as error:
            raise type(error)(f"{path} cannot be used: {error}.") from error
        values = read_mask(self._masks[found.image])
        if found.value is None:
            self._check_two_values(values, name)
        if values.shape != picture.size[::-1]:
            raise ValueError(
                f"The mask {self._masks[found.image]} has {values.shape[1]} x {values.shape[0]} pixels, the upright "
                f"photograph {picture.size[0]} x {picture.size[1]}: expected the same size."
            )
        void = np.isin(values, sorted(self._void)) if self._void else None
        mask = (values != 0) if found.value is None else values == found.value
        shown_name = name if found.value is None else f"{name}, {found.text}"
        return MaskedImage(shown_name, picture, found.text, mask if void is None else mask & ~void, void, group=name)

    def _all_masks(self) -> list[Path]:
        root = self.folder / MASKS
        stems = Counter(Path(name).stem for name in self._names)
        found = [self._mask_of(Path(name), root, stems[Path(name).stem] == 1) for name in self._names]
        missing = [name for name, path in zip(self._names, found, strict=True) if path is None]
        if missing:
            first = Path(missing[0]).with_suffix(".png").as_posix()
            raise ValueError(
                f"{len(missing):,} of {len(self._names):,} photographs in {self.folder} have no mask: {few(missing)}. "
                f"Expected {MASKS}/{first}, a file inside the folder."
            )
        return [path for path in found if path is not None]

    def _mask_of(self, name: Path, root: Path, alone: bool) -> Path | None:
        """Masks lie in the same folders as the photographs; or all in one, where names tell them apart."""
        for path in (root / name.with_suffix(".png"), *([root / f"{name.stem}.png"] if alone else [])):
            if path.is_file() and not leads_out(path, self.folder):
                return path
        return None

    def _of_values(self) -> list[_Found]:
        named = self._by_value or {}
        found = []
        for i, path in enumerate(self._masks):
            held = [int(value) for value in np.unique(read_mask(path)) if value in named and value not in self._void]
            found += [_Found(i, named[value], value) for value in held]
        if not found:
            raise ValueError(
                f"No mask in {self.folder / MASKS} holds a value that has a name: {few([*named.values()])}."
            )
        return found

    def _of_images(self) -> list[_Found]:
        if self._texts_file is not None:
            texts = read_table(self._texts_file, self._names, None).values
        else:
            folders = folder_labels(self._names) or [None] * len(self._names)
            without = [name for name, folder in zip(self._names, folders, strict=True) if folder is None]
            if without:
                ways = hint("texts='texts.csv'", "--texts texts.csv"), hint("names='names.csv'", "--names names.csv")
                raise ValueError(
                    f"What do the masks in {self.folder} show? {len(without):,} photographs lie in no folder of a "
                    f"class, the first is {without[0]}. Give a file with a photograph's name and its text on each "
                    f"line, {ways[0]}; or one with the name of each value of the masks, {ways[1]}."
                )
            texts = [text_of(str(folder)).replace("_", " ") for folder in folders]
        return [_Found(i, text, None) for i, text in enumerate(texts)]

    def _check_two_values(self, values: np.ndarray, name: str) -> None:
        held = np.unique(values).tolist()
        if len(set(held) - {0} - self._void) > 1 and not self._void_chosen:
            way = hint("void=[255]", "--void 255")
            raise ValueError(
                f"The mask of {name} holds {few([*map(str, held)])}: 0 is background, but which of the others is the "
                f"object, and which is left out? Say what is left out, {way} (or -1 for none of them)."
            )
