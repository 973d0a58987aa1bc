"""Small made-up results to draw, with labels that would do harm if they were markup."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from PIL import Image

from clip_lens_plugin import ClassHeads
from clip_lens_plugin.describe.spans import HeadSpan, TextSpanResult
from clip_lens_plugin.maps.patch_text import HeadTextScores
from clip_lens_plugin.model.identity.verification import Verification
from clip_lens_plugin.report.analyses import Heatmap, Report
from clip_lens_plugin.report.clearest import COLUMNS
from clip_lens_plugin.report.provenance import ReportProvenance
from clip_lens_plugin.report.results import Explained

EVIL = "<img src=x onerror=alert(1)>.png"
EVIL_TEXT = "a </style></script><script>x</script> $text"


def span(layer: int, head: int, texts: list[str], shares: list[float], total: float) -> HeadSpan:
    return HeadSpan(layer, head, texts, list(range(len(texts))), shares, total, torch.eye(len(texts)).double())


@pytest.fixture(scope="session")
def scores() -> HeadTextScores:
    """2 layers of 3 heads, 2 x 4 patches, 2 texts."""
    generator = torch.Generator().manual_seed(0)
    by_token = torch.randn(2, 3, 9, 2, generator=generator)
    return HeadTextScores(by_token, torch.tensor([0.25, -0.5]), ("a dog", EVIL_TEXT), (2, 4))


@pytest.fixture(scope="session")
def spans() -> TextSpanResult:
    return TextSpanResult(
        [
            span(0, 0, [EVIL_TEXT, "another"], [0.75, 0.875], 0.004),
            span(1, 0, ["red"], [0.5], 0.001),
            span(1, 1, ["blue"], [0.25], 0.002),
        ],
        n_layers=2,
    )


@pytest.fixture(scope="session")
def top_images() -> pd.DataFrame:
    rows = [
        (0, 0, 1, EVIL_TEXT, "highest", 1, 1, 0.25),
        (0, 0, 1, EVIL_TEXT, "lowest", 1, 0, -0.125),
        (1, 1, 1, "blue", "highest", 1, 0, 0.5),
    ]
    return pd.DataFrame(rows, columns=["layer", "head", "rank", "text", "side", "place", "row", "score"])


@pytest.fixture(scope="session")
def class_heads() -> ClassHeads:
    """Two classes of ten images; the last two of three layers with two heads, of which one writes nothing."""
    shares = torch.tensor([[[0.3, 0.1], [0.05, torch.nan]], [[0.5, 0.1], [0.05, torch.nan]]], dtype=torch.float64)
    chance = torch.tensor([[0.11, 0.12], [0.1, torch.nan]], dtype=torch.float64)
    return ClassHeads(
        classes=("<i>cat</i>", "dog"),
        counts=torch.tensor([6, 4]),
        empty=("cow",),
        n_unlabelled=3,
        layers=(1, 2),
        n_layers=3,
        eta_squared=shares.sum(0),
        chance=chance,
        chance_most=2 * chance,
        permutations=20,
        total_variance=torch.tensor([[1e-3, 2e-3], [3e-3, 0.0]], dtype=torch.float64),
        shares=shares,
        lengths=torch.tensor([[[0.01, 0.02], [0.03, 0.0]], [[0.04, 0.01], [0.01, 0.0]]], dtype=torch.float64),
    )


@pytest.fixture(scope="session")
def report(scores, spans, top_images, class_heads) -> Report:
    layers = [("embed", None, 0.1, 0.01), ("heads", 0, 0.5, 0.02), ("attn_bias", 0, 0.05, 0.0)]
    layers += [("mlp", 0, 0.3, 0.03), ("ln_bias", None, 0.05, 0.0)]
    share = ["share_mean", "share_std"]
    curve = [
        ("nothing", "base", 0, 0.8125, 0.75, 0.875, 0.0, 0.0, 0.0),
        ("attention 0", "attention", 1, 0.3125, 0.25, 0.5, -0.5, -0.75, -0.25),
        ("all MLPs", "mlps", 1, 0.75, 0.5, 1.0, -0.0625, -0.25, 0.125),
    ]
    measured = ["accuracy", "low", "high", "difference", "difference_low", "difference_high"]
    ablation = pd.DataFrame(curve, columns=["ablated", "kind", "layers", *measured])
    ablation = ablation.assign(question="<i>what</i>", ablation="mean", effect="direct")
    names = (EVIL, "plain.png")
    top = top_images.rename(columns={"row": "image"})
    clarity = [
        (1, 1, 1, 0.25, 0.125, 0.1875, 0.002, True, True),
        (0, 0, 2, 0.875, 0.5, 0.625, 0.004, True, True),
        (1, 0, 1, 0.5, 0.625, 0.75, 0.001, False, False),
    ]
    return Report(
        provenance=ReportProvenance(
            made="2026-01-02 03:04:05+00:00",
            command="clip-lens report --images 'two <images>'",
            versions={"clip_lens_plugin": "1.2.3", "torch": "4.5.6"},
            model="model <b>",
            weights="file <u>.pt",
            architecture="1 layers of 2 heads",
            device="cpu",
            dtype="float32",
            image_size=(32, 48),
            preprocessing=("Resize(size=32)", "CenterCrop((32, 48))"),
            dataset="two images",
            fingerprint="0123456789abcdef",
            n_images=2,
            n_skipped=1,
            texts="texts & more",
            n_texts=1234,
            verified=Verification(1e-7, 1e-5, "float32", 1, "probe"),
        ),
        names=names,
        completeness_error=2e-7,
        head_width=8,
        layers=pd.DataFrame(layers, columns=["part", "layer", *share]).astype({"layer": "Int64"}),
        heads=pd.DataFrame([(0, 0, 0.6, 0.1), (0, 1, -0.1, 0.2)], columns=["layer", "head", *share]),
        text_span=spans.to_dataframe(),
        spans=spans,
        clarity=pd.DataFrame(clarity, columns=COLUMNS),
        top_images=top.assign(name=[names[i] for i in top["image"]]),
        ablation=ablation.assign(classes=4, scored=16, means_from=16),
        heatmaps=(Heatmap(0, scores, Image.new("RGB", (40, 20), "red"), None),),
        skipped=pd.DataFrame([(EVIL, "cut <off>")], columns=["name", "reason"]),
        pictures={0: Image.new("RGB", (32, 32), "red"), 1: Image.new("RGB", (32, 32), "blue")},
        explained=(Explained("<i>what</i>", class_heads),),
    )
