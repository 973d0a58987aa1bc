"""Cases of classes, and of groups of images by class and cue."""

from __future__ import annotations

from typing import Any

import torch

import clip_lens_plugin as lens
from clip_lens_plugin import views
from tests.cuda.given import TEXTS, Given, case


@case
def classes(given: Given) -> Any:
    found = lens.class_heads(given.parts, given.labels, TEXTS[:4], permutations=2)
    store = given.collected()
    kept = store.class_sums
    assert isinstance(found, lens.ClassHeads)
    assert isinstance(kept, lens.ClassSums)
    of_store = lens.class_heads(store)
    drawn = views.class_heads_view(found)
    of_heads = lens.eta_squared(given.parts.heads, given.labels, dim=-1)
    assert of_heads.device == given.parts.heads.device
    return found.to_dataframe(), of_store.to_dataframe(), kept.counts.tolist(), drawn.title, of_heads


@case
def groups(given: Given) -> Any:
    pixels = torch.cat([given.images, given.others])
    number = torch.arange(len(pixels)).tolist()
    made = lens.Groups.of([i % 2 for i in number], [i // 2 % 2 for i in number])
    embeddings, rows = given.classes.embeddings[:2], given.model.decompose(pixels)
    effects = lens.group_effects(rows, embeddings, made)
    few = {"random_sets": 2, "permutations": 1, "most": 1, "candidates": 2}
    found = lens.spurious_heads(given.model, rows, embeddings, made, images=pixels, **few)
    assert isinstance(effects, lens.GroupEffects)
    assert isinstance(found, lens.SpuriousHeads)
    drawn = views.group_effects_view(effects), views.spurious_heads_view(found)
    return effects.to_dataframe(), effects.whole.tolist(), [each.title for each in drawn]
