"""Texts of a bridge: the text tower of the model inside it."""

from __future__ import annotations

import torch
from transformer_lens.model_bridge import TransformerBridge

from clip_lens_plugin import as_hooked_clip, decompose_text, interaction


def test_a_bridges_texts_are_taken_apart(with_texts: TransformerBridge) -> None:
    model = as_hooked_clip(with_texts)
    ids = torch.randint(0, model.text.cfg.d_vocab, (2, model.text.cfg.context_length))
    found = decompose_text(with_texts, ids)
    theirs = with_texts.original_model.get_text_features(input_ids=ids)
    theirs = theirs if isinstance(theirs, torch.Tensor) else theirs.pooler_output
    torch.testing.assert_close(found.embedding.to(theirs.dtype), theirs, rtol=1e-4, atol=1e-5)
    assert found.completeness_error() < 1e-5
    assert interaction(with_texts, torch.randn(1, 3, *model.cfg.image_size), ids).error() < 1e-5
