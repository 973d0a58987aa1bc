"""What a data set without positions becomes: samples in order of arrival, and a state to go on from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from clip_lens_plugin.datasets.source import Sample

State = dict[str, Any]
"""Where a stream stands, in JSON's types."""


@dataclass(frozen=True)
class Arrival:
    """One sample as it came, not opened yet.

    Attributes:
        number: of its arrival, counted from 0; ``operator.index`` gives it.
        name: the sample's own key, or else the number in eight digits.
        image: what the stream holds of the image: the bytes or the path of a file.
        label: what it holds of the label.
    """

    number: int
    name: str
    image: Any
    label: Any

    def __index__(self) -> int:
        return self.number


@runtime_checkable
class StreamSource(Protocol):
    """A data set that is read from its beginning to its end, or on from a state that was kept.

    ``read`` and ``name`` may be called in another process than the one that ``arrivals`` runs in.
    """

    @property
    def description(self) -> str:
        """What it is, for messages and for the results: "Hugging Face stream laion, split train"."""
        ...

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes; None if they have no names or there are no labels."""
        ...

    def arrivals(self, state: State | None = None, first: int = 0) -> Iterator[Arrival]:
        """The samples that come after a state, the first of them with the number ``first``; all if there is none."""
        ...

    def state(self) -> State:
        """Where the stream stands after the latest arrival.

        Raises:
            ValueError: if JSON cannot hold it.
        """
        ...

    def name(self, arrival: Arrival) -> str:
        """The name of an arrival."""
        ...

    def read(self, arrival: Arrival) -> Sample:
        """The sample of an arrival, opened.

        Raises:
            UnreadableImageError: if there is no usable picture or label; the message is the reason.
            ValueError: if the stream gives something else than a picture and an integer.
        """
        ...

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, over what is known of the stream before it is read."""
        ...

    def split(self, rank: int, world: int) -> StreamSource:
        """The part of process ``rank`` of ``world`` processes; every sample is in one part.

        Raises:
            ValueError: if it cannot be split.
        """
        ...


def checked_state(state: Any, stream: str) -> State:
    """The state, if JSON gives it back as it is.

    Args:
        state: of a stream.
        stream: what it is, for the message.

    Raises:
        ValueError: if it holds anything else than JSON's types.
    """
    try:
        kept = json.loads(json.dumps(state, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(_not_json(stream, str(error))) from error
    if not isinstance(state, dict) or kept != state or _has_tuple(state):
        raise ValueError(_not_json(stream, "tuples, or keys that are no texts"))
    return kept


def _has_tuple(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_tuple, value.values()))
    return isinstance(value, tuple) or (isinstance(value, list) and any(map(_has_tuple, value)))


def _not_json(stream: str, how: str) -> str:
    return (
        f"The state of the {stream} holds more than JSON can ({how}), so that it cannot be kept: a run could not be "
        f"resumed. Take off the step that adds it, or save the stream and collect what was saved."
    )
