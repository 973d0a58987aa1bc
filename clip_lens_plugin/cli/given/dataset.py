"""The data set that a command's argument means, and the drawn scenes where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clip_lens_plugin.scenes.seeds import SCENES_SEED

if TYPE_CHECKING:
    from clip_lens_plugin.datasets.source import ImageSource
    from clip_lens_plugin.labelling.values import LabelOrder

N_SCENES = 2000
ATTRIBUTE = "background"


def source_of(
    dataset: str | None,
    limit: int | None,
    attribute: str | None,
    labels: str | None = None,
    label_column: str | None = None,
    label_order: LabelOrder | None = None,
) -> ImageSource:
    """The data set, or drawn scenes labelled with the attribute.

    Args:
        dataset: a folder, or .tar shards with braces; see :func:`~clip_lens_plugin.datasets.choose.as_source`.
        limit: most samples, evenly spaced; of drawn scenes the first.
        attribute: of drawn scenes; :data:`ATTRIBUTE` if not given.
        labels, label_column, label_order: of the data set; see
            :func:`~clip_lens_plugin.datasets.choose.as_source`.

    Raises:
        ValueError: if it cannot be used, an attribute is given for a data set, or labels for drawn scenes.
        FileNotFoundError: if a shard, or the file of labels, is missing.
    """
    from clip_lens_plugin.datasets.choose import as_source
    from clip_lens_plugin.datasets.part import PartOfSource
    from clip_lens_plugin.scenes.dataset import ScenesDataset

    if label_order is not None and labels is None:
        raise ValueError(f"--label-order {label_order} says what the numbers in --labels FILE are: give that too.")
    if dataset is None:
        if labels is not None or label_column is not None:
            raise ValueError(
                "--labels and --label-column are for a data set; drawn scenes are labelled by --attribute."
            )
        return as_source(ScenesDataset(limit or N_SCENES, SCENES_SEED, attribute or ATTRIBUTE))
    if attribute is not None:
        raise ValueError(f"--attribute {attribute} is for drawn scenes; {dataset} has labels of its own, or none.")
    source = as_source(dataset, labels=labels, label_column=label_column, label_order=label_order)
    return source if limit is None or limit >= len(source) else PartOfSource(source, limit)
