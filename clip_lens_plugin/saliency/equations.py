"""The published formulas of the attention and gradient maps, on patterns and gradients that a run gave.

A pattern [b, h, m, n] is what each of m queries attends to of n tokens, in each of h heads; its gradient is that of the
contrast. Everything here is as its authors write it; what is done where a tower differs from theirs is said where these
are called.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def rolled_out(rollout: Float[Tensor, "b n n"], pattern: Float[Tensor, "b h n n"]) -> Float[Tensor, "b n n"]:
    """One layer more of attention rollout: (½ A + ½ I) R, with A the mean over heads.

    Source: Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, section 3.
    """
    return (pattern.mean(1) @ rollout + rollout) / 2


def relevant_attention(pattern: Float[Tensor, "b h m n"], gradient: Float[Tensor, "b h m n"]) -> Float[Tensor, "b m n"]:
    """Ā, the mean over heads of the positive part of ∇A ⊙ A.

    Source: Chefer, Gur and Wolf, "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
    Transformers", ICCV 2021, equation 5.
    """
    return (gradient * pattern).clamp(min=0).mean(1)


def more_relevance(relevance: Float[Tensor, "b n n"], attention: Float[Tensor, "b n n"]) -> Float[Tensor, "b n n"]:
    """One layer more of self-attention: R + Ā R. Source: the same, equation 6."""
    return relevance + attention @ relevance


def relevance_to_query(attention: Float[Tensor, "b m k"], relevance: Float[Tensor, "b n n"]) -> Float[Tensor, "b m n"]:
    """Relevance of n tokens to queries that attend to the last k of them: Ā (R̂ / Σ R̂ + I), with R̂ = R − I.

    Each row of R̂ is divided by its sum. Source: the same, equations 8 and 9 and the rule of attention across.
    """
    identity = torch.eye(relevance.shape[-1]).to(relevance)
    mixed = relevance - identity
    total = mixed.sum(-1, keepdim=True)
    normalized = mixed / torch.where(total > 0, total, 1.0) + identity
    return attention @ normalized[:, -attention.shape[-1] :]


def class_activation(features: Float[Tensor, "b n c"], gradient: Float[Tensor, "b n c"]) -> Float[Tensor, "b n"]:
    """The positive part of Σ_c α_c F_c, with α_c the mean of a channel's gradient over the places.

    Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV
    2017, equations 1 and 2.
    """
    return (features * gradient.mean(1, keepdim=True)).sum(-1).clamp(min=0)


def formation_sensitivity(gradient: Float[Tensor, "b h m n"]) -> Float[Tensor, "b n"]:
    """The positive part of a layer's ∇A, its mean over heads and queries.

    Source: Bousselham et al., "LeGrad: An Explainability Method for Vision Transformers via Feature Formation
    Sensitivity", ICCV 2025, section 3.
    """
    return gradient.clamp(min=0).mean((1, 2))


def loosened_attention(q: Float[Tensor, "b m h k"], key: Float[Tensor, "b n h k"]) -> Float[Tensor, "b m n"]:
    """λ: the cosine of each query with each key, all heads together, from 0 at its least to 1 at its greatest.

    Source: Zhao et al., "Gradient-based Visual Explanation for Transformer-based CLIP", ICML 2024, its loosened
    attention.
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    unit_q, unit_key = (torch.nn.functional.normalize(each.flatten(2).to(wide), dim=-1) for each in (q, key))
    cosine = unit_q @ unit_key.mT
    least, greatest = cosine.aminmax(dim=-1, keepdim=True)
    return (cosine - least) / (greatest - least).clamp(min=torch.finfo(wide).tiny)


def loosely_attended(loosened: Float[Tensor, "b m n"], gradient: Float[Tensor, "b h m n"]) -> Float[Tensor, "b n"]:
    """The positive part of λ_i Σ_c w_c v_ic, with w the gradient of what the heads put out, over all queries together.

    That gradient times a token's value is the pattern's own: ∂S/∂A_hi = Σ_c w_hc v_hic. Source: the same paper.
    """
    return (loosened * gradient.sum(1)).sum(1).clamp(min=0)
