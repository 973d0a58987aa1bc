"""What is shown of a neuron, on a page and in a figure: either side of its direction, and its share in words."""

from __future__ import annotations

from clip_lens_plugin.retrieval.strongest import DescribedNeuron, SidedImage, SidedText

MOST_IMAGES = 8
"""Of a neuron that are shown, of both sides together."""

SIDES = ("+", "−")


def sides_of(neuron: DescribedNeuron) -> list[tuple[str, tuple[SidedText, ...], list[SidedImage]]]:
    """Sign, texts and shown images of either side of a neuron's direction; images without a side stand on the first."""
    shown = neuron.images[:MOST_IMAGES]
    positive, negative = [each for each in shown if each.along >= 0], [each for each in shown if each.along < 0]
    return [(SIDES[0], neuron.positive, positive), (SIDES[1], neuron.negative, negative)]


def share_in_words(neuron: DescribedNeuron) -> str:
    """How much of an effect's variance lies along its direction, in words."""
    if neuron.share != neuron.share:
        return "the same for all images"
    return f"{100 * neuron.share:.0f} % along one direction"
