"""Do maps lie on what the text names? ``python -m tests.benchmarks.pointing``.

On drawn scenes with one shape, whose mask is known: the map of its colour and shape ("red circle"), raw attention, and
noise. A patch's value is spread evenly over its pixels.

- mass: the part of a map's positive values that lies on pixels of the mask; on patches that the mask touches.
- pointing game: the patch of the greatest value has its centre on the mask; it touches the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from rich.console import Console
from rich.table import Table
from torch import Tensor

from clip_lens_plugin import HookedCLIP, patch_text_map
from clip_lens_plugin.scenes.attributes import ATTRIBUTES, Scene, sample_scenes
from clip_lens_plugin.scenes.captions import caption
from clip_lens_plugin.scenes.drawing import draw, shape_mask
from clip_lens_plugin.statistics.intervals import Interval

SCENES, SEED, BATCH = 500, 97, 100
COLOURS, SHAPES = ATTRIBUTES["colour"], ATTRIBUTES["shape"]
TEXTS = [caption({"colour": colour, "shape": shape}) for colour in COLOURS for shape in SHAPES]


@dataclass(frozen=True)
class Localisation:
    """Means over scenes; see the top of the file. ``mass_error`` is 1.96 standard errors of the mean."""

    mass: float
    mass_error: float
    touched_mass: float
    pointing: Interval
    touching: Interval


def single_shape_scenes(n: int, seed: int) -> list[Scene]:
    """The first ``n`` scenes with one shape."""
    found = [scene for scene in sample_scenes(3 * n, seed) if scene.count == "one"]
    return found[:n]


def masks(scenes: Sequence[Scene]) -> Bool[np.ndarray, "b side side"]:
    """Pixels that are covered by the shape."""
    return np.stack([shape_mask(scene) for scene in scenes])


def maps_of(model: HookedCLIP, scenes: Sequence[Scene]) -> dict[str, Float[Tensor, "b rows columns"]]:
    """Each kind of map, for the text that names the scene's colour and shape."""
    parts: dict[str, list[Tensor]] = {}
    late = [(l, h) for l in range(model.cfg.n_layers - 4, model.cfg.n_layers) for h in range(model.cfg.n_heads)]
    for start in range(0, len(scenes), BATCH):
        batch = scenes[start : start + BATCH]
        images = model.prepare([draw(scene) for scene in batch])
        own = torch.tensor([TEXTS.index(caption({"colour": s.colour, "shape": s.shape})) for s in batch])
        rows = torch.arange(len(batch))
        for name, heads in (("all heads", None), ("last four layers", late)):
            found = patch_text_map(model, images, TEXTS, heads, batch_size=BATCH)
            parts.setdefault(f"patch-text map, {name}", []).append(found.values[rows, own])
            contrast = found.contrast().values[rows, own]
            parts.setdefault(f"minus the mean of the other texts, {name}", []).append(contrast)
        _, cache = model.run_with_cache(images, names_filter=lambda name: name.endswith("hook_pattern"))
        looks = torch.stack([cache["pattern", l][:, :, 0, 1:].mean(1) for l in range(model.cfg.n_layers)])
        grid = model.cfg.grid_size
        parts.setdefault("raw attention, last layer", []).append(looks[-1].unflatten(-1, grid))
        parts.setdefault("raw attention, all layers", []).append(looks.mean(0).unflatten(-1, grid))
    maps = {name: torch.cat(found) for name, found in parts.items()}
    noise = torch.randn(maps["raw attention, last layer"].shape, generator=torch.Generator().manual_seed(0))
    return {**maps, "random map": noise}


def localisation(maps: Float[Tensor, "b rows columns"], covered: Bool[np.ndarray, "b side side"]) -> Localisation:
    """How much of the maps lies on the masks, and how often their greatest value does."""
    n, rows, columns = maps.shape
    side = covered.shape[1] // rows
    by_patch = covered.reshape(n, rows, side, columns, side).transpose(0, 1, 3, 2, 4).reshape(n, rows * columns, -1)
    share, touched = by_patch.mean(-1), by_patch.any(-1)
    centres = covered[:, side // 2 :: side, side // 2 :: side].reshape(n, -1)
    values = maps.double().numpy().reshape(n, -1)
    positive = values.clip(min=0)
    positive = positive / np.maximum(positive.sum(1, keepdims=True), 1e-30)
    mass, greatest = (positive * share).sum(1), values.argmax(1)
    each = np.arange(n)
    return Localisation(
        mass=float(mass.mean()),
        mass_error=float(1.96 * mass.std(ddof=1) / n**0.5),
        touched_mass=float((positive * touched).sum(1).mean()),
        pointing=Interval.of_share(int(centres[each, greatest].sum()), n),
        touching=Interval.of_share(int(touched[each, greatest].sum()), n),
    )


def main() -> None:
    """Prints the table."""
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    scenes = single_shape_scenes(SCENES, SEED)
    covered = masks(scenes)
    table = Table("map", "mass on the mask", "on patches it touches", "centre on the mask", "touches the mask")
    side = covered.shape[1] // model.cfg.grid_size[0]
    whole = torch.from_numpy(covered).float()
    best = torch.nn.functional.avg_pool2d(whole[:, None], side)[:, 0]
    for name, maps in {**maps_of(model, scenes), "the mask itself, in patches": best}.items():
        found = localisation(maps, covered)
        table.add_row(
            name,
            f"{found.mass:.3f} ± {found.mass_error:.3f}",
            f"{found.touched_mass:.3f}",
            *(f"{each.value:.3f} ({each.low:.3f} to {each.high:.3f})" for each in (found.pointing, found.touching)),
        )
    uniform = localisation(torch.ones(len(scenes), *model.cfg.grid_size), covered)
    table.add_row("the mask's share of the picture", f"{uniform.mass:.3f}", f"{uniform.touched_mass:.3f}", "", "")
    console = Console(width=140)
    console.print(f"{len(scenes)} scenes with one shape, seed {SEED}, embedded model")
    console.print(table)


if __name__ == "__main__":
    main()
