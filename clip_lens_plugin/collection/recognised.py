"""Whether a path is that of a store."""

from __future__ import annotations

import os

from clip_lens_plugin.collection.checks.description import DESCRIPTION, GROUP
from clip_lens_plugin.collection.place import plain_path
from clip_lens_plugin.collection.plan import PLAN_FILE


def is_store(source: str | None) -> bool:
    """Whether it is the place of a store, and no data set."""
    if source is None:
        return False
    source = plain_path(source)
    if "://" in source:
        return not (source.endswith(".tar") or "{" in source)
    return any(os.path.lexists(os.path.join(source, key)) for key in (PLAN_FILE, DESCRIPTION, GROUP))
