"""A model's edits as weights, and the folder that an edited model is saved to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from clip_lens_plugin.model.edits import Edit
from clip_lens_plugin.model.protocol import ImageModel

if TYPE_CHECKING:
    from clip_lens_plugin.editing.effects import EditEffects

Own = TypeVar("Own", bound="Editable")


class Editable(ImageModel):
    """A model whose heads can be edited for good.

    Attributes:
        edits: what was changed since the model was loaded, the first first.
    """

    edits: tuple[Edit, ...] = ()

    def edited(
        self: Own,
        remove: Any = (),
        scale: Any = None,
        project_out: Any = None,
        means: Any = None,
    ) -> Own:
        """A copy of the model whose weights do what hooks on ``hook_z`` of these heads would do, at every token.

        This model and its source stay as they are. In weights narrower than float64, edits are computed in float64 and
        rounded once. Edits of one head follow one another: an edit of an edited model is an edit of what it has become.

        Args:
            remove: (layer, head) pairs whose output becomes its mean, or zero; or the number of a layer.
            scale: dictionary of (layer, head) to the factor of the head's output.
            project_out: likewise to what a head is to say nothing about: texts, or directions in the joint space [e] or
                [t, e].
                Its contribution to the embedding becomes orthogonal to each. Under an attention pool of p heads each
                costs p of the head's k dimensions.
            means: stand in for what removed heads put out, one vector for each head [layers, heads, width], as
                :func:`~clip_lens_plugin.head_means` gives them; zero if not given. A mean for each position, as
                ``mean_ablation`` takes, cannot be put into weights.

        Raises:
            ValueError: if nothing is to be edited, an argument is not as above, a head is removed and edited otherwise
                at once, as many dimensions are projected out as the head has, or the weights of a layer cannot do
                what the hooks do: where a norm follows the heads (EVA-02's inner norm, post-norm blocks), where the
                mean needs a bias that the source does not have, or where layers share their weights.
            IndexError: if there is no such head.
        """
        from clip_lens_plugin.editing.edited import edited_source

        clip, edits = edited_source(self, remove, scale, project_out, means)
        model: Any = self
        made = type(model)(clip, self.preprocess, model.tokenizer, f"{self.cfg.model_name} (edited)")
        made.labels = model.labels
        # Loaded again as it was, it would be without its edits.
        made.origin = None if model.origin is None else replace(model.origin, recipe=None)
        made.edits = (*self.edits, *edits)
        return made

    def save_open_clip(
        self,
        path: str | Path,
        effects: EditEffects | None = None,
        model_cfg: Mapping[str, Any] | None = None,
    ) -> Path:
        """Writes a folder that open_clip loads by itself, ``open_clip.create_model("local-dir:PATH")``; its path.

        It holds ``open_clip_config.json``, ``open_clip_model.safetensors`` and a card, ``README.md``. A Hugging Face
        model is saved as its own ``save_pretrained`` does, for its own ``from_pretrained``. Files of a tokenizer or
        an image processor are copied from the folder that the model was loaded from. Before anything appears
        at the path, the folder is loaded by the library itself, and its embedding of a probe compared with this
        model's.

        Args:
            path: of the folder, which must not be there yet.
            effects: of the edits, for the card, as :func:`~clip_lens_plugin.edit_effects` measures them; the card says
                "not measured" if not given.
            model_cfg: open_clip's config of the model, as ``open_clip.get_model_config(name)``; that by which it was
                loaded if not given. For a model of open_clip that was not loaded by this package.

        Raises:
            FileExistsError: if something is at the path.
            FileNotFoundError: if there is no folder to put it into.
            ValueError: if there is no config, the model is an image tower alone, the effects are of other edits, or
                what was written loads as another model.
        """
        from clip_lens_plugin.editing.saving import save

        return save(self, Path(path), effects, model_cfg)
