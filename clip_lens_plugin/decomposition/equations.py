"""The formulas of the decomposition: one plain function on tensors for each, without a model or a class.

Source: Gandelsman, Efros and Steinhardt, "Interpreting CLIP's Image Representation via Text-Based Decomposition",
ICLR 2024: equations 1 to 4, section 5, and what Algorithm 1 takes (its steps are in
:mod:`clip_lens_plugin.describe.equations`). Their ``M(I)`` is the unnormalised embedding.

Letters: b images; r rows of the stream that the pooling reads, numbered q; n source tokens, numbered i; l layers;
h heads; p heads of an attention pool (1 for every other pooling); d width of the stream; k width of a head; e width of
the joint space; t texts; s constants that are shared out.

Units: ω carries the unit. With ω as the pooling gives it, contributions are in units of M(I); with ω / ‖M(I)‖, in
cosine units. Every result has the dtype and device of its arguments, and float32 products are as exact as torch is set
(see :func:`~clip_lens_plugin.numerics.precision.full_precision`, under which the callers are).

ω of each pooling, and what the biases of an attention pool add, stand with the pooling: in
:mod:`clip_lens_plugin.layers.pooling.pooling` and :mod:`clip_lens_plugin.layers.pooling.attention_pool`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

# ---------------------------------------------------------------------- pooling with frozen statistics (equation 1)


def pooled(omega: Float[Tensor, "b p r"], x: Float[Tensor, "b r *rest d"]) -> Float[Tensor, "b *rest p d"]:
    """``Σ_q ω[b,p,q] x[b,q]``: what the pooling makes of an activation at its rows, before any weights.

    Equation 1 with LayerNorm's statistics frozen: M(I) is this sum over the last stream, then the fold.
    """
    return torch.einsum("bpr,br...d->b...pd", omega, x)


def head_coordinates(omega: Float[Tensor, "b p r"], z: Float[Tensor, "b r h k"]) -> Float[Tensor, "b h pk"]:
    """``y[b,h] = Σ_q ω[b,q] z[b,q,h]``: a head's coordinates; its contribution is ``y M_{l,h}``.

    Equation 4 summed over the source tokens. The p are laid end to end.

    Args:
        z: ``hook_z``, what each head puts out before W_O.
    """
    return pooled(omega, z).flatten(-2)


def attended_values(pattern: Float[Tensor, "b h r n"], v: Float[Tensor, "b n h k"]) -> Float[Tensor, "b r h k"]:
    """``z[b,q,h] = Σ_i A[b,h,q,i] v[b,i,h]``: the sum over source tokens that heads put out (equation 4)."""
    return torch.einsum("bhrn,bnhk->brhk", pattern, v)


def class_token_message(pattern: Float[Tensor, "b h r n"], v: Float[Tensor, "b n h k"]) -> Float[Tensor, "b r h k"]:
    """``A[b,h,q,0] v[b,0,h]``: the class token's term of :func:`attended_values` (table 1 of the paper)."""
    return pattern[..., 0].transpose(1, 2)[..., None] * v[:, None, 0]


def effective_attention(omega: Float[Tensor, "b p r"], pattern: Float[Tensor, "b h r n"]) -> Float[Tensor, "b h p n"]:
    """``ā[b,h,i] = Σ_q ω[b,q] A[b,h,q,i]``: how much of each source token's value reaches the embedding.

    The attention weight of equation 4 times ω, and in the unit of ω.
    """
    return omega[:, None] @ pattern


def token_coordinates(
    attended: Float[Tensor, "b n h p"], values: Float[Tensor, "b n h k"]
) -> Float[Tensor, "b n h pk"]:
    """``ā[b,h,i] v[b,i,h]``: a token's coordinates through each head, which sum to the head's over tokens.

    Equation 4: ``c[b,i,l,h] = ā v M_{l,h}``.

    Args:
        attended: :func:`effective_attention`.
        values: ``hook_v``.
    """
    return torch.einsum("bnhp,bnhk->bnhpk", attended, values).flatten(-2)


# ---------------------------------------------------------------------- weights: the fold and M_{l,h}


