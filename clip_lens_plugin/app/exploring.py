"""``explore``: the explorer of a model and pictures, in the browser of this machine."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from clip_lens_plugin.app.explored import Explored, Spelled
from clip_lens_plugin.app.server.serve import Server, refuse_without_gradio, serve
from clip_lens_plugin.app.state import texts_of
from clip_lens_plugin.collection.given_data import data_of
from clip_lens_plugin.groups.effects import GroupEffects
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.report.in_reach import given_pictures, pictures_in_reach
from clip_lens_plugin.report.pictures import PixelsInMemory
from clip_lens_plugin.zero_shot.by_names import classifier_of_data

if TYPE_CHECKING:
    from clip_lens_plugin.decomposition.contributions import Data

PHOTOGRAPHS = ("a photo of a dog", "a photo of a cat")
MOST_CLASSES_SHOWN = 5
AS_GIVEN = Spelled(
    "# model and images: what explore(model, images) was given.\ndata = model.decompose(images)",
    "images[{}]".format,
    "effects = GROUPS  # what explore(..., groups=) was given",
)


@takes_bridges
def explore(
    model: HookedCLIP,
    images: Any,
    *,
    texts: Sequence[str] | None = None,
    pictures: Any = None,
    groups: Any = None,
    port: int | None = None,
    open_browser: bool = True,
) -> Server:
    """A running explorer: pages on pictures, decisions, parts that are switched off, and search by a head.

    It answers on this machine alone, at an address with a token that only you know, and loads nothing from outside. It
    runs until ``server.close()`` or the end of the process.

    Args:
        model: with tokenizer and preprocessing.
        images: pictures, their path or a folder's, which are decomposed first; or contributions, a store, or its path.
        texts: what pictures are compared with at first; classes of the data, or a dog and a cat, if not given.
        pictures: the data set that a store was collected from, if it is not found by itself.
        groups: what :func:`~clip_lens_plugin.group_effects` found of these images: heads are coloured by its cue.
        port: of the loopback address; a free one if not given.
        open_browser: open the page at once.

    Raises:
        ModuleNotFoundError: if Gradio is not installed; the message says how.
        ValueError: if there is no image, the model has no texts, ``groups`` are not effects or are another model's, or
            as :meth:`HookedCLIP.decompose` and ``ContributionStore.open``.
        OSError: if the port is taken.
    """
    refuse_without_gradio()
    data = data_of(images, model)
    server = serve_data(model, data, AS_GIVEN, texts=texts, pictures=pictures, groups=groups, port=port)
    if open_browser:
        server.open()
    return server


def serve_data(
    model: HookedCLIP,
    data: Data,
    spelled: Spelled,
    *,
    texts: Sequence[str] | None = None,
    pictures: Any = None,
    groups: Any = None,
    port: int | None = None,
) -> Server:
    """The explorer of data that are there, see :func:`explore`."""
    if len(data) == 0:
        raise ValueError("There is no picture to explore.")
    effects = _checked_groups(model, groups)
    if pictures is not None and data.origin is not None:
        found = given_pictures(data, pictures)
    else:
        found = pictures_in_reach(data)
    if found is None:
        found = PixelsInMemory(torch.empty(0, 3, *model.cfg.image_size), None)
    classifier = None if data.classes is None else classifier_of_data(data)
    if texts is None:
        texts = PHOTOGRAPHS if classifier is None else classifier.names[:MOST_CLASSES_SHOWN]
    explored = Explored(model, data, found, spelled, classifier=classifier, effects=effects)
    chosen = texts_of("\n".join(texts))
    explored.embedded(chosen)  # Says now what keeps it from reading texts.
    threading.Thread(target=explored.read_ahead, daemon=True, name="read ahead").start()

    def page() -> Any:
        from clip_lens_plugin.app.interface import Interface

        return Interface(explored, chosen).blocks()

    return serve(page, port)


def _checked_groups(model: HookedCLIP, groups: Any) -> GroupEffects | None:
    if groups is None:
        return None
    if not isinstance(groups, GroupEffects):
        raise ValueError(
            f"groups takes what group_effects(data, classifier, groups) gives, got {type(groups).__name__}: it says "
            f"which two classes, with which texts, and which cue."
        )
    heads, cfg = groups.heads().shape, model.cfg
    if heads != (cfg.n_layers, cfg.n_heads):
        raise ValueError(
            f"The groups' effects are of a model of {heads[0]} layers with {heads[1]} heads, and this one has "
            f"{cfg.n_layers} with {cfg.n_heads}: give those of this model."
        )
    return groups
