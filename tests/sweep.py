"""Every supported image tower of open_clip, two layers of it with random weights: ``python -m tests.sweep [PART]``.

Not run by the tests. For each vision config: what ``verify`` finds beside open_clip's own output, the completeness
error and, unless ``--outputs`` is given, the hook points at which an edit does not move the output.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import open_clip
import torch
from open_clip.model import CLIPVisionCfg, _build_vision_tower
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.model.catalogue import catalogue

LAYERS, BOUND = 2, 1e-5


def truncated(name: str) -> nn.Module:
    """A holder of the tower alone, as ``clip.visual``."""
    config = open_clip.get_model_config(name) or {}
    with torch.device("meta"):
        vision = CLIPVisionCfg(**config["vision_cfg"])
        tower: Any = _build_vision_tower(config["embed_dim"], vision, config.get("quick_gelu", False))
    del (tower.trunk.blocks if hasattr(tower, "trunk") else tower.transformer.resblocks)[LAYERS:]
    tower = tower.to_empty(device="cpu").eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for path, tensor in [*tower.named_parameters(), *tower.named_buffers()]:
            if not tensor.is_floating_point():
                tensor.zero_()
            elif path.endswith("running_var") or (tensor.ndim == 1 and path.endswith("weight")):
                tensor.copy_(1 + 0.2 * torch.rand_like(tensor))
            else:
                tensor.copy_(torch.randn_like(tensor) * (tensor.shape[-1] ** -0.5 if tensor.ndim > 1 else 0.2))
    holder = nn.Module()
    holder.visual = tower
    return holder


def still_hooks(model: HookedCLIP, images: torch.Tensor) -> list[str]:
    """Hook points at which an edit does not move the output."""
    plain, still = model(images), []
    for name in model.hook_dict:
        edited = model.run_with_hooks(images, fwd_hooks=[(name, lambda x, hook: x * (1 + 0.3 * torch.rand_like(x)))])
        if (edited - plain).norm() <= 1e-6 * plain.norm():
            still.append(name)
    return still


def main() -> int:
    """Prints the table; the exit code is the number of towers that are not exact."""
    logging.disable(logging.WARNING)
    given = sys.argv[1:]
    outputs = "--outputs" in given
    rows = [
        row
        for row in catalogue(*(each for each in given if each != "--outputs")).to_dict("records")
        if row["supported"]
    ]
    by_config = {repr((open_clip.get_model_config(row["name"]) or {})["vision_cfg"]): row for row in rows[::-1]}
    table, wrong = Table("model", "family", "output", "completeness", "hooks", "still"), 0
    for row in track(list(by_config.values())[::-1], console=Console(stderr=True)):
        model = HookedCLIP.from_open_clip(truncated(row["name"]), model_name=row["name"])
        images = torch.randn(1, 3, *model.cfg.image_size)
        with torch.no_grad():
            difference = model.verify(images).relative_difference
            completeness = model.decompose(images).completeness_error()
            still = [] if outputs else still_hooks(model, images)
        wrong += difference > BOUND or completeness > BOUND or bool(still)
        tried = "not tried" if outputs else ", ".join(still) or "none"
        shown = (f"{difference:.1e}", f"{completeness:.1e}", str(len(model.hook_dict)), tried)
        table.add_row(row["name"], row["family"], *shown)
    Console(width=120).print(table)
    print(f"{len(by_config)} vision configs of {len(rows)} names, {wrong} not exact to {BOUND:.0e}")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
