"""The embedded model with everything that an analysis is asked of: images, contributions, a store, classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from clip_lens_plugin import Contributions, HookedCLIP, collect, mean_ablation_curve, patch_text_map
from clip_lens_plugin.ablation.component_sets import Components
from clip_lens_plugin.collection import ContributionStore
from clip_lens_plugin.datasets import ShardSource
from clip_lens_plugin.describe.spans import TextSpanResult, text_span
from clip_lens_plugin.maps.crop_geometry import Placement
from clip_lens_plugin.maps.patch_text import PatchTextMap
from clip_lens_plugin.report.analyses import Question, analyse
from clip_lens_plugin.scenes import ScenesDataset
from clip_lens_plugin.statistics.moments import Moments
from clip_lens_plugin.texts.pool import TextPool

TEXTS = ["a dog", "a cat", "water"]
NOT_WHOLE = (1.0, True, "1", None, [1])
NOT_COUNTS = (0, -1, 1.5, True, "2", [2])


@dataclass
class World:
    """A small model and data of five images, and all that can be made of them; made when asked for."""

    folder: Path

    @cached_property
    def model(self) -> HookedCLIP:
        return HookedCLIP.from_pretrained("scenes", device="cpu")

    @cached_property
    def dataset(self) -> ScenesDataset:
        return ScenesDataset(5, 3, "colour")

    @cached_property
    def images(self) -> Tensor:
        return self.model.prepare([picture for picture, _ in self.dataset])

    @cached_property
    def held(self) -> Contributions:
        return self.model.decompose(self.images, tokens=True, neurons=True)

    @cached_property
    def store(self) -> ContributionStore:
        options: dict[str, Any] = {"dtype": "float32", "batch_size": 2, "progress": False}
        return collect(self.model, self.dataset, self.folder / "store", "contributions", **options)

    @cached_property
    def texts(self) -> Tensor:
        return self.model.encode_text(TEXTS)

    @cached_property
    def labels(self) -> Tensor:
        return torch.tensor([0, 1, 2, 0, -1])

    @cached_property
    def span(self) -> TextSpanResult:
        return text_span(self.model, Moments.from_contributions(self.held.normalized()), TEXTS, 2, heads="all")

    @cached_property
    def maps(self) -> PatchTextMap:
        return patch_text_map(self.model, self.images, TEXTS)

    @cached_property
    def cache(self) -> Any:
        return self.model.run_with_cache(self.images)[1]

    @cached_property
    def placement(self) -> Placement:
        return Placement.of(self.model.preprocess, (90, 70), (56, 56))

    @cached_property
    def shards(self) -> ShardSource:
        import io
        import tarfile

        with tarfile.open(self.folder / "a.tar", "w") as tar:
            for position, (picture, _) in enumerate(self.dataset):
                data = io.BytesIO()
                picture.save(data, "PNG")
                member = tarfile.TarInfo(f"{position}.png")
                member.size = len(data.getvalue())
                tar.addfile(member, io.BytesIO(data.getvalue()))
        return ShardSource(self.folder / "a.tar")

    @cached_property
    def pictures(self) -> Path:
        (self.folder / "pictures").mkdir()
        for position, (picture, _) in enumerate(self.dataset):
            picture.save(self.folder / "pictures" / f"{position}.png")
        return self.folder / "pictures"

    def curve(self, **changed: Any) -> pd.DataFrame:
        options = {"components": [Components.of_mlps(self.model, [0])], "ablation": "mean", "effect": "direct"}
        return mean_ablation_curve(self.held, self.texts, changed.pop("labels", self.labels), **(options | changed))

    def run(self, hook: Callable[..., Any], name: str = "blocks.1.attn.hook_z") -> Tensor:
        return self.model.run_with_hooks(self.images, fwd_hooks=[(name, hook)])

    def report(self, answers: Any) -> object:
        question = Question("colour", tuple(TEXTS), answers)
        names = [str(i) for i in range(5)]
        return analyse(self.model, self.images, names=names, pool=TextPool.from_strings(TEXTS), questions=[question])


def same(one: Any, other: Any) -> bool:
    """Equal to the last bit, whatever it is."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, pd.DataFrame):
        order = ["layer", "head", "rank", "side", "place"] if "side" in one else ["place"]
        pd.testing.assert_frame_equal(*(each.sort_values(order, ignore_index=True) for each in (one, other)))
        return True
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)
