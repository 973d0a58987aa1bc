"""Labels in the members of a webdataset's samples: a number or a name as text, or under a key of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clip_lens_plugin.hints import given_as
from clip_lens_plugin.images.pictures import UnreadableImageError
from clip_lens_plugin.labelling.columns import LABEL_NAMES, column_given

FIRST_KEYS = ("label", "cls")
"""Keys of JSON that go before any other."""
_MOST_SHOWN = 40  # characters of a label


def from_text(content: bytes) -> int | str:
    """The number or name that a text member holds.

    Raises:
        UnreadableImageError: if it is no UTF-8 text, blank, or a number with a fraction.
    """
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        raise no_label(content.decode("utf-8", "replace")) from None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        float(text)
    except ValueError:
        if text and text.isprintable():
            return text
    raise no_label(text)


def from_json(content: bytes, keys: Sequence[str]) -> int | str | None:
    """The number or name under the first of the keys that is there and not null; None without any.

    Raises:
        UnreadableImageError: if it is no JSON, or the value is of another kind.
    """
    record = record_of(content)
    given: Any = next((record[key] for key in keys if record.get(key) is not None), None)
    if given is None or (isinstance(given, int | str) and not isinstance(given, bool)):
        return from_text(given.encode("utf-8", "replace")) if isinstance(given, str) else given
    raise no_label(str(given))


def record_of(content: bytes) -> dict[str, Any]:
    """The object in a .json member; empty where it is something else. Raises UnreadableImageError if it is no JSON."""
    try:
        record = json.loads(content)
    except RecursionError:
        raise UnreadableImageError("its .json member is nested too deeply to be read") from None
    except ValueError:
        raise UnreadableImageError("its .json member is no JSON, so that its label is unknown") from None
    return record if isinstance(record, dict) else {}


def keys_of(record: Mapping[str, Any], wanted: str | None) -> tuple[str, ...]:
    """The keys that labels are under, as the first record has them; none if none looks like one.

    Raises:
        ValueError: if there is no such key, or several may be meant.
    """
    if wanted is not None:
        if wanted not in record:
            raise ValueError(
                f"There is no {given_as('label_column')} {wanted!r}: the .json members have the keys {[*record][:20]}."
            )
        return (wanted,)
    if any(record.get(key) is not None for key in FIRST_KEYS):
        return FIRST_KEYS
    found = [key for key in record if key.lower() in LABEL_NAMES and record[key] is not None]
    if len(found) > 1:
        raise ValueError(
            f"The .json members have several keys that may be labels, {found}: choose one, {column_given(found[0])}."
        )
    return tuple(found)


def number_in(value: int | str | None, code: Mapping[str, int] | None) -> int:
    """The label as a number, -1 for None.

    Raises:
        UnreadableImageError: if it is a name and the classes have none, or not that one, or a number below -1.
    """
    if value is None:
        return -1
    if isinstance(value, str):
        if code is None or value not in code:
            raise no_label(value)
        return code[value]
    if value < -1 or value >= 2**31:
        raise no_label(str(value))
    return value


def classes_in(values: Iterable[int | str | None]) -> tuple[str, ...]:
    """The distinct names, sorted.

    Raises:
        ValueError: if there are numbers among them.
    """
    found = set(values) - {None}
    numbers = [value for value in found if not isinstance(value, str)]
    if numbers:
        raise ValueError(f"Labels in the shards are names and whole numbers, as {numbers[0]}; expected one kind.")
    return tuple(sorted(str(value) for value in found))


def no_label(given: str) -> UnreadableImageError:
    """The error that says what stands in the place of a label."""
    return UnreadableImageError(
        f"its label is {given[:_MOST_SHOWN]!r}, expected an integer from -1 on or the name of a class"
    )
