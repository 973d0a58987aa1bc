"""A gallery of neurons: texts on either side of what each adds through later heads, over the images of that side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from PIL import Image

from clip_lens_plugin.higher_order.frozen_run import FROZEN
from clip_lens_plugin.retrieval.strongest import DescribedNeuron, StrongestNeurons
from clip_lens_plugin.views.drawing.numbers import signed
from clip_lens_plugin.views.drawing.templates import TEMPLATES
from clip_lens_plugin.views.drawing.thumbnails import Thumbnails
from clip_lens_plugin.views.drawing.view import View
from clip_lens_plugin.views.words.neurons import MOST_IMAGES, share_in_words, sides_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def neuron_gallery_view(found: StrongestNeurons, pictures: Mapping[int, Image.Image] | None) -> View:
    """One card per neuron: texts and images on either side of the direction along which its effect varies most.

    Args:
        found: see :func:`~clip_lens_plugin.retrieval.strongest_neurons`.
        pictures: by position in the data set; None to show names in their place.

    Raises:
        KeyError: if the picture of an image is missing.
    """
    shown = [image for each in found.neurons for image in each.images[:MOST_IMAGES]]
    thumbnails = Thumbnails.of([image.position for image in shown], pictures)
    title = f"The {len(found)} strongest neurons of layer {found.layer}"
    if found.n_neurons == 1:
        title = f"Neuron {found.neurons[0].neuron} of layer {found.layer}"
    body = TEMPLATES.get_template("neurons.html.j2").render(
        frozen=FROZEN, found=found, cards=[_card(each) for each in found.neurons], thumbnails=thumbnails
    )

    def figure() -> Figure:
        from clip_lens_plugin.views.figures.neurons.neurons import (
            neurons_figure,  # matplotlib, which a page does without.
        )

        return neurons_figure(found, pictures, title)

    return View(title, thumbnails.style + Markup(body), figure)


def _card(neuron: DescribedNeuron) -> dict[str, Any]:
    sides = [
        {
            "sign": sign,
            "texts": [{"text": each.text, "score": signed(each.score, 3)} for each in texts],
            "images": [{"row": each.position, "name": each.name, "score": each.along} for each in images],
        }
        for sign, texts, images in sides_of(neuron)
        if texts or images
    ]
    return {
        "neuron": neuron.neuron,
        "strength": f"{neuron.strength:.1e}",
        "share": share_in_words(neuron),
        "sides": sides,
    }
