"""The classifier of classes that are known by their names alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clip_lens_plugin.decomposition.contributions import Data
from clip_lens_plugin.model.protocol import ImageTextModel
from clip_lens_plugin.scenes.attributes import ATTRIBUTES
from clip_lens_plugin.scenes.captions import TEMPLATES, prompts
from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier

NOUN_TEMPLATES = ("{}", "a photo of a {}", "a picture of a {}")


def classifier_by_names(
    model: ImageTextModel, names: Sequence[str], on_progress: Callable[[int, int], object] = lambda done, total: None
) -> ZeroShotClassifier:
    """A classifier of the classes, with :data:`NOUN_TEMPLATES`; what is said of drawn scenes is a phrase already.

    Raises:
        ValueError: as :meth:`ZeroShotClassifier.from_labels`.
    """
    phrases = any(list(names) == prompts(attribute) for attribute in ATTRIBUTES)
    return ZeroShotClassifier.from_labels(model, names, TEMPLATES if phrases else NOUN_TEMPLATES, on_progress)


def classifier_of_data(data: Data) -> ZeroShotClassifier:
    """A classifier of the data's own classes, with spaces for the underscores of their names.

    Raises:
        ValueError: if the data name no classes, or the model has no texts.
    """
    if data.classes is None:
        raise ValueError(
            "These data name no classes, so there is nothing to classify into: give classes, "
            "ZeroShotClassifier.from_labels(model, names), and labels, or collect folders of classes."
        )
    return classifier_by_names(data.readout.image_model, [name.replace("_", " ") for name in data.classes])