def fold(gamma: Float[Tensor, " d"], maps: Float[Tensor, "*p d w"], centred: bool = True) -> Float[Tensor, "*p d w"]:
    """``W_P = C diag(γ) P``: from a pooled stream to the joint space; C removes a vector's own mean.

    P of equation 1, with all of the last LayerNorm in it but its statistics, which are in ω, and β.

    Args:
        gamma: of the last LayerNorm.
        maps: P, or the first factor of an attention pool's maps (``W_V``), of which w is then the width.
        centred: with C. Without, the mean of a component stays in it, as where constants are shared out.
    """
    scaled = gamma[:, None] * maps
    return scaled - scaled.mean(-2, keepdim=True) if centred else scaled


def head_map(W_O: Float[Tensor, "k d"], W_P: Float[Tensor, "p d e"]) -> Float[Tensor, "p k e"]:
    """``M_{l,h} = W_O[l,h] W_P``: from one head's coordinates to its contribution (equation 4)."""
    return W_O @ W_P


def contribution(coordinates: Float[Tensor, "*batch k"], weights: Float[Tensor, "k w"]) -> Float[Tensor, "*batch w"]:
    """``y M``: coordinates times the map, or the directions, that they count (equation 4).

    Of a head: y [b, k] and ``M_{l,h}`` [k, e]; of its tokens: ā ⊙ v [b, n, k]. Of constants: an image's weights [b, s]
    and the directions [s, e] that are the same for all images. In the unit of the coordinates.

    Also a change of frame: ``y F`` with F [k, r], and of texts [t, e] the projections ``Qᵀ e_t`` on a head's span, with
    Q [e, r] (first lines of Algorithm 1), both of :func:`orthonormal_frame`.
    """
    return coordinates @ weights


def by_layer(coordinates: Float[Tensor, "b l s"], weights: Float[Tensor, "l s w"]) -> Float[Tensor, "b l w"]:
    """``Σ_s w[b,l,s] D[l,s]``: :func:`contribution` for each layer with directions of its own, in the unit of w.

    With D the directions of b_O it is the bias in each layer's term of equation 3. ``w`` can be an image's
    :func:`share_weights`, too.
    """
    return torch.einsum("bls,lsw->blw", coordinates, weights)


def value_fold(gamma: Float[Tensor, " d"] | None, W_V: Float[Tensor, "h d k"]) -> Float[Tensor, "h d k"]:
    """``C diag(γ) W_V``: from the stream, over its LayerNorm's scale, to a layer's values, v of equation 4.

    Args:
        gamma: of the LayerNorm before the heads; None where the block has none, and W_V is the whole map.
    """
    return W_V if gamma is None else fold(gamma, W_V)


def value_constant(
    beta: Float[Tensor, " d"] | None, W_V: Float[Tensor, "h d k"], b_V: Float[Tensor, "h k"]
) -> Float[Tensor, "h k"]:
    """``β W_V + b_V``: what every token's value (v of equation 4) has whatever the stream is.

    Args:
        beta: of the LayerNorm before the heads; None where the block has none.
    """
    return b_V if beta is None else through_each(beta, W_V) + b_V


# ---------------------------------------------------------------------- from components to the joint space


def written_by_heads(y: Float[Tensor, "*batch h k"], W_O: Float[Tensor, "h k d"]) -> Float[Tensor, "*batch h d"]:
    """``y[h] W_O[h]``: what each head of a layer writes to the stream (its term of equation 3)."""
    return through_own(y, W_O)


def written_by_layer(y: Float[Tensor, "*batch h k"], W_O: Float[Tensor, "h k d"]) -> Float[Tensor, "*batch d"]:
    """``Σ_h y[h] W_O[h]``: what the heads of a layer write together, without their bias (equation 3)."""
    return torch.einsum("...hk,hkd->...d", y, W_O)


def pooled_constant(weights: Float[Tensor, "b p"], vector: Float[Tensor, " d"]) -> Float[Tensor, "b p d"]:
    """``w[b,p] x``: a vector that is written to every row, pooled as in equation 1; w is Σ_q ω there."""
    return torch.einsum("bp,d->bpd", weights, vector)


