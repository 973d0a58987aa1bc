"""The labels of a stream: their classes have to be known before it is read."""

from __future__ import annotations

from typing import Any

from clip_lens_plugin.datasets.tar_index import LABEL_SUFFIXES
from clip_lens_plugin.labelling.columns import is_integer, label_column, no_column_note, number_of
from clip_lens_plugin.labelling.members import FIRST_KEYS, from_json, from_text, number_in
from clip_lens_plugin.labelling.names import classes_note
from clip_lens_plugin.labelling.wordnet import worded


class StreamLabels:
    """The column that a stream's labels are in.

    That is as in a data set with positions, but that a column of texts is none. In shards it is the first of the
    members that may hold a label as a number, else whole numbers under "label" or "cls" in the .json member.

    Attributes:
        column: None if there is none.
        classes: names of the classes; None if they have none.
        note: what is taken for a class, in words.
    """

    def __init__(self, features: Any, wanted: str | None, members: bool) -> None:
        """
        Args:
            features: of the stream.
            wanted: the column, member or key that was asked for.
            members: whether columns are members of shards, as they stand there.

        Raises:
            ValueError: if there is no such column, several may be meant, or its classes are not known.
        """
        self._members = members
        self._keys: tuple[str, ...] = ()
        self.column: str | None = None
        self.classes: tuple[str, ...] | None = None
        self._code: dict[str, int] | None = None
        self.note = no_column_note(features)
        if members:
            self._of_members(features, wanted)
        else:
            self._of_columns(features, wanted)

    def number(self, held: Any, name: str) -> int:
        """The label as a number, -1 where there is none.

        Raises:
            UnreadableImageError: if a member of a shard holds something else.
            ValueError: if a column does.
        """
        if held is None or self.column is None:
            return -1
        if not self._members:
            return number_of(held, f"The column {self.column}", self._code, name)
        return number_in(from_json(held, self._keys) if self._keys else from_text(held), None)

    def _of_columns(self, features: Any, wanted: str | None) -> None:
        found = label_column(features, wanted)
        if found is not None and found.kind == "text":
            reason = (
                f"the column {found.name} holds texts, and a stream's are not known before it ends: "
                f"stream.cast_column({found.name!r}, datasets.ClassLabel(names=[...])) says them"
            )
            if wanted is not None:
                raise ValueError(f"There are no classes: {reason}.")
            self.note = f"no labels: {reason}"
        elif found is not None:
            self.column, classes = found.name, found.classes
            self.classes = None if classes is None else worded(classes)
            self._code = None if classes is None else {name: i for i, name in enumerate(classes)}
            origin = f"the column {found.name}"
            numbers = f"labels from {origin}: whole numbers without names"
            self.note = numbers if self.classes is None else classes_note(self.classes, origin)

    def _of_members(self, features: Any, wanted: str | None) -> None:
        held = features.get("json")
        keys = held if isinstance(held, dict) else {}
        suffixes = LABEL_SUFFIXES if wanted is None else (wanted.removeprefix(".").lower(),)
        asked = FIRST_KEYS if wanted is None else (wanted,)
        self.column = next((suffix for suffix in suffixes if suffix != "json" and suffix in features), None)
        if self.column is None and any(is_integer(keys.get(key)) for key in asked):
            self.column, self._keys = "json", asked
        if self.column is not None:
            where = f"{' or '.join(self._keys)} in the .json members" if self._keys else f"the .{self.column} members"
            self.note = f"labels from {where}: whole numbers without names"
        elif wanted is not None:
            raise ValueError(
                f"There is no label_column {wanted!r} of whole numbers: the members are {[*features]}, the keys of "
                f".json {[*keys]}."
            )
