"""A store's own model, loaded again as it was when the store was made."""

from __future__ import annotations

import torch

from clip_lens_plugin.collection.plan import CollectionMismatchError, Plan
from clip_lens_plugin.hints import hint
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.model.identity.fingerprints import Fingerprints
from clip_lens_plugin.model.loading.by_name import refuse_unknown
from clip_lens_plugin.model.loading.errors import ModelNotFoundError
from clip_lens_plugin.model.loading.recipe import PATH, Recipe, recipe_of_title


class OwnModelError(ModelNotFoundError):
    """A store's own model is not recorded, or is out of reach; the message says what to give."""


def recorded_recipe(plan: Plan) -> Recipe | None:
    """How the model of a store was loaded; of an earlier version, so far as the model's title says it."""
    return plan.recipe or recipe_of_title(plan.model_name)


def own_recipe(plan: Plan, address: str) -> Recipe:
    """As :func:`recorded_recipe`, where that is all that is needed.

    Raises:
        OwnModelError: if that is not known, or is not all that is needed.
    """
    found = recorded_recipe(plan)
    if found is None:
        whole = hint(f"ContributionStore.open({address!r}, model)", "--model NAME, with --pretrained or --checkpoint")
        raise OwnModelError(
            f"{address} was collected with another model than can be loaded by name: one that was called "
            f"{plan.model_name!r}. Give that: {whole}."
        )
    if found.checkpoint == PATH:
        raise OwnModelError(
            f"{address} is of an earlier version, which did not keep where its model's weights lay. Give the model: "
            f"{_way(found, address)}."
        )
    return found


def refuse_out_of_reach(plan: Plan, address: str) -> None:
    """Raises OwnModelError if a store's own model is not recorded, or its file or folder is gone; loads nothing.

    What a network would be needed for is not looked for.
    """
    recipe = own_recipe(plan, address)
    try:
        refuse_unknown(recipe.name, recipe.pretrained, recipe.checked())
    except ModelNotFoundError as error:
        raise out_of_reach(recipe, address, error) from error


def own_model(plan: Plan, address: str) -> HookedCLIP:
    """The model of a store, in the dtype that it had.

    Nothing is noted of its files: that was done when it was collected, and fingerprints are compared.

    Raises:
        OwnModelError: if it is not recorded, or is out of reach.
        CollectionMismatchError: if it is not what it was.
    """
    recipe = own_recipe(plan, address)
    try:
        found = HookedCLIP.from_options(recipe.name, recipe.pretrained, None, own_dtype(plan), recipe.checked())
    except ModelNotFoundError as error:
        raise out_of_reach(recipe, address, error) from error
    try:
        plan.refuse_other_model(Fingerprints.of(found), address)
    except CollectionMismatchError as error:
        parts = " and ".join(plan.fingerprints.differences(Fingerprints.of(found)))
        raise CollectionMismatchError(
            f"{address} was collected with another model than can be loaded by its name now, {recipe}: other {parts}. "
            f"Give the model that it was collected with, or collect again."
        ) from error
    return found


def own_dtype(plan: Plan) -> torch.dtype | None:
    """The dtype of a store's model; None for one that torch does not have."""
    found = getattr(torch, plan.fingerprints.dtype, None)
    return found if isinstance(found, torch.dtype) else None


def out_of_reach(recipe: Recipe, address: str, error: Exception) -> OwnModelError:
    """What to raise where a store's own model cannot be loaded."""
    return OwnModelError(
        f"The model that {address} was collected with is out of reach: {error} It was {recipe}. Where it is now: "
        f"{_way(recipe.without_path(), address)}."
    )


def _way(recipe: Recipe, address: str) -> str:
    """How to give the model."""
    return hint(f"ContributionStore.open({address!r}, {recipe.call()})", recipe.options())
