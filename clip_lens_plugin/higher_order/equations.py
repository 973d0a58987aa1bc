"""The formulas of second order: what feeds a head, and what a neuron adds through later heads.

Patterns and the scales of LayerNorms are frozen, and so is the norm of the embedding. Then a head reads the stream as
the pooling reads the last one, with ω = ā / σ over all tokens and with its values' fold as the map:

    ``y[b,g] = Σ_u Σ_i (ā[b,g,i] / σ[b,i]) u[b,i] V_g  +  (Σ_i ā[b,g,i]) (β W_V + b_V)``

over the terms u of the stream that it reads: the embedding, earlier heads, b_O, neurons and the biases of MLPs. V_g is
:func:`~clip_lens_plugin.decomposition.equations.value_fold`, and y M_{l,g} the head's contribution (equation 4 of
Gandelsman, Efros and Steinhardt, ICLR 2024). This is one hop: what u changes in patterns and scales is not counted.

Letters are those of :mod:`clip_lens_plugin.decomposition.equations`, and: g heads of one layer, which read; h heads of
an earlier one; j the width of those that read; m neurons; q readers of a neuron, counted over layers, heads and p.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def reading(attended: Float[Tensor, "b h p n"], scale: Float[Tensor, "b n"] | None) -> Float[Tensor, "b h p n"]:
    """``ā[b,h,i] / σ[b,i]``: the weight with which a head's contribution reads the stream at each token.

    Args:
        attended: :func:`effective_attention`.
        scale: σ of the LayerNorm before the heads; None where the block has none.
    """
    return attended if scale is None else attended / scale[:, None, None]


def read_by_heads(
    stream: Float[Tensor, "*batch g p d"], values: Float[Tensor, "g d j"]
) -> Float[Tensor, "*batch g p j"]:
    """``x[g] V_g``: coordinates that each head has of the part of the stream that it read."""
    return torch.einsum("...gpd,gdj->...gpj", stream, values)


def neuron_scalars(
    post: Float[Tensor, "b n m"], reads: Float[Tensor, "b n q"], into: Float[Tensor, "b q m"] | None = None
) -> Float[Tensor, "b m q"]:
    """``s[b,m,q] = Σ_i (ā[b,i,q] / σ[b,i,q]) act[b,i,m]``: how much of a neuron's direction each reader has.

    Args:
        post: ``mlp.hook_post``.
        reads: :func:`reading` of later heads, q counting layers, heads and the p of an attention pool.
        into: where the result is written, of which it is a view then.
    """
    # With the neurons last in memory, which is the faster product by half.
    return torch.bmm(reads.transpose(1, 2), post, out=into).transpose(1, 2)


def neuron_effects(scalars: Float[Tensor, "b m q"], directions: Float[Tensor, "m q w"]) -> Float[Tensor, "b m w"]:
    """``φ[b,m] = Σ_q s[b,m,q] D[m,q]``: what a neuron adds through all its readers, in the joint space or to scores.

    Args:
        directions: ``W_out[m] V_g M_{l',g}`` of each neuron and reader; or their products with texts.
    """
    return torch.einsum("bmq,mqw->bmw", scalars, directions)


def written_by_neurons(scalars: Float[Tensor, "b m q"], W_out: Float[Tensor, "m d"]) -> Float[Tensor, "b q d"]:
    """``Σ_m s[b,m,q] W_out[m]``: what each reader has read of all of a layer's neurons together."""
    return scalars.transpose(1, 2) @ W_out


def neuron_directions(
    W_out: Float[Tensor, "m d"], values: Float[Tensor, "g d j"], maps: Float[Tensor, "g p j w"]
) -> Float[Tensor, "m g p w"]:
    """``D[m,g,p] = W_out[m] V_g M_g[p]``: what a scalar of 1 adds; in two steps, by the head's width.

    Args:
        maps: the heads' maps to the joint space, or their products with texts.
    """
    return torch.einsum("mgj,gpjw->mgpw", torch.einsum("md,gdj->mgj", W_out, values), maps)


def shares_of_head(
    terms: Float[Tensor, "b c g k"], whole: Float[Tensor, "b g k"], forms: Float[Tensor, "g k k"]
) -> Float[Tensor, "b g c"]:
    """``u · c / ‖c‖² = y_u (M Mᵀ) y_cᵀ / y_c (M Mᵀ) y_cᵀ``: what part of a head's contribution each term is.

    Args:
        terms: coordinates of each.
        whole: coordinates of the contribution, the sum of all terms.
        forms: :func:`~clip_lens_plugin.decomposition.equations.gram` of each head's map.
    """
    form = whole[:, :, None] @ forms
    return (terms.movedim(1, 2) * form).sum(-1) / (whole[:, :, None] * form).sum(-1)


def through_a_head(reads: Float[Tensor, "b p n"], pattern: Float[Tensor, "b h n m"]) -> Float[Tensor, "b h p m"]:
    """``Σ_q w[b,p,q] A[b,h,q,i]``: the next hop: weights of the tokens that earlier heads attend to (equation 4)."""
    return torch.einsum("bpn,bhnm->bhpm", reads, pattern)
