"""Activation and preprocessing of a model that is asked for by name: those of its tag, or what its tags agree on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import open_clip
from open_clip.transform import PreprocessCfg

from clip_lens_plugin.hints import hint
from clip_lens_plugin.model.loading.options import Options

STEPS = ("mean", "std", "interpolation", "resize_mode")
"""Of the preprocessing, under open_clip's names."""

ACTIVATIONS = {True: "QuickGELU", False: "GELU"}

MOST_TAGS = 2
"""That are named of those which say the same."""


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
    """The settings of the name itself: its config's activation, and open_clip's common preprocessing."""
    config = open_clip.get_model_config(name) or {}
    common = asdict(PreprocessCfg())
    return Settings(bool(config.get("quick_gelu", False)), {step: common[step] for step in STEPS})


def tag_settings(name: str, tag: str) -> Settings:
    """The settings of a tag; the name's own where open_clip's list says nothing for the tag."""
    own, listed = own_settings(name), open_clip.get_pretrained_cfg(name, tag)
    return Settings(
        bool(listed.get("quick_gelu", own.quick_gelu)),
        {step: _value(listed.get(step, own.preprocessing[step])) for step in STEPS},
    )


def file_settings(name: str, options: Options) -> tuple[Settings, str | None]:
    """The settings for a file that is given without a tag, and what must be said about them.

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
    doubts: list[_Doubt] = []
    if not agreed and options.force_quick_gelu is None:
        groups = _groups({tag: ACTIVATIONS[each.quick_gelu] for tag, each in tags.items()})
        way = hint("force_quick_gelu=True (QuickGELU) or False", "--force-quick-gelu")
        doubts.append(_Doubt("activation", groups, ACTIVATIONS[quick_gelu], way))
    if doubtful:
        groups = _groups(
            {tag: _printed({step: each.preprocessing[step] for step in doubtful}) for tag, each in tags.items()}
        )
        ways = ", ".join(hint(f"image_{step}=", f"--image-{step.replace('_', '-')}") for step in doubtful)
        used = _printed({step: preprocessing[step] for step in doubtful})
        doubts.append(_Doubt("preprocessing", groups, used, ways))
    if not doubts:
        return settings, None
    both = hint(f"from_pretrained({name!r}, TAG, checkpoint=PATH)", "--pretrained TAG --checkpoint PATH")
    return settings, (
        f"A file does not say with which {' and '.join(each.what for each in doubts)} it was trained, and the tags of "
        f"{name} differ: {'; '.join(each.groups for each in doubts)}. Used: {'; '.join(each.used for each in doubts)}. "
        f"If the file descends from a tag, give both: {both}. Otherwise say it: "
        f"{', '.join(each.way for each in doubts)}."
    )


class _Doubt(NamedTuple):
    """What a file does not say: its name, the tags by what they say, what is used, and how to say another."""

    what: str
    groups: str
    used: str
    way: str


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _groups(values: dict[str, str]) -> str:
    """Each value with the first tags that say so."""
    tags: dict[str, list[str]] = {}
    for tag, value in values.items():
        tags.setdefault(value, []).append(tag)
    return ", or ".join(f"{value} ({_first(each)})" for value, each in tags.items())


def _first(tags: list[str]) -> str:
    more = f" and {len(tags) - MOST_TAGS} more" if len(tags) > MOST_TAGS else ""
    return ", ".join(tags[:MOST_TAGS]) + more


def _printed(preprocessing: dict[str, Any]) -> str:
    return ", ".join(
        f"{step} {'/'.join(f'{each:.4g}' for each in value) if isinstance(value, tuple) else value}"
        for step, value in preprocessing.items()
    )
