"""Small made-up results to draw, with labels that would do harm if they were markup."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from PIL import Image

from clip_lens_plugin.describe.spans import HeadSpan, TextSpanResult
from clip_lens_plugin.maps.patch_text import HeadTextScores
from clip_lens_plugin.model.identity.verification import Verification
from clip_lens_plugin.report.analyses import Heatmap, Report

EVIL = "<img src=x onerror=alert(1)>.png"
EVIL_TEXT = "a </style></script><script>x</script> $text"


def span(layer: int, head: int, texts: list[str], shares: list[float], total: float) -> HeadSpan:
    return HeadSpan(layer, head, texts, list(range(len(texts))), shares, total, torch.eye(len(texts)).double())


@pytest.fixture
def scores() -> HeadTextScores:
    """2 layers of 3 heads, 2 x 4 patches, 2 texts."""
    generator = torch.Generator().manual_seed(0)
    by_token = torch.randn(2, 3, 9, 2, generator=generator)
    return HeadTextScores(by_token, torch.tensor([0.25, -0.5]), ("a dog", EVIL_TEXT), (2, 4))


@pytest.fixture
def spans() -> TextSpanResult:
    return TextSpanResult(
        [
            span(0, 0, [EVIL_TEXT, "another"], [0.75, 0.875], 0.004),
            span(1, 0, ["red"], [0.5], 0.001),
            span(1, 1, ["blue"], [0.25], 0.002),
        ],
        n_layers=2,
    )


@pytest.fixture
def top_images() -> pd.DataFrame:
    rows = [
        (0, 0, 1, EVIL_TEXT, "highest", 1, 1, 0.25),
        (0, 0, 1, EVIL_TEXT, "lowest", 1, 0, -0.125),
        (1, 1, 1, "blue", "highest", 1, 0, 0.5),
    ]
    return pd.DataFrame(rows, columns=["layer", "head", "rank", "text", "side", "place", "row", "score"])


@pytest.fixture
def report(scores, spans, top_images) -> Report:
    layers = [("embed", None, 0.1, 0.01), ("heads", 0, 0.5, 0.02), ("attn_bias", 0, 0.05, 0.0)]
    layers += [("mlp", 0, 0.3, 0.03), ("ln_bias", None, 0.05, 0.0)]
    share = ["share_mean", "share_std"]
    curve = [
        ("nothing", "base", 0, 0.8125, 0.75, 0.875),
        ("attention 0", "attention", 1, 0.3125, 0.25, 0.5),
        ("all MLPs", "mlps", 1, 0.75, 0.5, 1.0),
    ]
    ablation = pd.DataFrame(curve, columns=["ablated", "kind", "layers", "accuracy", "low", "high"])
    ablation = ablation.assign(question="<i>what</i>", ablation="mean", effect="direct")
    names = (EVIL, "plain.png")
    top = top_images.rename(columns={"row": "image"})
    return Report(
        model_name="model <b>",
        images_from="two images",
        pool_name="texts & more",
        pool_size=1234,
        names=names,
        completeness_error=2e-7,
        verified=Verification(1e-7, 1e-5, "float32", 1, "probe"),
        layers=pd.DataFrame(layers, columns=["part", "layer", *share]).astype({"layer": "Int64"}),
        heads=pd.DataFrame([(0, 0, 0.6, 0.1), (0, 1, -0.1, 0.2)], columns=["layer", "head", *share]),
        text_span=spans.to_dataframe(),
        spans=spans,
        top_images=top.assign(name=[names[i] for i in top["image"]]),
        ablation=ablation.assign(classes=4, scored=16, means_from=16),
        heatmaps=(Heatmap(0, scores, Image.new("RGB", (40, 20), "red"), None),),
        skipped=pd.DataFrame([(EVIL, "cut <off>")], columns=["name", "reason"]),
        pictures={0: Image.new("RGB", (32, 32), "red"), 1: Image.new("RGB", (32, 32), "blue")},
    )
