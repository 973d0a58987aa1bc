"""The embedding of each image's text, and of those that it is contrasted with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.arguments import checked_texts
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.texts.embedding import embed_texts
from clip_lens_plugin.texts.templates import Template, fill


@dataclass(frozen=True)
class TextTargets:
    """Unit embeddings of texts: the mean over the templates of each text's unit embeddings, normalised again.

    Attributes:
        rows: text to its row of the embeddings.
        embeddings: [t, e].
        against: rows of the texts that others are contrasted with; a text is not contrasted with itself.
    """

    rows: dict[str, int]
    embeddings: Float[Tensor, "t e"]
    against: tuple[int, ...]

    @classmethod
    def of(
        cls, model: HookedCLIP, texts: Sequence[str], against: Iterable[str] | None, templates: Iterable[Template]
    ) -> TextTargets:
        """Encodes all texts at once.

        Args:
            model: whose text tower is used.
            texts: of the images.
            against: the texts themselves if None.
            templates: texts with "{}", or functions from text to text.

        Raises:
            ValueError: if there is no text or template, or the model has no tokenizer.
        """
        others = list(texts) if against is None else checked_texts("against", against)
        filled = [templates] if isinstance(templates, str) else list(templates)
        if not filled:
            raise ValueError("templates must hold one or more, such as 'a photo of a {}'; got none.")
        every = list(dict.fromkeys([*texts, *others]))
        found = embed_texts(model, [fill(each, text) for text in every for each in filled], mean_of=len(filled))
        rows = {text: row for row, text in enumerate(every)}
        return cls(rows, found, tuple(dict.fromkeys(rows[text] for text in others)))

    def has_others(self, texts: Sequence[str]) -> bool:
        """Whether each of the texts has another one to be contrasted with."""
        return all(set(self.against) - {self.rows[text]} for text in texts)

    def targets(self, texts: Sequence[str]) -> Float[Tensor, "b e"]:
        """Targets for one text per image."""
        return self.embeddings[[self.rows[text] for text in texts]]

    def others(self, texts: Sequence[str]) -> list[tuple[list[int], Float[Tensor, "s c e"]]]:
        """What texts are contrasted with, in parts that have as many others: positions of texts, and their others."""
        parts: dict[int, tuple[list[int], list[list[int]]]] = {}
        for i, text in enumerate(texts):
            chosen = [row for row in self.against if row != self.rows[text]]
            at, found = parts.setdefault(len(chosen), ([], []))
            at.append(i)
            found.append(chosen)
        return [
            (at, self.embeddings[torch.tensor(found, device=self.embeddings.device)]) for at, found in parts.values()
        ]
