"""Direct effects of mean ablation, against replacing contributions one by one."""

from __future__ import annotations

import pytest
import torch

from clip_lens_plugin import mean_ablation_curve
from tests.conftest import random_images


def plain_accuracy(embeddings: torch.Tensor, classes: torch.Tensor, labels: torch.Tensor) -> float:
    return sum(int((classes @ e).argmax() == y) for e, y in zip(embeddings, labels, strict=True)) / len(labels)


def test_curve_is_that_of_replaced_contributions(model):
    scored, others = (
        model.decompose(random_images(model, 30)),
        model.decompose(random_images(model, 25, seed=1)),
    )
    classes = torch.nn.functional.normalize(torch.randn(5, 24, dtype=torch.float64), dim=-1)
    labels = (scored.embedding @ classes.T + 0.3 * torch.randn(30, 5)).argmax(-1)
    for means_from in (None, others):
        curve = mean_ablation_curve(scored, classes, labels, means_from)
        source = scored if means_from is None else means_from
        embedding = scored.embedding.clone()
        assert curve["accuracy"][0] == pytest.approx(plain_accuracy(embedding, classes, labels))
        for layer in range(3):
            for head in range(4):
                embedding += source.heads[:, layer, head].mean(0) - scored.heads[:, layer, head]
            row = curve[(curve["kind"] == "attention") & (curve["layers"] == layer + 1)]
            assert row["accuracy"].item() == pytest.approx(plain_accuracy(embedding, classes, labels))
        without_mlps = scored.embedding - scored.mlps.sum(1) + source.mlps.sum(1).mean(0)
        mlps = curve[curve["kind"] == "mlps"]["accuracy"].item()
        assert mlps == pytest.approx(plain_accuracy(without_mlps, classes, labels))
    assert curve["accuracy"].nunique() > 2


def test_bad_arguments_are_refused(model):
    scored = model.decompose(random_images(model))
    classes = torch.nn.functional.normalize(torch.randn(2, 24, dtype=torch.float64), dim=-1)
    with pytest.raises(ValueError, match="3 images need as many labels"):
        mean_ablation_curve(scored, classes, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="positions of the 2 classes"):
        mean_ablation_curve(scored, classes, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="normalized"):
        mean_ablation_curve(scored, classes, torch.tensor([0, 1, 1]), scored.normalized())
    with pytest.raises(ValueError, match="mean of one image"):
        mean_ablation_curve(model.decompose(random_images(model, 1)), classes, torch.tensor([0]))
