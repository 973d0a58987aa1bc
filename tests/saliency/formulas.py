"""The published formulas, each in loops over heads, tokens and channels, on a plain run of one image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.saliency.plain import Attention, Plain, Run

Formula = Callable[[Plain, Run, Tensor, float], Tensor]
"""From a tower, its run on an image, the contrast's direction, and the logit scale, to a value for each token."""


def score(embedding: Tensor, direction: Tensor) -> Tensor:
    return embedding @ direction / embedding.norm()


def last(plain: Plain, run: Run) -> tuple[Attention, list[int]]:
    """The last attention, and its queries that count."""
    if run.pool is not None:
        return run.pool, [0]
    return run.attention[-1], plain.queries(len(run.after[-1]))


def gradients(run: Run, direction: Tensor, scale: float = 1.0) -> list[Tensor]:
    """Of the score with respect to every pattern; the pool's last."""
    patterns = [each.pattern for each in [*run.attention, *([] if run.pool is None else [run.pool])]]
    return list(torch.autograd.grad(scale * score(run.embedding, direction), patterns, retain_graph=True))


def raw_attention(plain: Plain, run: Run, direction: Tensor, scale: float) -> Tensor:
    attention, queries = last(plain, run)
    return torch.stack([pattern[query] for pattern in attention.pattern for query in queries]).mean(0)


def rollout(plain: Plain, run: Run, direction: Tensor, scale: float) -> Tensor:
    n = len(run.after[-1])
    joint = torch.eye(n).double()
    for each in run.attention:
        joint = (0.5 * each.pattern.mean(0) + 0.5 * torch.eye(n)) @ joint
    if run.pool is not None:
        pooled = run.pool.pattern.mean(0)[0]
        return pooled @ joint[-len(pooled) :]
    return joint[plain.queries(n)].mean(0)


def relevance(patterns: list[Tensor], gradient: list[Tensor], n: int) -> Tensor:
    R = torch.eye(n).double()
    for pattern, own in zip(patterns, gradient, strict=True):
        cam = torch.zeros(n, n).double()
        for head in range(len(pattern)):
            cam += (own[head] * pattern[head]).clamp(min=0) / len(pattern)
        R = R + cam @ R
    return R


def chefer(plain: Plain, run: Run, direction: Tensor, scale: float) -> Tensor:
    n, gradient = len(run.after[-1]), gradients(run, direction, scale)
    R = relevance([each.pattern for each in run.attention], gradient[: len(run.attention)], n)
    if run.pool is None:
        return R[plain.queries(n)].mean(0)
    mixed = R - torch.eye(n)
    normalized = torch.stack([row / row.sum() if row.sum() > 0 else row for row in mixed]) + torch.eye(n)
    pooled = (gradient[-1] * run.pool.pattern).clamp(min=0).mean(0)[0]
    return pooled @ normalized[-len(pooled) :]


def chefer_last(plain: Plain, run: Run, direction: Tensor, scale: float) -> Tensor:
    n, gradient = len(run.after[-1]), gradients(run, direction)[-1]
    if run.pool is not None:
        return (gradient * run.pool.pattern).clamp(min=0).mean(0)[0]
    return relevance([run.attention[-1].pattern], [gradient], n)[plain.queries(n)].mean(0)


def gradcam_attention(plain: Plain, run: Run, direction: Tensor, scale: float) -> Tensor:
    attention, queries = last(plain, run)
    gradient, found = gradients(run, direction)[-1], torch.zeros(attention.pattern.shape[-1]).double()
    for head, pattern in enumerate(attention.pattern):
        for query in queries:
            found += gradient[head, query, -plain.n_patches :].mean() * pattern[query]
    return found.clamp(min=0)


def gradcam(plain: Plain, run: Run, direction: Tensor, scale: float) -> Tensor:
    read = run.pool_read if run.pool is not None else run.read[-1]
    (gradient,) = torch.autograd.grad(score(run.embedding, direction), read, retain_graph=True)
    found = torch.zeros(len(read)).double()
    for channel in range(read.shape[-1]):
        found += gradient[-plain.n_patches :, channel].mean() * read[:, channel]
    return found.clamp(min=0)


def legrad(plain: Plain, run: Run, direction: Tensor, scale: float) -> Tensor:
    found = []
    for layer, after in enumerate(run.after):
        features, pool = plain.features(after)
        pattern = run.attention[layer].pattern if pool is None else pool
        (gradient,) = torch.autograd.grad(score(features, direction), pattern, retain_graph=True)
        found.append(gradient.clamp(min=0).mean((0, 1)))
    return torch.stack(found).mean(0)


def grad_eclip(plain: Plain, run: Run, direction: Tensor, scale: float) -> Tensor:
    """With w the gradient of what the heads put out."""
    attention, queries = last(plain, run)
    found = torch.zeros(len(attention.k)).double()
    (w,) = torch.autograd.grad(score(run.embedding, direction), attention.joined, retain_graph=True)
    v, k = attention.v.flatten(1), attention.k.flatten(1)
    for query in queries:
        q = attention.q[query].flatten()
        cosine = torch.stack([q @ key / q.norm() / key.norm() for key in k])
        patches = cosine[-plain.n_patches :]
        loosened = (cosine - patches.min()) / (patches.max() - patches.min())
        found += torch.stack([loosened[i] * (w[query] * v[i]).sum() for i in range(len(v))])
    return found.clamp(min=0)


def maskclip(plain: Plain, run: Run, direction: Tensor, scale: float) -> Tensor:
    values = run.attention[-1].v.flatten(1)
    return torch.stack([score(plain.alone(plain.written(plain.layers[-1], v)), direction) for v in values])


def v_v(plain: Plain, run: Run, direction: Tensor, scale: float) -> Tensor:
    values, (n, heads, k) = run.attention[-1].v, run.attention[-1].v.shape
    found = []
    for i in range(n):
        mixed = [torch.softmax(values[:, h] @ values[i, h] / k**0.5, 0) @ values[:, h] for h in range(heads)]
        found.append(score(plain.alone(plain.written(plain.layers[-1], torch.cat(mixed))), direction))
    return torch.stack(found)


def patches(plain: Plain, run: Run, direction: Tensor, scale: float) -> Tensor:
    return torch.stack([score(plain.alone(token), direction) for token in run.after[-1]])


FORMULAS: dict[str, Formula] = {
    each.__name__: each
    for each in (
        raw_attention,
        rollout,
        chefer,
        chefer_last,
        gradcam,
        gradcam_attention,
        legrad,
        grad_eclip,
        maskclip,
        v_v,
        patches,
    )
}
