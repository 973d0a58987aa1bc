"""The model that a command runs: the one that was said, or a store's own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from clip_lens_plugin.cli.given.model import ModelChoice
from clip_lens_plugin.cli.given.options import Precision
from clip_lens_plugin.collection.origins.own_model import out_of_reach, own_dtype, own_recipe, recorded_recipe
from clip_lens_plugin.collection.plan import Plan
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.model.loading.errors import ModelNotFoundError
from clip_lens_plugin.model.loading.recipe import PATH, Recipe


@dataclass(frozen=True)
class ChosenModel:
    """What was said of the model, filled up with what a store says of its own.

    Attributes:
        choice: its ``model`` is never None.
        dtype: of the weights.
        recipe: of the store's own model, None where another was chosen.
        address: of the store.
    """

    choice: ModelChoice
    dtype: torch.dtype
    recipe: Recipe | None = None
    address: str = ""

    @classmethod
    def of(
        cls, choice: ModelChoice, precision: Precision | None, plan: Plan | None = None, address: str = ""
    ) -> ChosenModel:
        """The model; what was said wins over what a store says.

        Args:
            choice, precision: what was said; the dtype of a store's model, or float32, if that was not.
            plan: of the store, None without one.
            address: of the store.

        Raises:
            OwnModelError: if none was chosen, and the store does not say enough of its own.
        """
        of_store = None if plan is None else own_dtype(plan)
        dtype = of_store or torch.float32 if precision is None else getattr(torch, precision)
        if plan is None or choice.model is not None:
            return cls(replace(choice, model=choice.model or "scenes"), dtype)
        recipe = recorded_recipe(plan)
        if recipe is None or (recipe.checkpoint == PATH and choice.checkpoint is None):
            recipe = own_recipe(plan, address)
        return cls(filled_up(choice, recipe), dtype, recipe, address)

    @property
    def name(self) -> str:
        """The model's name, as in ``--model``."""
        return str(self.choice.model)

    def load(self, console: Console, own_device: str | torch.device | None = None) -> HookedCLIP:
        """The model, see :meth:`ModelChoice.load`.

        Raises:
            OwnModelError: if it is a store's own and out of reach; the message says which options to give.
        """
        try:
            return self.choice.load(console, self.dtype, own_device, said_before=self.recipe is not None)
        except ModelNotFoundError as error:
            if self.recipe is None:
                raise
            raise out_of_reach(self.recipe, self.address, error) from error


def filled_up(choice: ModelChoice, recipe: Recipe) -> ModelChoice:
    """What was said, and for all else how a model was loaded before."""
    size = recipe.force_image_size
    return replace(
        choice,
        model=recipe.name,
        pretrained=choice.pretrained or recipe.pretrained,
        checkpoint=choice.checkpoint or _path(recipe.checkpoint),
        quick_gelu=choice.quick_gelu or bool(recipe.force_quick_gelu),
        image_size=choice.image_size or (None if size is None else "x".join(map(str, size))),
        image_mean=choice.image_mean or recipe.image_mean,
        image_std=choice.image_std or recipe.image_std,
        image_interpolation=choice.image_interpolation or recipe.image_interpolation,
        image_resize_mode=choice.image_resize_mode or recipe.image_resize_mode,
        tokenizer=choice.tokenizer or _path(recipe.tokenizer),
    )


def _path(given: str | None) -> Path | None:
    return None if given is None else Path(given)