def to_joint(stream: Float[Tensor, "*batch p d"], maps: Float[Tensor, "p d e"]) -> Float[Tensor, "*batch e"]:
    """``Σ_p x[p] W_P[p]``: the contribution of a pooled stream (each term of equation 3)."""
    return stream.flatten(-2) @ maps.flatten(0, 1)


def through_own(stream: Float[Tensor, "*batch p d"], maps: Float[Tensor, "p d w"]) -> Float[Tensor, "*batch p w"]:
    """``x[p] W[p]``: each part of a pooled stream by its own map: the summands of :func:`to_joint` (equation 3)."""
    return torch.einsum("...pd,pdw->...pw", stream, maps)


def through_each(vectors: Float[Tensor, "*batch d"], maps: Float[Tensor, "p d w"]) -> Float[Tensor, "*batch p w"]:
    """``x W[p]``: what a vector of the stream adds at a weight of 1 through each p (a term of equation 3)."""
    return torch.einsum("...d,pdw->...pw", vectors, maps)


def neuron_contributions(neurons: Float[Tensor, "b p m"], weights: Float[Tensor, "m p e"]) -> Float[Tensor, "b m e"]:
    """``Σ_p w[b,p,m] W_out[m] W_P[p]``: each neuron's term of an MLP, without the output bias (from equation 3).

    Args:
        neurons: :func:`pooled` ``mlp.hook_post``.
        weights: :func:`through_each` of ``W_out``.
    """
    return torch.einsum("bpm,mpe->bme", neurons, weights)


# ---------------------------------------------------------------------- towards texts, without anything of width e


def towards(vectors: Float[Tensor, "*batch e"], texts: Float[Tensor, "t e"]) -> Float[Tensor, "*batch t"]:
    """``c · e_t``: dot products with text embeddings (section 3); parts of a cosine in cosine units."""
    return vectors @ texts.T


def cosines(embeddings: Float[Tensor, "b e"], texts: Float[Tensor, "t e"]) -> Float[Tensor, "b t"]:
    """``M · e_t / ‖M‖``: the cosine of each image with each text, whose length is 1; NaN for an embedding of zeros.

    CLIP's similarity, which the decomposition splits (section 3): cosines of the whole where :func:`towards` has a
    component's part.
    """
    return towards(embeddings / embeddings.norm(dim=-1, keepdim=True), texts)


def text_streams(maps: Float[Tensor, "p d w"], texts: Float[Tensor, "*p w t"]) -> Float[Tensor, "p d t"]:
    """``W_P[p] e_t``: the directions in the stream that a text has: a term x of equation 3 adds ``x · W_P e_t``.

    Args:
        maps: the fold; or its second factor, then the first, of each p.
        texts: embeddings as columns; or what the second factor made of them, [p, w, t].
    """
    return maps @ texts


def text_directions(W_O: Float[Tensor, "h k d"], streams: Float[Tensor, "p d t"]) -> Float[Tensor, "h pk t"]:
    """``M_{l,h} e_t`` of each head of a layer: k numbers per text; ``c · e_t = y · (M_{l,h} e_t)`` by equation 4.

    One product with W_O as it lies in memory, which is neither copied nor expanded.

    Args:
        streams: :func:`text_streams`.
    """
    joined, by_pool_head = streams.transpose(0, 1).flatten(1), streams.shape[::2]
    maps = (W_O.flatten(0, 1) @ joined).unflatten(-1, by_pool_head)
    return maps.unflatten(0, (len(W_O), -1)).transpose(1, 2).flatten(1, 2)


def head_scores(
    coordinates: Float[Tensor, "b l h k"], directions: Float[Tensor, "l h k t"]
) -> Float[Tensor, "b l h t"]:
    """``c[b,l,h] · e_t = y[b,l,h] · M_{l,h} e_t``: each head's part of a similarity (equation 4)."""
    return torch.einsum("blhk,lhkt->blht", coordinates, directions)


def heads_along(coordinates: Float[Tensor, "b l h k"], directions: Float[Tensor, "l h k b"]) -> Float[Tensor, "b l h"]:
    """``c[b,l,h] · d_b = y[b,l,h] · M_{l,h} d_b``: :func:`along` of heads, nothing of width e built (equation 4).

    In the unit of the coordinates times that of the directions.

    Args:
        directions: :func:`text_directions` of each layer, with a direction of each image's own in place of a text.
    """
    return torch.einsum("blhk,lhkb->blh", coordinates, directions)


