"""What a store is of and how it is made: fixed before the first image, compared when it is resumed or opened."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch

from clip_lens_plugin.collection.checks.sealed import sealed
from clip_lens_plugin.collection.errors import CollectionWarning
from clip_lens_plugin.datasets.source import ImageSource
from clip_lens_plugin.datasets.streams.stream import StreamSource
from clip_lens_plugin.decomposition.parts.extras import BIAS_WEIGHT, COMPONENTS, extras_of
from clip_lens_plugin.higher_order.chosen_names import neurons_of_text
from clip_lens_plugin.labelling.wordnet import worded
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.model.identity.fingerprints import Fingerprints
from clip_lens_plugin.model.loading.recipe import Recipe
from clip_lens_plugin.numerics.noise import TOLERANCE, computed_noise, stored_noise
from clip_lens_plugin.statistics.class_sums import MOST_BYTES as MOST_CLASS_BYTES
from clip_lens_plugin.statistics.class_sums import class_sums_bytes
from clip_lens_plugin.statistics.moments import late_layers
from clip_lens_plugin.statistics.part_moments import MOST_BYTES as MOST_PART_BYTES
from clip_lens_plugin.statistics.part_moments import N_PARTS, parts_bytes
from clip_lens_plugin.warned import warn

What = Literal["moments", "contributions"]
StoreDtype = Literal["float16", "float32"]
MomentsOf = Literal["late", "all"]

PLAN_FILE = "clip_lens_plan.json"
"""The first file of a store, which says that the folder is ours."""

FOLDER = "progress"
"""Where it is kept how far each process has come."""

FORMAT = 6
FORMAT_3, FORMAT_4 = 3, 4
"""They have no checksums, and the plan among the attributes of the zarr group. The fingerprints of format 3 knew less,
see :meth:`Fingerprints.of_format_3`."""
FORMAT_5 = 5
"""It has neither moments of parts nor sums of classes."""
FORMATS = (FORMAT_3, FORMAT_4, FORMAT_5, FORMAT)

BLOCK_IMAGES = 256
"""About how many images are run between two writes, and lie together in a store."""


SETTINGS = (
    *("what", "dtype", "autocast", "batch_size", "heads", "neurons"),
    *("n_samples", "ranks", "dataset_fingerprint", "classes"),
)
"""What has to be the same where a store is resumed or shared out."""


class CollectionMismatchError(ValueError):
    """A store was opened with another model, or resumed with another model, data set or setting."""


@dataclass(frozen=True)
class Plan:
    """Everything that determines the content of a store.

    Attributes:
        what: "moments", or "contributions" for one row per sample as well.
        dtype: of the stored contributions.
        autocast: dtype that matrix products ran in, or "none".
        batch_size: images in a run of the model.
        block: samples between two writes, a multiple of the batch size.
        n_samples: of the data set, with those that cannot be read; None for a stream, which is counted when it ends.
        dataset: what it is, in words.
        dataset_fingerprint: of its samples' names, sizes and classes.
        classes: names of the labels, None if unknown.
        model_name: what the model was loaded as.
        shape: layers, heads, coordinates of a head, d_embed, heads of the pooling, pooled positions.
        fingerprints: of the model.
        threads: of the processor, which the last bits of a matrix product depend on; who resumes uses as many.
        self_attention: whether what the class token sends to itself is kept; not where other tokens are pooled.
        pool_parts, bias_weight: which :attr:`extras` there are, as the plan file has them.
        heads: "late" where moments of the last layers alone are kept, "all" where they are of every head.
        ranks: processes that a stream is shared out among, which has to stay; None for a data set with positions.
        format: version of the layout on disk.
        recipe: how the model was loaded; None if it was wrapped from an object, or by an earlier version.
        neurons: whose moments are kept, see :func:`~clip_lens_plugin.higher_order.chosen_names.text_of_neurons`; None
            where they are of none, as in earlier versions.
        parts: disjoint parts of which moments of the late heads are kept; 0 where they would be too large, and in
            earlier versions.
        class_sums: "all" where sums of each class are kept of every head, "late" where of those of the last layers
            alone; None where they are not: without names of classes, where they would be too large, and in earlier
            versions.
    """

    what: What
    dtype: StoreDtype
    autocast: str
    batch_size: int
    block: int
    n_samples: int | None
    dataset: str
    dataset_fingerprint: str
    classes: tuple[str, ...] | None
    model_name: str
    shape: tuple[int, int, int, int, int, int]
    fingerprints: Fingerprints
    threads: int
    self_attention: bool
    pool_parts: tuple[str, ...]
    bias_weight: bool
    heads: MomentsOf = "all"
    ranks: int | None = None
    format: int = FORMAT
    recipe: Recipe | None = None
    neurons: str | None = None
    parts: int = 0
    class_sums: MomentsOf | None = None

    @classmethod
    def of(
        cls,
        model: HookedCLIP,
        source: ImageSource | StreamSource,
        what: What,
        dtype: StoreDtype,
        batch_size: int,
        autocast: torch.dtype | None,
        heads: MomentsOf | None = None,
        ranks: int = 1,
        neurons: str | None = None,
    ) -> Plan:
        """The plan of a new store.

        Args:
            heads: whose moments are kept; if not given, all, or the late ones where an attention pool makes them large.
            ranks: processes that collect.
            neurons: whose moments are kept, as :attr:`neurons`.
        """
        cfg, pooling = model.cfg, model.pooling
        p, rows = pooling.n_heads, pooling.n_rows(cfg.n_ctx)
        shape = (cfg.n_layers, cfg.n_heads, p * cfg.d_head, cfg.d_embed, p, rows)
        of_heads: MomentsOf = heads or ("late" if p > 1 else "all")
        return cls(
            what=what,
            dtype=dtype,
            autocast=str(autocast or "none").removeprefix("torch."),
            batch_size=batch_size,
            block=batch_size * max(1, BLOCK_IMAGES // batch_size),
            n_samples=len(source) if isinstance(source, ImageSource) else None,
            dataset=source.description,
            dataset_fingerprint=source.fingerprint(),
            classes=source.classes,
            model_name=cfg.model_name,
            shape=shape,
            fingerprints=Fingerprints.of(model),
            threads=torch.get_num_threads(),
            self_attention=pooling.reads_class_token_alone,
            pool_parts=tuple(name for name in extras_of(model) if name in COMPONENTS),
            bias_weight=BIAS_WEIGHT in extras_of(model),
            heads=of_heads,
            ranks=None if isinstance(source, ImageSource) else ranks,
            recipe=None if model.origin is None else model.origin.recipe,
            neurons=neurons,
            parts=N_PARTS if parts_size(shape) <= MOST_PART_BYTES else 0,
            class_sums=None if source.classes is None else _class_sums(len(source.classes), shape, of_heads),
        )

    @property
    def extras(self) -> tuple[str, ...]:
        """What the model has that others lack, as :func:`~clip_lens_plugin.decomposition.parts.extras.extras_of`."""
        return (*self.pool_parts, *([BIAS_WEIGHT] if self.bias_weight else []))

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return -(-self._counted_samples // self.block)

    @property
    def _counted_samples(self) -> int:
        if self.n_samples is None:
            raise ValueError("The samples of a stream are counted when it ends.")
        return self.n_samples

    @property
    def last_sample(self) -> int | None:
        """Position of the last sample; None for a stream that has not ended."""
        return None if self.n_samples is None else self.n_samples - 1

    @property
    def is_of_stream(self) -> bool:
        """Whether samples come in order of arrival."""
        return self.ranks is not None

    def counted(self, n_samples: int | None) -> Plan:
        """The same with the number of samples that a stream turned out to have."""
        return self if n_samples is None else replace(self, n_samples=n_samples)

    def may_hold(self, block: Any) -> bool:
        """Whether there may be a block of that number."""
        return type(block) is int and block >= 0 and (self.n_samples is None or block < self.n_blocks)

    @property
    def moment_layers(self) -> tuple[int, ...] | None:
        """The layers whose heads' moments are kept, None for all."""
        return tuple(late_layers(self.shape[0])) if self.heads == "late" else None

    @property
    def class_layers(self) -> tuple[int, ...]:
        """The layers of which sums of each class are kept."""
        if self.class_sums is None:
            return ()
        return tuple(range(self.shape[0]) if self.class_sums == "all" else late_layers(self.shape[0]))

    @property
    def rounding(self) -> torch.dtype:
        """The coarsest dtype that stored contributions went through."""
        names = {self.dtype, self.fingerprints.dtype, self.autocast} - {"none"}
        return max((getattr(torch, name) for name in names), key=TOLERANCE.__getitem__)

    @property
    def noise(self) -> float:
        """Relative size of what rounding left of a stored contribution: the model's, and the store's."""
        return max(stored_noise(getattr(torch, self.dtype)), self.computed_noise)

    @property
    def computed_noise(self) -> float:
        """Relative size of what the model's rounding left of a contribution."""
        names = {self.fingerprints.dtype, self.autocast} - {"none"}
        return max(computed_noise(getattr(torch, name)) for name in names)

    @property
    def neuron_layers(self) -> tuple[int, ...]:
        """The layers whose neurons' moments are kept."""
        return () if self.neurons is None else tuple(sorted(neurons_of_text(self.neurons)))

    def samples(self, block: int) -> range:
        """Positions of a block's samples."""
        after = (block + 1) * self.block
        return range(block * self.block, after if self.is_of_stream else min(after, self._counted_samples))

    def batches(self, block: int) -> list[range]:
        """A block's samples, as they are run."""
        samples = self.samples(block)
        return [samples[i : i + self.batch_size] for i in range(0, len(samples), self.batch_size)]

    @property
    def has_checksums(self) -> bool:
        """Whether the store keeps checksums of its files."""
        return self.format >= FORMAT_5

    def to_json(self) -> dict[str, Any]:
        """As JSON's types; without what there is none of, as earlier versions wrote it."""
        values = json.loads(json.dumps(asdict(replace(self, recipe=None))))
        for name in ("recipe", "neurons", "parts", "class_sums"):
            if not values[name]:
                del values[name]
        return values if self.recipe is None else {**values, "recipe": self.recipe.to_json()}

    def to_bytes(self) -> bytes:
        """The plan file."""
        return sealed(self.to_json())

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Plan:
        """Reads what :meth:`to_json` wrote.

        Raises:
            ValueError: if it is of another version, or is no plan.
        """
        kept = values.get("format")
        if kept not in FORMATS:
            raise ValueError(
                f"The store has format {kept!r}, this version reads {FORMAT_3} to {FORMAT}. Collect it again."
            )
        try:
            read = Fingerprints.of_format_3 if kept == FORMAT_3 else Fingerprints.from_json
            values = {**values, "fingerprints": read(values["fingerprints"]), "shape": tuple(values["shape"])}
            values["pool_parts"] = tuple(values["pool_parts"])
            classes, recipe = values["classes"], values.pop("recipe", None)
            values["recipe"] = None if recipe is None else Recipe.from_json(recipe)
            return cls(**{**values, "classes": None if classes is None else tuple(classes)})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"The store's description is damaged: {error}. Collect it again.") from error

    def refuse_other_model(self, fingerprints: Fingerprints, place: str) -> None:
        """Raises CollectionMismatchError, naming the parts that differ, if the model is not the one collected with.

        Another version of a library may call the same settings otherwise. Where nothing else differs and the probe
        image's embedding is the same, a Python warning says so instead.
        """
        parts = self.fingerprints.differences(fingerprints)
        libraries = self.fingerprints.other_libraries(fingerprints)
        both = self.fingerprints.probe and fingerprints.probe
        if parts == ["image settings"] and libraries and both and self.fingerprints.gives_the_same_as(fingerprints):
            warn(
                f"{place} was collected with other libraries: {', '.join(libraries)}. They describe the image tower's "
                f"settings otherwise, so that only its weights, preprocessing and the embedding of a probe image could "
                f"be compared; those are the same.",
                CollectionWarning,
            )
            return
        if parts:
            raise CollectionMismatchError(
                f"{place} was collected with another model ({self.model_name}): {' and '.join(parts)} "
                f"{'differs' if len(parts) == 1 else 'differ'}. Load that model"
                f"{'' if self.recipe is None else f', {self.recipe}'}, or collect again with this one."
            )

    def warn_of_earlier_version(self, place: str) -> None:
        """A Python warning if the store is of an earlier version: it has no checksums, and perhaps knows less."""
        if self.has_checksums:
            return
        fingerprint = (
            " It has the fingerprint of an earlier version too: the model's weights, shape and printed preprocessing "
            "are those it was collected with, but other settings (a LayerNorm's epsilon, for one) were not kept and "
            "cannot be compared."
        )
        warn(
            f"{place} is of an earlier version, which kept no checksums: what is damaged in it may be read as if it "
            f"were whole.{fingerprint if self.format == FORMAT_3 else ''} Collect again to have that compared.",
            CollectionWarning,
        )

    def settings_that_differ(self, other: Plan) -> list[tuple[str, Any, Any]]:
        """Name, own value and the other's of each setting that differs; the model is not one of them."""
        pairs = ((name, getattr(self, name), getattr(other, name)) for name in SETTINGS)
        return [(name, mine, theirs) for name, mine, theirs in pairs if _compared(mine) != _compared(theirs)]

    def refuse_other_plan(self, asked: Plan, place: str) -> None:
        """Raises CollectionMismatchError if a store begun so cannot be gone on with as asked."""
        self.refuse_other_model(asked.fingerprints, place)
        differences = [
            f"{name} was {shortened(before)}, now {shortened(now)}"
            for name, before, now in self.settings_that_differ(asked)
        ]
        if differences:
            many = f"A stream is resumed by as many processes as it was begun by, {self.ranks}. "
            raise CollectionMismatchError(
                f"{place} was begun otherwise: {'; '.join(differences)}. {many if self.ranks != asked.ranks else ''}"
                f"Resume with the same data set and settings, or collect into another place."
            )


def parts_size(shape: tuple[int, int, int, int, int, int]) -> int:
    """Bytes that moments of parts take for a model of this :attr:`Plan.shape`."""
    l, h, k, *_ = shape
    return parts_bytes(l, len(late_layers(l)), h, k)


def classes_size(n_classes: int, shape: tuple[int, int, int, int, int, int], of: MomentsOf) -> int:
    """Bytes that sums of so many classes take."""
    l, h, k, e, *_ = shape
    return class_sums_bytes(n_classes, l if of == "all" else len(late_layers(l)), h, k, e)


def _class_sums(n_classes: int, shape: tuple[int, int, int, int, int, int], heads: MomentsOf) -> MomentsOf | None:
    """Of the heads whose moments are kept, which they need, or of the late ones, as they are small enough."""
    wanted: tuple[MomentsOf, ...] = ("all", "late") if heads == "all" else ("late",)
    return next((of for of in wanted if classes_size(n_classes, shape, of) <= MOST_CLASS_BYTES), None)


def _compared(value: Any) -> Any:
    """The value; an earlier version kept WordNet ids where this one has their words."""
    return worded(value) if isinstance(value, tuple) else value


def shortened(value: object) -> str:
    """Its text, or the beginning of it."""
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}..."
