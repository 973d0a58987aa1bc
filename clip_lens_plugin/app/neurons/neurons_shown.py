"""How neurons are shown: a table of numbers, bars of the picture, cards with texts and images; and saved so."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from clip_lens_plugin.app.answers import Rows
from clip_lens_plugin.app.neurons.neuron_words import Words
from clip_lens_plugin.app.neurons.neurons import Pushes
from clip_lens_plugin.plain_text import signed
from clip_lens_plugin.shown import Shown
from clip_lens_plugin.views.drawing.view import View
from clip_lens_plugin.views.neurons.neuron_pushes import PLACES, neuron_pushes_view
from clip_lens_plugin.views.neurons.neurons import neuron_gallery_view
from clip_lens_plugin.views.sparse import sparse_view

MOST_CARDS = 12
"""Texts with a card of their own; the table has all."""


@dataclass(frozen=True, eq=False, repr=False)
class NeuronsShown(Shown):
    """What the page shows.

    Attributes:
        picture: its name.
        pushes: on it.
        neuron: that was asked about; None for all of the layer.
        own: the neurons of the table, the strongest on the picture first.
        words: what they are over the pictures; None before that is known.
        note: what more is to be said, a sentence.
    """

    picture: str
    pushes: Pushes
    neuron: int | None
    own: list[int]
    words: Words | None = None
    note: str = ""

    def rows(self) -> Rows:
        """One row per text of one neuron; of a layer one row per neuron, and one for all of them together."""
        texts, values = self.pushes.texts, self.pushes.values
        if self.neuron is not None:
            rows: Rows = [("text", "push", f"place of {len(values):,} neurons")]
            pushes = zip(texts, values[self.neuron].tolist(), self.pushes.places(self.neuron), strict=True)
            return [*rows, *((text, signed(push, PLACES), str(place)) for text, push, place in pushes)]
        words = ("place over the pictures", "+ text", "− text") if self.words is not None else ()
        rows = [("neuron", *(f"push: {text}" for text in texts), *words)]
        for neuron in self.own:
            numbers = tuple(signed(push, PLACES) for push in values[neuron].tolist())
            rows.append((f"L{self.pushes.layer}N{neuron}", *numbers, *self._words(neuron)))
        total = values.double().sum(0).tolist()
        return [*rows, (f"all {len(values):,}", *(signed(push, PLACES) for push in total), *[""] * len(words))]

    def _words(self, neuron: int) -> tuple[str, ...]:
        """Its place among the strongest of the layer, and the first text of either side."""
        if self.words is None:
            return ()
        places = [each.neuron for each in self.words.found.neurons]
        place = f"{places.index(neuron) + 1}." if neuron in places else ""
        described = {each.neuron: each for each in self.words.of_picture}.get(neuron)
        sides = ((), ()) if described is None else (described.positive, described.negative)
        return place, *(side[0].text if side else "" for side in sides)

    def views(self) -> list[View]:
        """The picture's bars; then cards of neurons, and of one neuron its direction in texts."""
        views = [self._bars()]
        if self.words is not None:
            views.append(neuron_gallery_view(self.words.found, self.words.pictures or None))
            if self.words.direction is not None:
                views.append(sparse_view(self.words.direction))
        return views

    def view(self) -> View:
        """All of them as one; its static picture is that of the neurons' texts and images, once they are known."""
        views = self.views()
        body = views[0].body
        for each in views[1:]:
            body += each.html()
        return View(self._title, body, views[min(1, len(views) - 1)].figure)

    @property
    def _title(self) -> str:
        what = f"Neurons of layer {self.pushes.layer}"
        if self.neuron is not None:
            what = f"Neuron {self.neuron} of layer {self.pushes.layer}"
        return f"{what} on {self.picture}"

    def _bars(self) -> View:
        texts, values, layer = self.pushes.texts, self.pushes.values, self.pushes.layer
        if self.neuron is not None:
            cards = {f"L{layer}N{self.neuron}": list(zip(texts, values[self.neuron].tolist(), strict=True))}
        else:
            cards = {
                text: [(self._named(neuron), float(values[neuron, t])) for neuron in self.own]
                for t, text in enumerate(texts[:MOST_CARDS])
            }
        about = f"what neurons add to the picture's cosine with each text. {self.note}"
        return neuron_pushes_view(self._title, about, cards)

    def _named(self, neuron: int) -> str:
        _, *sides = self._words(neuron) or ("",)
        texts = " / ".join(f"{sign} {text}" for sign, text in zip("+−", sides, strict=False) if text)
        return f"N{neuron}{': ' if texts else ''}{texts}"

    def to_dataframe(self) -> pd.DataFrame:
        """One row per neuron, of the picture or of the layer: its pushes, and what is said of it in words."""
        table = pd.DataFrame({"neuron": self.own})
        if self.words is not None:
            both = (*self.words.of_picture, *self.words.found.neurons)
            every = {each.neuron: each for each in both}
            words = replace(self.words.found, neurons=tuple(every.values())).to_dataframe().drop(columns="layer")
            table = table.merge(words, how="outer", on="neuron")
        table.insert(0, "layer", self.pushes.layer)
        for t, text in enumerate(self.pushes.texts):
            table[f"push: {text}"] = self.pushes.values[table["neuron"].tolist(), t].double().numpy()
        return table
