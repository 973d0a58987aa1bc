"""The methods of saliency maps by name, each called the same way.

Where a method takes a text, its target is the same contrast for all: the cosine with the text less the mean cosine with
those that it is contrasted with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_choice
from clip_lens_plugin.model.hooks.interventions import refuse_hooks
from clip_lens_plugin.model.protocol import ImageTextModel
from clip_lens_plugin.saliency import chance, own
from clip_lens_plugin.saliency.contrast import contrast_of
from clip_lens_plugin.saliency.published import attention_maps, dense, gradcam, gradient_maps, legrad

Images = Float[Tensor, "b 3 height width"]
Texts = Float[Tensor, "b e"]
Against = Float[Tensor, "b c e"]
Maps = Float[Tensor, "b rows columns"]

PLAIN = "A saliency map is of the plain model"


@dataclass(frozen=True)
class SaliencyMethod:
    """A way to say where in an image a model sees a text, or what it looks at whatever the text.

    Attributes:
        name: by which it is asked for.
        takes_text: whether its maps depend on the text.
        maps: from the model, b preprocessed images, a unit text embedding for each of them [b, e], and those that it is
            contrasted with [b, c, e] or None, to one value for each patch [b, rows, columns]: float32 or better, on the
            model's device, greater where the method sees the text. It refuses a model with hooks on it (ValueError).
        title: what it is called in tables and pictures.
        source: who published it.
    """

    name: str
    takes_text: bool
    maps: Callable[[ImageTextModel, Images, Texts, Against | None], Maps]
    title: str = ""
    source: str = ""


def _with_text(
    name: str, of_contrast: Callable[[ImageTextModel, Images, Texts], Maps], title: str, source: str
) -> SaliencyMethod:
    """A method whose map is of a contrast."""

    def maps(model: ImageTextModel, images: Images, texts: Texts, against: Against | None) -> Maps:
        with model.alone():
            refuse_hooks(model, PLAIN)
            return of_contrast(model, images, contrast_of(texts, against))

    return SaliencyMethod(name, True, maps, title, source)


def _of_any_text(
    name: str, of_images: Callable[[ImageTextModel, Images], Maps], title: str, source: str
) -> SaliencyMethod:
    """A method that does not look at the text."""

    def maps(model: ImageTextModel, images: Images, texts: Texts, against: Against | None) -> Maps:
        with model.alone():
            refuse_hooks(model, PLAIN)
            return of_images(model, images)

    return SaliencyMethod(name, False, maps, title, source)


PAPER = "Gandelsman, Efros and Steinhardt 2024"

METHODS: Mapping[str, SaliencyMethod] = MappingProxyType(
    {
        method.name: method
        for method in (
            _with_text("patch_text", own.patch_text, "Patch-text map, all heads", PAPER),
            _with_text("last_layers", own.last_layers, "Patch-text map, last four layers", PAPER),
            _with_text("maskclip", dense.maskclip, "MaskCLIP values", "Zhou, Loy and Dai 2022"),
            _with_text("v_v", dense.v_v, "Value-value attention", "Li et al. 2023, Lan et al. 2024"),
            _with_text("patches", dense.patches, "Plain patch embeddings", ""),
            _with_text("grad_eclip", gradient_maps.grad_eclip, "Grad-ECLIP", "Zhao et al. 2024"),
            _with_text("legrad", legrad.legrad, "LeGrad", "Bousselham et al. 2025"),
            _with_text("chefer", gradient_maps.chefer, "Chefer et al., all layers", "Chefer, Gur and Wolf 2021"),
            _with_text(
                "chefer_last", gradient_maps.chefer_last, "Chefer et al., last layer", "Chefer, Gur and Wolf 2021"
            ),
            _with_text("gradcam", gradcam.gradcam, "GradCAM on tokens", "Selvaraju et al. 2017"),
            _with_text(
                "gradcam_attention", gradient_maps.gradcam_attention, "GradCAM on attention", "Selvaraju et al. 2017"
            ),
            _of_any_text("rollout", attention_maps.rollout, "Attention rollout", "Abnar and Zuidema 2020"),
            _of_any_text("raw_attention", attention_maps.raw_attention, "Attention of the last layer", ""),
            _of_any_text("random", chance.random, "Random", ""),
        )
    }
)
"""Name to method."""


def resolved_method(given: Any) -> SaliencyMethod:
    """The method of this name, or the one that was given.

    Raises:
        ValueError: if it is neither; the message names those that there are.
    """
    return given if isinstance(given, SaliencyMethod) else METHODS[checked_choice("method", given, tuple(METHODS))]
