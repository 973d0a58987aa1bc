"""A model as a folder that its own library loads, with a card; it appears whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from open_clip.coca_model import CoCa

from clip_lens_plugin.adapters.transformers_tower import HuggingFaceCLIP
from clip_lens_plugin.editing.card import card
from clip_lens_plugin.editing.effects import EditEffects
from clip_lens_plugin.editing.formats import HuggingFaceFolder, OpenClipFolder
from clip_lens_plugin.files.given import leads_out, read_regular
from clip_lens_plugin.files.whole import START, make_folder, whole_files
from clip_lens_plugin.model.identity.verification import probe_image, source_embedding, unnormalised
from clip_lens_plugin.model.loading.foreign import PROCESSORS
from clip_lens_plugin.scenes.embedded import EMBEDDED

MERGES = "bpe.txt.gz"
"""Of the embedded model's own tokenizer, which open_clip does not look for by itself."""

BESIDE = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
    *("merges.txt", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", MERGES),
    *PROCESSORS,
)
"""Files of tokenizers and image processors that are copied."""

DIFFERENT = 1e-4
"""A model that differs by more is another, in float32; a wrong activation or size does by far more."""

NARROW = {torch.float16: 1e-2, torch.bfloat16: 5e-2}


def save(model: Any, path: Path, effects: EditEffects | None, model_cfg: Mapping[str, Any] | None) -> Path:
    """Writes the folder; see :meth:`~clip_lens_plugin.model.editable.Editable.save_open_clip`."""
    place = path.expanduser()
    _refuse_place(place)
    if effects is not None and effects.edits != model.edits:
        raise ValueError(
            "The effects are of other edits than this model's: measure them with edit_effects(edited, data, ...)."
        )
    kind = HuggingFaceFolder(model) if isinstance(model.clip, HuggingFaceCLIP) else OpenClipFolder(model, model_cfg)
    beside = place.with_name(f"{START}{uuid4().hex}")
    make_folder(beside)
    try:
        kind.write(beside)
        copied = _copy_files(model, beside)
        _refuse_other(model, kind.load(beside))
        about = {
            "loader": kind.loader,
            "dtype": str(model.cfg.dtype).removeprefix("torch."),
            "preprocessing": kind.has_preprocessing or bool({*PROCESSORS} & {*copied}),
            "copied": copied,
            "context_length": model.clip.context_length if MERGES in copied else None,
        }
        with whole_files() as whole:
            text = card(model.cfg.model_name, model.edits, effects, about)
            whole(beside / "README.md").write_text(text, encoding="utf-8")
        _refuse_place(place)
        beside.rename(place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return place


def _refuse_place(place: Path) -> None:
    if place.exists() or place.is_symlink():
        raise FileExistsError(f"{place} is there already, and nothing is overwritten. Give another path.")
    if not place.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {place.parent} to put {place.name} into.")


def _folder_of(model: Any) -> Path | None:
    """The folder that the model was loaded from; None if it was none, or is not known."""
    name = "" if model.origin is None else model.origin.name
    if name in EMBEDDED:
        return EMBEDDED[name]
    prefix, _, folder = name.partition(":")
    found = Path(folder).expanduser()
    return found if prefix in ("local-dir", "transformers") and found.is_dir() else None


def _copy_files(model: Any, to: Path) -> list[str]:
    """Copies what belongs to the model beside its weights, and lies inside its folder; the names."""
    folder = _folder_of(model)
    names = [] if folder is None else [name for name in BESIDE if (folder / name).is_file()]
    copied = [name for name in names if folder is not None and not leads_out(folder / name, folder)]
    for name in copied:
        assert folder is not None
        (to / name).write_bytes(read_regular(folder / name))
    return copied


@torch.no_grad()
def _refuse_other(model: Any, loaded: Any) -> None:
    """Raises ValueError if what was loaded is another model."""
    image = probe_image(model)
    wide = torch.promote_types(model.cfg.dtype, torch.float32)
    weight = next(loaded.parameters())
    theirs = unnormalised(loaded.encode_image, image.to(weight.device, weight.dtype))
    pairs = [(source_embedding(model, image), theirs)]
    if not isinstance(loaded, HuggingFaceCLIP):  # The heads of open_clip's text towers are not in weights' shapes.
        words = (loaded.text if isinstance(loaded, CoCa) else loaded).vocab_size
        ids = torch.arange(1, loaded.context_length + 1, device="cpu")[None] % words
        own = unnormalised(model.clip.encode_text, ids.to(model.cfg.device))
        pairs.append((own, unnormalised(loaded.encode_text, ids)))
    for ours, theirs in pairs:
        own, other = ours.to("cpu", wide), theirs.to("cpu", wide)
        difference = float((own - other).norm() / own.norm())
        if not difference <= NARROW.get(model.cfg.dtype, DIFFERENT):
            raise ValueError(
                f"What was written of {model.cfg.model_name} loads as another model: its embedding of a probe differs "
                f"by {difference:.1e} (relative). The config must be that of this very model: activation, heads, image "
                f"size. Give it as model_cfg."
            )
