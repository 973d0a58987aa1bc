"""Names of weights as training code leaves them, back to those of the model itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from torch import Tensor

from clip_lens_plugin.model.loading.errors import UnfitError
from clip_lens_plugin.model.loading.weight_files.checkpoint import counted, some

TRANSPARENT = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
"""Parts of a name that wrappers put in, wherever they wrapped: DDP, torch.compile, FSDP, activation checkpoints."""

TOWER = "visual."
TOWER_STARTS = ("", TOWER, "visual.trunk.")
"""What the names of an image tower saved alone lack."""

ELSEWHERE = {
    "vision_model.": "Hugging Face's names of a CLIP: give the folder that save_pretrained wrote, transformers:FOLDER",
    "image_encoder.": "names of Apple's MobileCLIP, which open_clip converts for its own MobileCLIP names only",
}
"""Marks of other libraries' checkpoints, and the way out."""

MOST = 0.5
"""Share of the image tower's names that a file must have under one prefix to be taken for this architecture."""


def plain_names(weights: dict[str, Tensor], expected: Collection[str]) -> tuple[dict[str, Tensor], list[str]]:
    """The weights under the model's own names, and what was taken off or left out, as parts of a sentence.

    Args:
        weights: of a file, by name.
        expected: names of the model's weights; those of its image tower decide which prefix is meant.

    Raises:
        UnfitError: if two prefixes hold a whole image tower each, or none most of one.
    """
    said: list[str] = []
    known = {part for name in expected for part in name.split(".")}
    through = {
        name: ".".join(part for part in name.split(".") if part in known or part not in TRANSPARENT) for name in weights
    }
    wrapped = [name for name, plain in through.items() if plain != name]
    if len(set(through.values())) < len(through):
        raise UnfitError(f"holds the same names with and without a wrapper's part ({some(wrapped)})")
    if wrapped:
        parts = sorted({part for name in wrapped for part in name.split(".") if part in TRANSPARENT - known})
        said.append(f"{' and '.join(f'{part}.' for part in parts)} taken off {counted(wrapped, 'name', 'names')}")
    plain = {through[name]: weight for name, weight in weights.items()}
    prefix, start = _prefix(plain, expected)
    if not prefix and not start:
        return plain, said
    taken = {start + name.removeprefix(prefix): weight for name, weight in plain.items() if name.startswith(prefix)}
    if prefix:
        said.append(f"{prefix} taken off {counted([*taken], 'name', 'names')}")
        left = [name for name in plain if not name.startswith(prefix)]
        if left:
            said.append(f"{counted(left, 'other weight', 'other weights')} left out ({some(left)})")
    if start:
        said.append(f"its names read as those of the image tower, {start.removesuffix('.')}")
    return taken, said


def _prefix(plain: dict[str, Tensor], expected: Collection[str]) -> tuple[str, str]:
    """What stands before the names of the image tower in the file, and what of the model's own names is missing."""
    tower = {name for name in expected if name.startswith(TOWER)}
    hits: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for name in plain:
        parts = name.split(".")
        for i in range(len(parts)):
            rest = ".".join(parts[i:])
            for start in TOWER_STARTS:
                if start + rest in tower:
                    hits[name[: len(name) - len(rest)], start].add(name)
    best = max(map(len, hits.values()), default=0)
    if best < MOST * len(tower):
        mark = next((why for mark, why in ELSEWHERE.items() if any(mark in name for name in plain)), None)
        if mark:
            raise UnfitError(f"has {mark}")
        raise UnfitError(
            f"could not be loaded: it is of another architecture. Missing are {some(sorted(tower - plain.keys()))}; "
            f"it holds {some(plain)}"
        )
    # Of equal counts the plainest: nothing before the names, and nothing missing of them.
    found = sorted(
        (each for each in hits if len(hits[each]) == best), key=lambda each: (len(each[0]) + len(each[1]), each)
    )
    others = [prefix for prefix, start in found if hits[prefix, start].isdisjoint(hits[found[0]])]
    if others:
        raise UnfitError(
            f"holds several models, under {found[0][0] or 'their plain names'!r} and {others[0]!r}; save the one that "
            f"is meant alone"
        )
    return found[0]
