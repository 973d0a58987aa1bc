"""Every text tower of open_clip's own, two layers of it with random weights: ``python -m tests.text_sweep``.

Not run by the tests. For each text config: what ``verify`` finds beside open_clip's own output, the completeness error,
and the hook points at which an edit does not move the output.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import fields
from typing import Any

import open_clip
import torch
from open_clip.model import CLIPTextCfg, _build_text_tower
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from clip_lens_plugin import HookedText, decompose_text
from tests.sweep import BOUND, LAYERS

ENDS = 100


def truncated(config: dict[str, Any]) -> nn.Module:
    """A holder of the text tower alone, as ``clip.text``; of its vocabulary only the first ids are kept."""
    known = {each.name for each in fields(CLIPTextCfg)}
    text = CLIPTextCfg(**{name: value for name, value in config["text_cfg"].items() if name in known})
    with torch.device("meta"):
        tower: Any = _build_text_tower(config["embed_dim"], text, config.get("quick_gelu", False))
    del tower.transformer.resblocks[LAYERS:]
    width = tower.token_embedding.embedding_dim
    tower.token_embedding = nn.Embedding(ENDS + 1, width, device="meta")
    tower.eos_id = ENDS
    tower = tower.to_empty(device="cpu").eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for path, tensor in tower.named_parameters():
            if tensor.ndim == 1 and path.endswith("weight"):
                tensor.copy_(1 + 0.2 * torch.rand_like(tensor))
            else:
                tensor.copy_(torch.randn_like(tensor) * (tensor.shape[-1] ** -0.5 if tensor.ndim > 1 else 0.2))
    if tower.attn_mask is not None:
        tower.attn_mask = tower.build_causal_mask()
    holder: Any = nn.Module()
    holder.text, holder.encode_text = tower, tower.forward
    return holder


def some_ids(text: HookedText) -> torch.Tensor:
    """Texts of three lengths."""
    ids = torch.randint(1, ENDS, (3, text.cfg.context_length), generator=torch.Generator().manual_seed(0))
    for row, end in enumerate((3, text.cfg.context_length // 2, text.cfg.context_length - 1)):
        ids[row, end], ids[row, end + 1 :] = ENDS, 0
    return ids


def still_hooks(text: HookedText, ids: torch.Tensor) -> list[str]:
    """Hook points at which an edit does not move the output."""
    plain, still = text(ids), []
    for name in text.hook_dict:

        def edited(x: torch.Tensor, hook: Any) -> torch.Tensor:
            return x * (1 + 0.3 * torch.rand_like(x)) if x.is_floating_point() else (x + 1) % text.cfg.n_ctx

        if (text.run_with_hooks(ids, fwd_hooks=[(name, edited)]) - plain).norm() <= 1e-6 * plain.norm():
            still.append(name)
    return still


def main() -> int:
    """Prints the table; the exit code is the number of towers that are not exact."""
    logging.disable(logging.WARNING)
    by_config: dict[str, list[str]] = {}
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name) or {}
        if "hf_model_name" not in config["text_cfg"]:
            by_config.setdefault(repr((config["embed_dim"], config["text_cfg"])), []).append(name)
    table, wrong = Table("models", "pooled", "mask", "output", "completeness", "still"), 0
    for names in track(list(by_config.values()), console=Console(stderr=True)):
        text = HookedText(truncated(open_clip.get_model_config(names[0]) or {}), None, names[0])
        ids = some_ids(text)
        with torch.no_grad():
            difference = text.verify(ids).relative_difference
            completeness = decompose_text(text, ids).completeness_error()
            still = still_hooks(text, ids)
        wrong += difference > BOUND or completeness > BOUND or bool(still)
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        mask = "none" if text.clip.attn_mask is None else "causal"
        exact = (f"{difference:.1e}", f"{completeness:.1e}", ", ".join(still) or "none")
        table.add_row(names[0] + others, text.cfg.pooling, mask, *exact)
    Console(width=120).print(table)
    n = sum(map(len, by_config.values()))
    print(f"{len(by_config)} text configs of {n} names, {wrong} not exact to {BOUND:.0e}")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
