"""How many images the model runs at once, so that a run takes little memory beside the results that are kept."""

from __future__ import annotations

import math

import torch

from clip_lens_plugin.decomposition.running.activations import keeps_queries_and_keys
from clip_lens_plugin.model.protocol import Tower

MOST, FEWEST, FEWEST_WITH_PATTERNS = 32, 8, 4
MANY, FEWEST_OF_MANY = 256, 4
"""From so many images on, a run of fewer is taken for less memory beside what is kept."""
SHARE = 0.08
"""Of the memory of what is kept, what a run may take."""
PATTERN_BYTES = {"cpu": 90 * 2**20}
"""Most that the patterns of one run, or their queries and keys, may take where all wait for its end, by kind of
device."""
PATTERN_BYTES_ELSEWHERE = 2**31


def images_in_run(model: Tower, n: int, tokens: bool, neurons: bool) -> int:
    """How many of n images a decomposition runs at once.

    On a CPU a small run is about as fast as a large one. Elsewhere it is not, and 32 are run.
    """
    most = min(MOST, images_with_patterns(model, n)) if tokens and _all_read(model) else MOST
    if model.cfg.device.type != "cpu":
        return most
    fewest = FEWEST_WITH_PATTERNS if tokens and _all_read(model) else FEWEST if n < MANY else FEWEST_OF_MANY
    fewest = min(most, fewest)
    return max(fewest, min(most, int(SHARE * n * _kept_bytes(model, tokens, neurons) / _run_bytes(model, tokens))))


def images_with_patterns(model: Tower, n: int, n_texts: int = 0) -> int:
    """How many of n images to run at once if every row of their patterns waits for the end; all if few rows do.

    Args:
        n_texts: towards which each token's values are kept as well.
    """
    if not _all_read(model):
        return max(1, n)
    cfg = model.cfg
    towards = cfg.n_layers * cfg.n_heads * cfg.n_ctx * model.pooling.n_heads * n_texts * 4
    each = _pattern_numbers(model) * cfg.dtype.itemsize + towards
    allowed = PATTERN_BYTES.get(cfg.device.type, PATTERN_BYTES_ELSEWHERE)
    runs = max(1, math.ceil(n / max(1, allowed // each)))
    return max(1, math.ceil(n / runs))


def _all_read(model: Tower) -> bool:
    return model.pooling.positions.stop is None


def _pattern_numbers(model: Tower) -> int:
    """Of one image: its patterns, or the queries and keys that are kept instead."""
    cfg, rows = model.cfg, model.pooling.n_rows(model.cfg.n_ctx)
    instead = sum(keeps_queries_and_keys(model, block) for block in model.blocks)
    by_head = instead * (rows + cfg.n_ctx) * cfg.d_head + (cfg.n_layers - instead) * rows * cfg.n_ctx
    return cfg.n_heads * by_head


def _run_bytes(model: Tower, tokens: bool) -> int:
    """About what the model takes for one image, with what is held until the run ends."""
    cfg = model.cfg
    numbers = cfg.n_ctx * (8 * cfg.d_model + 2 * cfg.d_mlp)
    if _all_read(model):
        rows = model.pooling.n_rows(cfg.n_ctx)
        numbers += 2 * cfg.n_layers * rows * cfg.d_model
        numbers += _pattern_numbers(model) if tokens else 0
    return (numbers + (2 * cfg.n_layers * cfg.n_ctx * cfg.d_model if tokens else 0)) * cfg.dtype.itemsize


def _kept_bytes(model: Tower, tokens: bool, neurons: bool) -> int:
    """About what is kept of one image."""
    cfg, p = model.cfg, model.pooling.n_heads
    by_layer = cfg.n_heads * cfg.d_head * p + cfg.d_embed * (2 if model.pooling.reads_class_token_alone else 1)
    if tokens:
        by_layer += cfg.n_ctx * cfg.n_heads * (cfg.d_head + p)
    if neurons:
        by_layer += p * cfg.d_mlp
    return cfg.n_layers * by_layer * max(4, torch.finfo(cfg.dtype).bits // 8)
