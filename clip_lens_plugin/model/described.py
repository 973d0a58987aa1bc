"""What TransformerLens's tools read of a model's config beside its shape."""

from __future__ import annotations

from typing import Any

from clip_lens_plugin.adapters.tower import TowerParts


def describe(parts: TowerParts, source: Any) -> None:
    """Writes into the config what the layers say: ``eps``, the gate, positions, the mask, the source's class."""
    cfg, first = parts.cfg, parts.blocks[0]
    original = getattr(source, "_original", (source,))[0]
    cfg.original_architecture = type(original).__name__
    cfg.eps = parts.ln_final.norm.module.eps
    cfg.gated_mlp = first.mlp.gate is not None
    cfg.positional_embedding_type = "rotary" if first.attn.turns else "standard"
    embed = vars(parts)["embed"]
    cfg.attention_dir = "causal" if getattr(embed, "is_causal", False) else "bidirectional"
