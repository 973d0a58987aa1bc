"""What neurons do through later heads: to the picture, and over all pictures in texts and images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from clip_lens_plugin.app.explored import Spelled
from clip_lens_plugin.app.long_work import Working, awaited
from clip_lens_plugin.app.neurons.neuron_words import COUNT, describable, in_words
from clip_lens_plugin.app.neurons.neurons import checked_neuron, neuron_of, pushes
from clip_lens_plugin.app.neurons.neurons_shown import NeuronsShown
from clip_lens_plugin.app.page import Answer, Page, Question
from clip_lens_plugin.app.state import State

OF_PICTURE = 10
"""Neurons of the table: the strongest on the picture."""

LACKING = "What neurons are in texts and images is not known: that needs two pictures in reach. Give --images."


def _answer(question: Question) -> Iterator[Answer | Working]:
    explored, state = question.explored, question.state
    layer, neuron = checked_neuron(explored.model, state.neuron)
    on_picture = pushes(explored, question.asked, state.texts, layer)
    own = on_picture.strongest(OF_PICTURE) if neuron is None else [neuron]
    shown = NeuronsShown(question.asked.photograph.name, on_picture, neuron, own)
    if not describable(explored, layer):
        yield _shown(replace(shown, note=LACKING))
        return
    yield _shown(shown)
    words = yield from awaited(lambda: in_words(explored, layer, neuron, own), f"describing neurons of layer {layer}")
    yield _shown(replace(shown, words=words, note=words.about))


def _shown(shown: NeuronsShown) -> Answer:
    return Answer(shown.rows(), shown.views(), shown, height=1400)


def _script(state: State, picture: str, spelled: Spelled) -> str:
    layer, neuron = neuron_of(state.neuron)
    of_one, one = ("", "") if neuron is None else (f", [{neuron}]", f", neurons=[{neuron}]")
    return f"""from clip_lens_plugin import second_order
from clip_lens_plugin.retrieval import strongest_neurons
from clip_lens_plugin.texts.fitting import pool_for

picture = {picture}
pushes = second_order(model, picture, {layer}{of_one}).normalized().towards({list(state.texts)!r})
strongest_neurons(data, {layer}, pool_for(model.cfg.model_name)[0], {COUNT}{one}).view()"""


NEURONS = Page(
    "Neurons",
    "What the MLP neurons of a layer add through the heads of later layers: to the cosine of this picture with each "
    "text, and over the pictures, in texts and images of either side. Patterns and statistics are frozen. There is no "
    "chance level for a neuron's texts: of very many, some lie far along any direction, so look at the images too.",
    _answer,
    _script,
    ("neuron",),
)
