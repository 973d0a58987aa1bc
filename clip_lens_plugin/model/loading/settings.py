"""Activation and preprocessing of a model that is asked for by name: those of its tag, or what its tags agree on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import open_clip
from open_clip.transform import PreprocessCfg

from clip_lens_plugin.hints import hint
from clip_lens_plugin.model.loading.options import Options

STEPS = ("mean", "std", "interpolation", "resize_mode")
"""Of the preprocessing, under open_clip's names."""

ACTIVATIONS = {True: "QuickGELU", False: "GELU"}


@dataclass(frozen=True)
class Settings:
    """What a file of weights does not say about itself.

    Attributes:
        quick_gelu: whether QuickGELU stands between an MLP's layers instead of GELU.
        preprocessing: mean, std, interpolation and resize mode, under open_clip's names.
    """

    quick_gelu: bool
    preprocessing: dict[str, Any]


def own_settings(name: str) -> Settings:
    """Those of the name itself: its config's activation, and open_clip's common preprocessing."""
    config = open_clip.get_model_config(name) or {}
    common = asdict(PreprocessCfg())
    return Settings(bool(config.get("quick_gelu", False)), {step: common[step] for step in STEPS})


def tag_settings(name: str, tag: str) -> Settings:
    """Those of a tag; the name's own where open_clip's list says nothing for the tag."""
    own, listed = own_settings(name), open_clip.get_pretrained_cfg(name, tag)
    return Settings(
        bool(listed.get("quick_gelu", own.quick_gelu)),
        {step: _value(listed.get(step, own.preprocessing[step])) for step in STEPS},
    )


def file_settings(name: str, options: Options) -> tuple[Settings, str | None]:
    """Those for a file that is given without a tag, and what must be said about them.

    Args:
        name: of open_clip's list.
        options: what the user said, which is in doubt no more.

    Returns:
        What all tags of the name agree on, and the name's own where they differ; and the sentences that say which, with
        the choices, or None where nothing is in doubt.
    """
    own = own_settings(name)
    tags = {tag: tag_settings(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)}
    if not tags:
        return own, None
    first = next(iter(tags.values()))
    agreed = len({each.quick_gelu for each in tags.values()}) == 1
    quick_gelu = first.quick_gelu if agreed else own.quick_gelu
    differing = [step for step in STEPS if len({each.preprocessing[step] for each in tags.values()}) > 1]
    preprocessing = {step: (own if step in differing else first).preprocessing[step] for step in STEPS}
    doubtful = [step for step in differing if step not in options.preprocessing]
    settings = Settings(quick_gelu, preprocessing)
    choices = []
    if not agreed and options.force_quick_gelu is None:
        groups = _groups({tag: ACTIVATIONS[each.quick_gelu] for tag, each in tags.items()})
        choices.append(f"activation: {groups} ({_quick_gelu_way()})")
    if doubtful:
        groups = _groups(
            {tag: _printed({step: each.preprocessing[step] for step in doubtful}) for tag, each in tags.items()}
        )
        keywords = ", ".join(hint(f"image_{step}=", f"--image-{step.replace('_', '-')}") for step in doubtful)
        choices.append(f"preprocessing: {groups} ({keywords})")
    if not choices:
        return settings, None
    used = ACTIVATIONS[True if options.force_quick_gelu else quick_gelu]
    return settings, (
        f"A file does not say with which activation and preprocessing it was trained, and the tags of {name} differ. "
        f"Used: activation {used}, preprocessing {_printed({**preprocessing, **options.preprocessing})}. "
        f"The tags, by {'; by '.join(choices)}. If the file descends from a tag, give both: "
        f"{hint(f'from_pretrained({name!r}, TAG, checkpoint=PATH)', '--pretrained TAG --checkpoint PATH')}."
    )


def _quick_gelu_way() -> str:
    return hint(
        "force_quick_gelu=True is QuickGELU, False keeps the name's own without a word",
        "--force-quick-gelu is QuickGELU",
    )


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _groups(values: dict[str, str]) -> str:
    tags: dict[str, list[str]] = {}
    for tag, value in values.items():
        tags.setdefault(value, []).append(tag)
    return "; ".join(f"{value}: {', '.join(each)}" for value, each in tags.items())


def _printed(preprocessing: dict[str, Any]) -> str:
    return ", ".join(
        f"{step} {'/'.join(f'{each:.4g}' for each in value) if isinstance(value, tuple) else value}"
        for step, value in preprocessing.items()
    )