def score_of_heads(coordinates: Float[Tensor, "b m k"], directions: Float[Tensor, "m k t"]) -> Float[Tensor, "b t"]:
    """``Σ_m y[b,m] · M_m e_t``: the same of m chosen heads together (a part of equation 3)."""
    return coordinates.flatten(1) @ directions.flatten(0, 1)


def token_scores(coordinates: Float[Tensor, "b n h k"], directions: Float[Tensor, "h k t"]) -> Float[Tensor, "b h n t"]:
    """``c[b,i,l,h] · e_t``: each token's part of a head's score (equation 4, section 5), from its coordinates.

    Args:
        coordinates: :func:`token_coordinates`.
        directions: :func:`text_directions` of the layer.
    """
    return torch.einsum("bnhk,hkt->bhnt", coordinates, directions)


def values_towards(v: Float[Tensor, "b n h k"], directions: Float[Tensor, "h pk t"]) -> Float[Tensor, "b n h p t"]:
    """``v[b,i,h] · M_{l,h} e_t`` through each p: :func:`token_scores` (equation 4, section 5) before ā is known.

    ``p t`` numbers of each token and head are kept then instead of k.

    Args:
        directions: :func:`text_directions`, in whose dtype the result is.
    """
    wide, (_, joined, n_texts) = v.to(directions.dtype), directions.shape
    by_pool_head = directions.unflatten(1, (joined // v.shape[-1], v.shape[-1])).transpose(1, 2).flatten(2)
    return (wide.transpose(1, 2) @ by_pool_head).unflatten(-1, (-1, n_texts)).transpose(1, 2)


def attended_towards(
    attended: Float[Tensor, "b h p n"], values: Float[Tensor, "b n h p t"]
) -> Float[Tensor, "b h n t"]:
    """``Σ_p ā[b,h,p,i] (v · M_{l,h} e_t)[p]``: :func:`token_scores` (equation 4) by :func:`values_towards`."""
    return torch.einsum("bhpn,bnhpt->bhnt", attended, values)


def over_heads(scores: Float[Tensor, "*batch l h n t"], chosen: Float[Tensor, "l h"]) -> Float[Tensor, "*batch n t"]:
    """``Σ_{l,h} w[l,h] s[l,h,i,t]``: a patch-text map of the chosen heads (section 5), 1 for each of them."""
    return torch.einsum("...lhnt,lh->...nt", scores, chosen)


# ---------------------------------------------------------------------- constants that are shared out


def share_weights(
    mean: Float[Tensor, "b p"],
    omega_sum: Float[Tensor, "b p"],
    pool_bias: Float[Tensor, "b w"] | None,
    scaled: Float[Tensor, "b l p"] | None,
    n_layers: int,
) -> Float[Tensor, "b l s"]:
    """How much of each of :func:`share_directions` an image's heads have, in the unit of ω, as in the paper's code.

    Per p the mean over the width of the pooled last stream; 1; the weights of an attention pool's biases; per p Σ_q ω,
    and that over the scale of a norm after W_O where there is one.

    Args:
        mean: of the pooled last stream, which C would remove.
        omega_sum: Σ_q ω, the weight of what every row has, such as b_O.
        pool_bias: weights of the biases of an attention pool; None without one.
        scaled: Σ_q ω over the scale of a norm after W_O; None without such norms.
    """
    one = omega_sum.new_ones(len(omega_sum), 1)
    per_image = torch.cat([each for each in (mean, one, pool_bias, omega_sum) if each is not None], dim=1)
    each_layer = per_image[:, None].expand(-1, n_layers, -1)
    return each_layer if scaled is None else torch.cat([each_layer, scaled], dim=2)


def term_directions(
    mean_directions: Float[Tensor, "p e"], beta_P: Float[Tensor, " e"], pool_bias: Float[Tensor, "w e"], n_layers: int
) -> Float[Tensor, "f e"]:
    """What one of the 2 l + 1 terms of equation 3 has of the last stream's mean and of β, as in the paper's code.

    Args:
        mean_directions: what a mean of 1 adds through each p where nothing removes it.
        beta_P: βP of the last LayerNorm.
        pool_bias: what a unit of each of an attention pool's biases adds; of no rows without one.
    """
    return torch.cat([-mean_directions, beta_P[None], pool_bias]) / (2 * n_layers + 1)


def share_directions(
    terms: Float[Tensor, "f e"], biases: list[Float[Tensor, "l p e"]], n_heads: int
) -> Float[Tensor, "l s e"]:
    """What one head has of all constants, with weights of 1: further rows of ``M_{l,h}`` (equation 4).

    The terms of equation 3 have equal parts, and so have the heads of a layer, as in the paper's code.

    Args:
        terms: :func:`term_directions`.
        biases: b_O of each layer through each p, and the part of it that a norm after W_O divides where there is one.
        n_heads: among which a layer's part is shared out equally.
    """
    return torch.cat([terms.expand(len(biases[0]), -1, -1), *biases], dim=1) / n_heads


# ---------------------------------------------------------------------- shares and moments


def along(contributions: Float[Tensor, "b *rest e"], directions: Float[Tensor, "b e"]) -> Float[Tensor, "b *rest"]:
    """``c · d`` with a direction of each image's own, in the unit of the contributions times that of the directions.

    Of any term c of equation 3 or 4; those of equation 3 sum to ``M · d``.

    With d the difference of two texts, what a component adds to their gap; with :func:`own_direction`, its share.
    """
    return torch.einsum("b...e,be->b...", contributions, directions)


def own_direction(whole: Float[Tensor, "*batch e"]) -> Float[Tensor, "*batch e"]:
    """``M / ‖M‖²``: the direction along which a term c of a sum M has its share ``c · M / ‖M‖²``; NaN where M is zero.

    What part of M's squared length the term is: shares have no unit and sum to 1, some below 0. M is the embedding, the
    sum of equation 3, or one head's contribution. Own: "Shares" in docs/pages/concepts.md.
    """
    return whole / whole.square().sum(-1, keepdim=True)


def second_moments(y: Float[Tensor, "*parts b h k"]) -> Float[Tensor, "*parts h k k"]:
    """``Σ_b y[b,h] y[b,h]ᵀ`` of each head: what Algorithm 1 needs of the images beside Σ y and their number.

    With axes before that of the images, of each part of them on its own.
    """
    return torch.einsum("...bhi,...bhj->...hij", y, y)


def moment_in(frame: Float[Tensor, "k r"], moment: Float[Tensor, "k k"]) -> Float[Tensor, "r r"]:
    """``Fᵀ Σ F``: the second moment of y in other coordinates ``x = y F``, as Algorithm 1 takes it."""
    return frame.T @ moment @ frame


def orthonormal_frame(head_map: Float[Tensor, "k e"]) -> tuple[Float[Tensor, "k r"], Float[Tensor, "e r"]]:
    """``F = Rᵀ`` and Q of ``Mᵀ = Q R``: x = y F are orthonormal coordinates, in Q, of what a head writes.

    A text's projection on the head's span is ``Qᵀ e_t`` there (first lines of Algorithm 1). Where M has a lower rank, Q
    has more columns, along which no data lies.
    """
    q, r = torch.linalg.qr(head_map.T)  # A tenth of an SVD's work, and several processes do not slow it down as much.
    return r.T, q


def quadratic(x: Float[Tensor, "*batch k"], form: Float[Tensor, "*forms k k"]) -> Float[Tensor, "*batch"]:
    """``xᵀ F x`` of each row.

    With a covariance, the variance along a text: ``r_jᵀ Σ r_j``, by which Algorithm 1 picks. With ``F = M Mᵀ``, the
    squared length ``‖y M‖²`` of a contribution. A form for all rows; or one for each group of them.
    """
    return ((x @ form) * x).sum(-1)


def gram(head_map: Float[Tensor, "*maps k e"]) -> Float[Tensor, "*maps k k"]:
    """``M Mᵀ``: dot products of contributions (equation 4) that are not built: ``(y M) · (y' M) = y (M Mᵀ) y'ᵀ``."""
    return head_map @ head_map.mT
