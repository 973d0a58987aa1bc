"""Reads the parts of Hugging Face's CLIP and SigLIP text models, or says which feature is not supported."""

from __future__ import annotations

from typing import Any

from clip_lens_plugin.adapters.checks.structure import refuse_other_structure
from clip_lens_plugin.adapters.tower import TextParts, activation_name
from clip_lens_plugin.adapters.transformers_tower import HuggingFaceText, transformers_block
from clip_lens_plugin.layers.config import HookedTextConfig
from clip_lens_plugin.layers.embedding.text_embed import HuggingFaceTextEmbed
from clip_lens_plugin.layers.layer_norm import LayerNorm
from clip_lens_plugin.layers.pooling.token_pooling import Always, FirstOf, TokenPooling, greatest
from clip_lens_plugin.layers.weight_refs import Affine, Norm

LEGACY_EOS = 2
"""The end of the text that configs of OpenAI's CLIP name wrongly; the greatest id is pooled then."""


def transformers_text_parts(tower: HuggingFaceText, model_name: str) -> TextParts:
    """The parts of a text model.

    Raises:
        UnsupportedTowerError: for a feature that is not supported; the message names it.
    """
    text: Any = tower.text_model
    config, layers = text.config, text.encoder.layers
    refuse_other_structure(tower, model_name, "text")
    is_clips = config.model_type == "clip_text_model"
    projection = tower.text_projection if is_clips else text.head
    n_ctx, weight = config.max_position_embeddings, layers[0].mlp.fc1.weight
    if not is_clips:
        pooling, position = "last", Always(n_ctx - 1)
    elif text.eos_token_id == LEGACY_EOS:
        pooling, position = "argmax", greatest
    else:
        pooling, position = "eos", FirstOf(text.eos_token_id)
    cfg = HookedTextConfig(
        model_name=model_name,
        n_layers=len(layers),
        n_heads=config.num_attention_heads,
        d_model=config.hidden_size,
        d_head=config.hidden_size // config.num_attention_heads,
        d_mlp=weight.shape[0],
        n_ctx=n_ctx,
        d_embed=projection.out_features,
        context_length=n_ctx,
        d_vocab=config.vocab_size,
        act_fn=activation_name(layers[0].mlp.activation_fn),
        pooling=pooling,
        device=weight.device,
        dtype=weight.dtype,
    )
    return TextParts(
        cfg=cfg,
        embed=HuggingFaceTextEmbed(text.embeddings, is_causal=is_clips),
        position=position,
        blocks=[transformers_block(layer, config.num_attention_heads) for layer in layers],
        ln_final=LayerNorm(Norm(text.final_layer_norm)),
        pooling=TokenPooling(pooling),
        project=Affine(projection),
        source_blocks=list(layers),
    )
