"""The data set that a command's argument means, and the drawn scenes where there is none."""

from __future__ import annotations

from clip_lens_plugin.scenes.dataset import ScenesDataset
from clip_lens_plugin.sources.choose import as_source
from clip_lens_plugin.sources.part import PartOfSource
from clip_lens_plugin.sources.source import ImageSource

N_SCENES = 2000
ATTRIBUTE = "background"
SCENES_SEED = 20_261
"""Neither the training scenes' seed nor that of the scenes that accuracy is measured on."""


def source_of(dataset: str | None, limit: int | None, attribute: str | None) -> ImageSource:
    """The data set, or drawn scenes labelled with the attribute.

    Args:
        dataset: a folder, or .tar shards with braces; see :func:`~clip_lens_plugin.sources.choose.as_source`.
        limit: most samples, evenly spaced; of drawn scenes the first.
        attribute: of drawn scenes; :data:`ATTRIBUTE` if not given.

    Raises:
        ValueError: if it cannot be used, or an attribute is given for a data set.
        FileNotFoundError: if a shard is missing.
    """
    if dataset is None:
        return as_source(ScenesDataset(limit or N_SCENES, SCENES_SEED, attribute or ATTRIBUTE))
    if attribute is not None:
        raise ValueError(f"--attribute {attribute} is for drawn scenes; {dataset} has labels of its own, or none.")
    source = as_source(dataset)
    return source if limit is None or limit >= len(source) else PartOfSource(source, limit)
