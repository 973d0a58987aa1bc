"""Scores of images so far in a file, so that a long set that was cut off goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clip_lens_plugin.files.given import refuse_not_regular
from clip_lens_plugin.files.whole import check_place, whole_files
from clip_lens_plugin.hints import hint
from clip_lens_plugin.labelling.names import few
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.model.identity.fingerprints import Fingerprints, weights_digest

PLAN = b"clip_lens_plugin.segmentation"
SECONDS = 30.0
"""From one writing to the next."""

Row = dict[str, Any]


@dataclass
class KeptRows:
    """Rows of images that are scored, in the order of the data set, and the file that they are written to.

    Attributes:
        path: None to keep nothing.
        plan: what the scores depend on.
        rows: so far.
    """

    path: Path | None
    plan: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    _written: float = field(default_factory=monotonic)

    @classmethod
    def of(cls, path: str | Path | None, plan: dict[str, Any]) -> KeptRows:
        """The rows of an earlier run of the same plan, or none.

        Raises:
            ValueError: if the file is none that this wrote, or of another plan; the message says what differs.
            OSError: if it cannot be read, or its place cannot be written to.
        """
        if path is None:
            return cls(None, plan)
        place = Path(path)
        check_place(place)
        if not place.exists():
            return cls(place, plan)
        refuse_not_regular(place)
        try:
            found = pq.read_table(place)
            was = json.loads((found.schema.metadata or {})[PLAN])
        except (pa.ArrowException, KeyError, ValueError, RecursionError) as error:
            raise ValueError(
                f"{place} holds no scores of an earlier run, so it is left as it is. Give {_given_as()} another file."
            ) from error
        differing = sorted(name for name in {*was, *plan} if was.get(name) != plan.get(name))
        if differing:
            raise ValueError(
                f"{place} holds scores of another run: {few(differing)} differ. Give {_given_as()} another file, or "
                f"run what is in it."
            )
        return cls(place, plan, found.to_pylist())

    def n_images(self, n_kinds: int) -> int:
        """How many images are scored."""
        return len(self.rows) // n_kinds

    def add(self, rows: Sequence[Row]) -> None:
        """Adds those of whole images, and writes all now and then."""
        self.rows += rows
        if monotonic() - self._written > SECONDS:
            self.write()

    def write(self) -> None:
        """Writes all rows; the file appears whole or not at all."""
        if self.path is None or not self.rows:
            return
        table = pa.Table.from_pylist(self.rows)  # which keeps NaN, as pandas does not
        plan = json.dumps(self.plan).encode()
        with whole_files() as beside:
            pq.write_table(table.replace_schema_metadata({PLAN: plan}), beside(self.path))
        self._written = monotonic()


def model_plan(model: HookedCLIP) -> dict[str, Any]:
    """What scores depend on of a model: its weights, settings and preprocessing."""
    found = Fingerprints.of(model)
    text = {name: weight for name, weight in model.clip.state_dict().items() if not name.startswith("visual.")}
    return {
        "dtype": found.dtype,
        "architecture": found.architecture,
        "image weights": found.image_weights,
        "image settings": found.image_settings,
        "preprocessing": found.preprocessing,
        "text weights": weights_digest(text),
    }


def _given_as() -> str:
    return hint("resume=", "--resume")
