"""Trains the embedded model: ``python -m clip_lens_plugin.scenes.train --out DIR``.

The learning rate is constant after a short warm-up and falls to zero over the last quarter. So a run can be cut
short: start it again with fewer ``--steps``, and it goes on from its checkpoint as if they had been set at first.

``--cue 0.95`` plants a spurious cue in the training scenes (see :mod:`clip_lens_plugin.scenes.cue`), and ``--start``
begins with the image tower of a folder and a text tower that knows nothing yet: both were used for "scenes-planted".
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import open_clip
import torch
import typer
from open_clip.model import CLIP
from rich.progress import Progress
from safetensors.torch import load_file, save_file

from clip_lens_plugin.files.whole import make_folder, whole_files
from clip_lens_plugin.scenes.accuracy import HELD_OUT_SEED, cue_accuracy, zero_shot_accuracy
from clip_lens_plugin.scenes.attributes import SIDE, sample_scenes
from clip_lens_plugin.scenes.batches import MEAN, STD, DrawnScenes, contrastive_loss, make_batch
from clip_lens_plugin.scenes.cue import PLANTED, cue_group, planted_scenes
from clip_lens_plugin.scenes.tokens import CONTEXT_LENGTH, scenes_tokenizer, write_merges

BATCH_SIZE = 256
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.1
WARM_UP = 200
DECAY_SHARE = 0.25
GREATEST_SCALE = 100.0
CHECK_EVERY = 250
EVALUATED_SCENES = 4000
CUE_SCENES = 18_000
"""Of which about a ninth are of the planted shapes and backgrounds, and are drawn to measure their groups."""
WEIGHTS = "open_clip_model.safetensors"


def model_config(vocab_size: int) -> dict:
    """The ``model_cfg`` of an ``open_clip_config.json``."""
    return {
        "embed_dim": 128,
        "vision_cfg": {
            "image_size": SIDE,
            "patch_size": 8,
            "width": 128,
            "layers": 6,
            "head_width": 16,
        },
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": vocab_size,
            "width": 128,
            "heads": 4,
            "layers": 2,
        },
    }


def learning_rate(step: int, steps: int) -> float:
    """Rate at ``step`` of ``steps``: a linear rise, a constant, a linear fall over the last quarter."""
    left = (steps - step) / (DECAY_SHARE * steps)
    return LEARNING_RATE * min(1.0, (step + 1) / WARM_UP, left)


def train(
    out: Annotated[Path, typer.Option(help="Folder for the weights and what was measured.")],
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 4000,
    scenes: Annotated[int, typer.Option(help="Number of training scenes.")] = 40_000,
    seed: Annotated[int, typer.Option(help="Seed of the scenes, weights and batches.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    cue: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Share of circles on white and of squares on black; no cue if not given."),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Folder of weights whose image tower is begun with; random if not given.")
    ] = None,
) -> None:
    """Trains a small CLIP on drawn scenes; run it again to go on after an interruption."""
    if seed == HELD_OUT_SEED:
        raise typer.BadParameter(f"{seed} is the seed of the scenes that accuracy is measured on.")
    make_folder(out)
    write_merges(out)
    tokenizer = scenes_tokenizer(out)
    torch.manual_seed(seed)
    config = model_config(tokenizer.vocab_size)
    model = CLIP(**config).to(device)
    if start is not None:
        begun = load_file(start / WEIGHTS, device=device)
        visual = {name.removeprefix("visual."): each for name, each in begun.items() if name.startswith("visual.")}
        model.visual.load_state_dict(visual)
    optimiser = torch.optim.AdamW(_parameter_groups(model), lr=0.0, betas=(0.9, 0.98))

    checkpoint = out / "checkpoint.pt"
    settings: dict[str, int | float | str] = {"seed": seed, "scenes": scenes}
    if cue is not None:
        settings["cue"] = cue
    if start is not None:
        settings["start"] = f"sha256 {hashlib.sha256((start / WEIGHTS).read_bytes()).hexdigest()}"
    first, seconds = 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True, map_location=device)
        if saved["settings"] != settings:
            raise typer.BadParameter(f"{checkpoint} was made with {saved['settings']}, not {settings}.")
        first, seconds = saved["step"], saved["seconds"]
        before_decay = first <= (1 - DECAY_SHARE) * min(steps, saved["steps"])
        if saved["steps"] != steps and not before_decay:
            raise typer.BadParameter(
                f"{checkpoint} is at step {first} of {saved['steps']}, too late to make it {steps}: the learning "
                f"rate falls over the last quarter. Remove the checkpoint to start anew."
            )
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])

    with Progress() as progress:
        grouped = [] if cue is None else sample_scenes(CUE_SCENES, HELD_OUT_SEED)
        grouped = [scene for scene in grouped if cue_group(scene) is not None]
        drawing = progress.add_task("drawing", total=scenes + EVALUATED_SCENES + len(grouped))

        def on_drawn() -> None:
            progress.advance(drawing)

        trained_on = sample_scenes(scenes, seed) if cue is None else planted_scenes(scenes, seed, cue)
        drawn = DrawnScenes.of(trained_on, on_drawn)
        held_out = DrawnScenes.of(sample_scenes(EVALUATED_SCENES, HELD_OUT_SEED), on_drawn)
        groups = DrawnScenes.of(grouped, on_drawn)
        training = progress.add_task("training", total=steps, completed=first)
        began = time.monotonic() - seconds
        for step in range(first, steps):
            batch = make_batch(drawn, BATCH_SIZE, np.random.default_rng([seed, step]), step)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, steps)
            optimiser.zero_grad()
            images = model.encode_image(batch.images.to(device), normalize=True)
            texts = model.encode_text(tokenizer(batch.captions).to(device), normalize=True)
            also_true = batch.also_true.to(device)
            loss = contrastive_loss(images, texts, model.logit_scale.exp(), also_true)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            with torch.no_grad():
                model.logit_scale.clamp_(max=float(np.log(GREATEST_SCALE)))
            progress.advance(training)
            if (step + 1) % CHECK_EVERY == 0 or step + 1 == steps:
                seconds = time.monotonic() - began
                part = DrawnScenes(held_out.scenes[:500], held_out.pixels[:500], held_out.codes[:500])
                accuracy = _measure(zero_shot_accuracy, model, tokenizer, part, device)
                if cue is not None:
                    accuracy |= _measure(cue_accuracy, model, tokenizer, groups, device)
                shown = "  ".join(f"{name} {share:.3f}" for name, share in accuracy.items())
                progress.print(f"step {step + 1}  {seconds:.0f} s  loss {loss.item():.3f}  {shown}")
                state = {
                    "settings": settings,
                    "step": step + 1,
                    "seconds": seconds,
                    "steps": steps,
                    "model": model.state_dict(),
                    "optimiser": optimiser.state_dict(),
                }
                with whole_files() as beside:
                    torch.save(state, beside(checkpoint))

    measured: dict[str, Any] = {
        "zero_shot_accuracy": _measure(zero_shot_accuracy, model, tokenizer, held_out, device),
        "held_out_scenes": EVALUATED_SCENES,
        "training": {**settings, "steps": steps, "batch_size": BATCH_SIZE, "seconds": round(seconds)},
        "machine": _machine(device),
    }
    if cue is not None:
        accuracy = _measure(cue_accuracy, model, tokenizer, groups, device)
        measured["cue"] = {
            "share": cue,
            "backgrounds": PLANTED,
            "held_out_scenes": len(grouped),
            "group_accuracy": accuracy,
            "worst_group": min(accuracy.values(), default=None),
        }
    preprocess = {"mean": [MEAN] * 3, "std": [STD] * 3, "interpolation": "bicubic"}
    written = {"model_cfg": config, "preprocess_cfg": preprocess}
    weights = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
    with whole_files() as beside:
        beside(out / "open_clip_config.json").write_text(json.dumps(written, indent=2) + "\n")
        beside(out / "measured.json").write_text(json.dumps(measured, indent=2) + "\n")
        save_file(weights, beside(out / WEIGHTS))
    typer.echo(json.dumps(measured, indent=2))


def _parameter_groups(model: torch.nn.Module) -> list[dict]:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    return [
        {"params": matrices, "weight_decay": WEIGHT_DECAY},
        {"params": vectors, "weight_decay": 0.0},
    ]


def _measure(
    measure: Callable[..., dict[str, float]],
    model: CLIP,
    tokenizer: open_clip.SimpleTokenizer,
    drawn: DrawnScenes,
    device: str,
) -> dict[str, float]:
    return measure(
        lambda images: model.encode_image(images.to(device)),
        lambda texts: model.encode_text(tokenizer(texts).to(device)),
        drawn,
    )


def _machine(device: str) -> dict[str, str | int]:
    kind = torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine()
    return {
        "device": f"{device} ({kind})",
        "cores": os.cpu_count() or 1,
        "torch": torch.__version__,
        "open_clip": open_clip.__version__,
    }


if __name__ == "__main__":
    typer.run(train)
