"""The paper's formulas restated plainly, in the way the paper writes them, to check and to time against."""

from __future__ import annotations

import torch
from torch import Tensor


def plain_text_span(contributions: Tensor, texts: Tensor, steps: int) -> tuple[list[int], list[float]]:
    """Algorithm 1 of Gandelsman et al. (ICLR 2024) on the images themselves.

    Args:
        contributions: of one head [n, e].
        texts: unit embeddings [t, e].
        steps: texts to pick.

    Returns:
        Positions of the picked texts, and after each the share of the variance that is explained.
    """
    _, values, rows = torch.linalg.svd(contributions, full_matrices=False)
    rows = rows[values > 1e-6 * values[0]]
    left_texts = texts @ rows.T @ rows
    left = contributions - contributions.mean(0)
    total = left.square().sum()
    picks, shares = [], []
    for _ in range(steps):
        projections = left @ left_texts.T
        best = int(projections.var(0).argmax())
        direction = left_texts[best] / left_texts[best].norm()
        left = left - torch.outer(left @ direction, direction)
        left_texts = left_texts - torch.outer(left_texts @ direction, direction)
        picks.append(best)
        shares.append(float(1 - left.square().sum() / total))
        if shares[-1] > 1 - 1e-9:
            break
    return picks, shares


def published_text_span(contributions: Tensor, texts: Tensor, steps: int, rank: int) -> list[int]:
    """What the authors' script does on the images themselves: it keeps ``rank`` axes, whatever is in them.

    Args:
        contributions: of one head, its constants shared out [n, e].
        texts: unit embeddings [t, e].
        steps: texts to pick.

    Returns:
        Positions of the picked texts.
    """
    axes = torch.linalg.svd(contributions, full_matrices=False).Vh[:rank]
    left_texts = texts @ axes.T @ axes
    left = contributions - contributions.mean(0)
    picks = []
    for _ in range(steps):
        best = int((left @ left_texts.T).std(0).argmax())
        picked = left_texts[best] / left_texts[best].square().sum().sqrt()
        left = left - torch.outer(left @ picked, picked)
        left_texts = left_texts - torch.outer(left_texts @ picked, picked)
        picks.append(best)
    return picks


def plain_somp(
    contributions: Tensor, texts: Tensor, steps: int, centred: bool, project: bool
) -> tuple[list[int], list[float], list[float]]:
    """Simultaneous orthogonal matching pursuit on the rows themselves.

    Args:
        contributions: of one head [n, e].
        texts: unit embeddings [t, e].
        steps: texts to pick.
        centred: without the rows' mean.
        project: texts on the rows' span, of unit length there; the twentieth part with least in it is left out.

    Returns:
        Positions of the picked texts, after each the share that is explained, and how much of each lies in the span.
    """
    _, values, axes = torch.linalg.svd(contributions, full_matrices=False)
    axes = axes[values > 1e-6 * values[0]]
    inside = texts @ axes.T @ axes
    norms = inside.norm(dim=1)
    rows = contributions - contributions.mean(0) if centred else contributions
    atoms, allowed = texts, torch.ones(len(texts), dtype=torch.bool)
    if project:
        atoms = inside / norms[:, None]
        allowed = norms >= norms.sort().values[(len(texts) - 1) // 20]
    picks, shares, left = [], [], rows
    for _ in range(steps):
        scores = (left @ atoms.T).square().sum(0)
        scores[~allowed] = -1
        scores[picks] = -1
        picks.append(int(scores.argmax()))
        chosen = atoms[picks]
        left = rows - rows @ torch.linalg.pinv(chosen) @ chosen
        shares.append(float(1 - left.square().sum() / rows.square().sum()))
    return picks, shares, norms[picks].tolist()
