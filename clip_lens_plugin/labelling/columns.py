"""The column of a table that holds the labels, and what one value of it means."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from clip_lens_plugin.dependencies.names import attribute
from clip_lens_plugin.hints import hint

LABEL_NAMES = (
    "label",
    "labels",
    "cls",
    "class",
    "class_id",
    "class_label",
    "class_name",
    "label_id",
    "label_name",
    "category",
    "category_id",
    "category_name",
    "fine_label",
    "coarse_label",
    "target",
    "targets",
    "y",
)
"""Names, in lower case, of columns that are taken for labels without being asked for."""


@dataclass(frozen=True)
class LabelColumn:
    """The column that labels are read from.

    Attributes:
        name: of the column.
        kind: "class" for numbers with names, "number" without, "text" for names.
        classes: the names in the order of their numbers; of texts None until :meth:`with_classes`.
    """

    name: str
    kind: Literal["class", "number", "text"]
    classes: tuple[str, ...] | None = None

    def with_classes(self, values: Iterable[str | None]) -> LabelColumn:
        """The same column of texts, whose classes are the distinct values, sorted; None is no class."""
        return replace(self, classes=tuple(sorted({value for value in values if value is not None})))


def label_column(features: Mapping[str, Any], wanted: str | None = None) -> LabelColumn | None:
    """The label column among the columns of a Hugging Face data set, stream or not; None if none looks like one.

    Args:
        features: name to type, as ``dataset.features``.
        wanted: the column that was asked for; if not given, the only ``ClassLabel``, else the only column of numbers
            or texts under one of :data:`LABEL_NAMES`.

    Raises:
        ValueError: if there is no such column, several may be meant, or it cannot give one label per sample.
    """
    if wanted is not None:
        if wanted not in features:
            raise ValueError(f"There is no label column {wanted!r}; the columns are {[*features]}.")
        return _usable(wanted, features[wanted])
    # A number that has names says more than one beside it without.
    found = [name for name, feature in features.items() if _kind(feature) == "class"]
    if not found:
        named = [name for name in features if name.lower() in LABEL_NAMES and not _is_image(features[name])]
        several = [name for name, feature in features.items() if _holds_class_label(feature)]
        found = list(dict.fromkeys(named + several))
    usable = [name for name in found if _kind(features[name]) is not None]
    if len(usable) > 1:
        raise ValueError(f"The data set has several label columns, {usable}: choose one, {column_given(usable[0])}.")
    if not found:
        return None
    return _usable((usable or found)[0], features[(usable or found)[0]])


def column_given(name: str) -> str:
    """How a column is chosen."""
    return hint(f"label_column={name!r} (--label-column {name})", f"--label-column {name}")


def no_column_note(columns: Iterable[str]) -> str:
    """Why there are no labels, for :attr:`ImageSource.label_notes`."""
    return f"no labels: none of the columns {', '.join(columns)} is known to hold them; label_column= names one"


def number_of(value: Any, column: str, code: Mapping[str, int] | None, name: str) -> int:
    """The label as a number, -1 for None; not compared with the number of classes.

    Args:
        value: a whole number, or the name of a class.
        column: where it stands, for the message.
        code: name of a class to its number; None if the classes have no names.
        name: of the sample.

    Raises:
        ValueError: if it is neither; True and False, and numbers with a fraction, are no labels.
    """
    if value is None:
        return -1
    if isinstance(value, str) and code is not None and value in code:
        return code[value]
    try:
        if isinstance(value, bool) or getattr(value, "ndim", 0) != 0 or "bool" in str(getattr(value, "dtype", "")):
            raise TypeError
        return operator.index(value)  # pyright: ignore[reportArgumentType]
    except TypeError:
        expected = "a whole number" if code is None else "a whole number or the name of a class"
        raise ValueError(
            f"{column} of {name!r} holds {value!r:.60} ({type(value).__name__}); expected {expected}, -1 where it is "
            f"unknown."
        ) from None


def _usable(name: str, feature: Any) -> LabelColumn:
    kind = _kind(feature)
    if kind is None:
        raise ValueError(
            f"The column {name!r} is of type {_type_name(feature)}, which gives no single label per sample; expected "
            f"ClassLabel, whole numbers or texts. Choose another with label_column=, cast it "
            f"(dataset.cast_column), or leave it out: dataset.remove_columns([{name!r}])."
        )
    return LabelColumn(name, kind, tuple(feature.names) if kind == "class" else None)


def _kind(feature: Any) -> Literal["class", "number", "text"] | None:
    # By name, so that nothing is imported for a table that is no Hugging Face data set.
    if type(feature).__name__ == "ClassLabel":
        return "class" if attribute(feature, "names", "datasets", __name__) else "number"
    return "number" if is_integer(feature) else "text" if "string" in _dtype(feature) else None


def is_integer(feature: Any) -> bool:
    """Whether a column of a Hugging Face data set holds one whole number per row, a class's or any other."""
    return type(feature).__name__ == "ClassLabel" or _dtype(feature).startswith(("int", "uint"))


def is_name(feature: Any) -> bool:
    """Whether it holds one text or whole number per row."""
    return is_integer(feature) or "string" in _dtype(feature)


def _dtype(feature: Any) -> str:
    """That of a column of single values, "" for others."""
    return str(attribute(feature, "dtype", "datasets", __name__)) if type(feature).__name__ == "Value" else ""


def _is_image(feature: Any) -> bool:
    return type(feature).__name__ == "Image"


def _holds_class_label(feature: Any) -> bool:
    if type(feature).__name__ in ("List", "LargeList"):
        feature = [attribute(feature, "feature", "datasets", __name__)]
    return isinstance(feature, list) and bool(feature) and type(feature[0]).__name__ == "ClassLabel"


def _type_name(feature: Any) -> str:
    return _dtype(feature) or " ".join(str(feature).split())[:80]
