"""The data that a user gives to an analysis: contributions, a store or its path, or images."""

from __future__ import annotations

import os
from typing import Any

from clip_lens_plugin.collection.recognised import is_store
from clip_lens_plugin.collection.store import ContributionStore
from clip_lens_plugin.decomposition.analysed import Analysed
from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.decomposition.running.runs import decompose_images
from clip_lens_plugin.model.protocol import ImageModel


def is_path_of_store(given: Any) -> bool:
    """Whether it is the path of a store."""
    return isinstance(given, str | os.PathLike) and is_store(os.fspath(given))


def data_of(given: Any, model: ImageModel | None = None) -> Data:
    """Contributions or a store as they are; the store at a path; or the contributions of images.

    Args:
        given: what is to be analysed. Images are what :mod:`clip_lens_plugin.model.inputs.given` says.
        model: that images are run through, and a store is opened with; a store finds its own if not given.

    Raises:
        ValueError: if it is neither, or images without a model; or as ``ContributionStore.open``.
    """
    if isinstance(given, Analysed):
        return given
    if is_path_of_store(given):
        return ContributionStore.open(given, model)
    if model is None and hasattr(given, "cfg"):
        raise ValueError(
            f"Contributions, a store or the path of one come first, got a model ({type(given).__name__}): leave it "
            f"out, since these know theirs."
        )
    if model is None:
        got = repr(given) if isinstance(given, str | os.PathLike) else f"a {type(given).__name__}"
        raise ValueError(
            f"Contributions, a store or the path of one are expected, got {got}. For images, give "
            f"model.decompose(images), which takes the path of a picture or a folder as well; or the path of what "
            f"collect(model, images, OUT) wrote, which knows the labels of a folder's classes too."
        )
    return decompose_images(model, given)
