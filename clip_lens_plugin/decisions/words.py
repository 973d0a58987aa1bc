"""The gap between two texts over their words."""

from __future__ import annotations

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from clip_lens_plugin.adapters.checks.structure import SourceMismatchError
from clip_lens_plugin.adapters.tower import UnsupportedTowerError
from clip_lens_plugin.decisions.gaps import GapTable
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.parts.component_shares import component_scores
from clip_lens_plugin.decomposition.running.text_runs import decompose_text
from clip_lens_plugin.model.protocol import ImageTextModel
from clip_lens_plugin.model.text.spelling import Spelt
from clip_lens_plugin.numerics.precision import full_precision


@full_precision()
def word_table(
    model: ImageTextModel, image: Float[Tensor, "1 e"], texts: tuple[str, str], gap: float
) -> GapTable | None:
    """What each word of both texts adds through the text tower's heads: part, text, word, gap; and what no head adds.

    A word of the second text adds to the gap what it takes from that text's cosine. What the tokenizer adds stands in
    brackets.

    Args:
        model: whose text tower it is.
        image: its unit embedding.
        texts: the two.
        gap: the first cosine less the second.

    Returns:
        None if the text tower cannot be taken apart.

    Raises:
        SourceMismatchError: if it does not give its source's embeddings.
    """
    try:
        found = decompose_text(model, list(texts)).normalized()
    except SourceMismatchError:
        raise
    except UnsupportedTowerError:
        return None
    by_text = zip((1.0, -1.0), found.spelt, found.by_word(), strict=True)
    rows = [row for sign, text, by_word in by_text for row in _words(text, by_word, sign, image)]
    scores = component_scores(found, image.to(found.embedding).expand(2, -1))
    first, second = ({name: float(each[i].sum()) for name, each in scores.items()} for i in range(2))
    rows += [(part, None, None, first[part] - second[part]) for part in scores if part != "heads"]
    return GapTable.of("words", pd.DataFrame(rows, columns=["part", "text", "word", "gap"]), gap)


def _words(
    text: Spelt, by_word: Float[Tensor, "w e"], sign: float, image: Float[Tensor, "1 e"]
) -> list[tuple[str, str | None, str | None, float]]:
    along = equations.towards(by_word, image.to(by_word))[:, 0].double().tolist()
    return [("word", text.name, word.text, sign * value) for word, value in zip(text.words, along, strict=True)]
