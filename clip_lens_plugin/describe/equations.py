"""The formulas of Algorithm 1 (TextSpan) in a head's coordinates, which every search for texts goes by.

Source: Gandelsman, Efros and Steinhardt, ICLR 2024, Algorithm 1. Each step picks the text along which the data vary
most, ``argmax_j r_jᵀ Σ r_j`` (:func:`~clip_lens_plugin.decomposition.equations.quadratic`), and removes its direction u
from every text, by one of two ways:

- :func:`without_directions` changes every r_j; Σ stays, as removed directions are orthonormal.
- :func:`variance_left` changes ``r_jᵀ Σ r_j`` alone, by two products with the texts as they were: ``a_j = r_j · u``,
  the same for the text before any removal, since the directions are orthonormal; and ``s_j = r_jᵀ Σ u``, of which
  :func:`covariance_left` makes that of the residual. Own: "TextSpan" in docs/pages/concepts.md.

Letters: t texts; r coordinates; m directions that were removed before; e width of the joint space; k width of a head;
b images. Variances are in the unit of the data's coordinates, squared; texts have no unit.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def without_directions(
    texts: Float[Tensor, "*batch t r"], directions: Float[Tensor, "*batch m r"]
) -> Float[Tensor, "*batch t r"]:
    """``r_j − Σ_m (r_j · u_m) u_m`` for orthonormal u_m: Algorithm 1 takes picked directions out of every text."""
    return texts - (texts @ directions.mT) @ directions


def covariance_left(
    covariance: Float[Tensor, "*batch t"], along: Float[Tensor, "*batch m t"], earlier: Float[Tensor, "*batch m"]
) -> Float[Tensor, "*batch t"]:
    """``s_j = e_jᵀ Σ u − Σ_m a_jm u_mᵀ Σ u``: the covariance of a text's residual r_j with a direction u.

    As ``r_j = e_j − Σ_m a_jm u_m``. For :func:`variance_left`.

    Args:
        covariance: ``e_jᵀ Σ u`` of the texts before any direction was removed.
        along: ``a_jm = e_j · u_m`` of the m directions that were.
        earlier: ``u_mᵀ Σ u`` of each.
    """
    return covariance - (earlier[..., None, :] @ along)[..., 0, :]


def variance_left(
    variance: Float[Tensor, "*batch t"],
    along: Float[Tensor, "*batch t"],
    covariance: Float[Tensor, "*batch t"],
    gained: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch t"]:
    """``r_jᵀ Σ r_j − 2 a_j s_j + a_j² uᵀ Σ u``: the variance along a text after :func:`without_directions`.

    Args:
        variance: ``r_jᵀ Σ r_j`` before.
        along: ``a_j = r_j · u``.
        covariance: ``s_j = r_jᵀ Σ u``, see :func:`covariance_left`.
        gained: ``uᵀ Σ u``.
    """
    return variance - along * (2 * covariance - along * gained[..., None])


def projected(
    coordinates: Float[Tensor, "b k"], head_map: Float[Tensor, "k e"], directions: Float[Tensor, "m e"]
) -> Float[Tensor, "b e"]:
    """``y M Dᵀ D``: a head's contribution projected on orthonormal directions (section 4, figure 3).

    Args:
        directions: of the texts that Algorithm 1 picked.
    """
    return (coordinates @ (head_map @ directions.T)) @ directions
