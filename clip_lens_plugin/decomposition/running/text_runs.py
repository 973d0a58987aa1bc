"""From texts to the contributions of every component and word of a text tower."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from clip_lens_plugin.arguments import checked_number, checked_texts
from clip_lens_plugin.bars import tracked
from clip_lens_plugin.decomposition.constants import Constants, GivenConstants, checked_constants
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.decomposition.running.activations import factors_from_images
from clip_lens_plugin.decomposition.running.runs import checked_sum
from clip_lens_plugin.decomposition.text_contributions import TextContributions
from clip_lens_plugin.model.bridged import resolved
from clip_lens_plugin.model.protocol import TextModel

IN_RUN = 32
"""Texts in a run, if not given."""


def decompose_text(
    model: Any,
    texts: Any,
    *,
    tokens: bool = True,
    neurons: bool = False,
    constants: GivenConstants = "separate",
    batch_size: int | None = None,
    strict: bool = False,
    progress: bool = False,
) -> TextContributions:
    """The exact contributions of texts: of each layer, head and word, in the space that CLIP shares with images.

    The equations are those of images (Gandelsman, Efros and Steinhardt, ICLR 2024, equations 1 to 4), with ω at the
    one token of each text that is pooled. Hooks that are on ``model.text`` stay in force.

    Args:
        model: a ``HookedCLIP``, its text tower ``model.text``, or a ``TransformerBridge`` of a CLIP.
        texts: one or more; or token ids [t, n], padded to the tower's length.
        tokens: keep what single tokens contribute, and so what words do.
        neurons: keep what single neurons contribute.
        constants, strict: see :func:`decompose`.
        batch_size: texts in each run of the text tower, 32 if not given.
        progress: show a progress bar.

    Raises:
        UnsupportedTowerError: if the text tower is of another architecture, or has a feature that is not supported.
        ValueError: if there is no text, or no tokenizer for one; or if token ids are of another length.
        CompletenessError: in strict mode, if the parts of a text do not sum to its embedding.
    """
    constants = checked_constants(constants)
    text = model if isinstance(model, TextModel) else resolved(model).text
    given = texts if isinstance(texts, str | Tensor) else checked_texts("decompose_text", texts)
    ids, spelt = text.to_tokens(given), text.spelt(given)
    size = IN_RUN if batch_size is None else checked_number("batch_size", batch_size)
    with torch.no_grad():
        made = _runs(text, ids, size, tokens, neurons, constants, strict, progress)
        return checked_sum(TextContributions.joined(made, len(ids), spelt), strict)


def _runs(
    text: TextModel,
    ids: Int[Tensor, "t n"],
    size: int,
    tokens: bool,
    neurons: bool,
    constants: Constants,
    strict: bool,
    progress: bool,
) -> Iterator[TextContributions]:
    readout = Readout.of(text)
    for start in tracked(range(0, len(ids), size), "decomposing", progress):
        factors = factors_from_images(text, ids[start : start + size], tokens, neurons)
        run = TextContributions.of_run(readout, factors, constants)
        del factors
        yield run.check() if strict else run
        del run  # Not to be held while the next is made.
