"""Zero-shot classification: the class whose text is nearest to the image.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, section 3.1,
with the templates of a class averaged in the joint space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES
from torch import Tensor

from clip_lens_plugin.arguments import checked_labels, checked_texts
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.labelling.names import comparable, few
from clip_lens_plugin.labelling.wordnet import distinct, text_of
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.identity.probes import PROBE_TOLERANCE, is_same_probe
from clip_lens_plugin.model.protocol import ImageTextModel
from clip_lens_plugin.model.text.labels import Labels, checked_names
from clip_lens_plugin.numerics.precision import full_precision
from clip_lens_plugin.shown import Tabled
from clip_lens_plugin.statistics.intervals import Interval, share_interval
from clip_lens_plugin.texts.embedding import embed_texts
from clip_lens_plugin.texts.templates import Template, fill

OnProgress = Callable[[int, int], object]
"""Called with (texts done, texts in all)."""


@dataclass(frozen=True)
class ZeroShotClassifier:
    """Classes and the unit embedding of each.

    Attributes:
        names: of the classes, each once.
        embeddings: unit vectors: the mean over the templates of a class's unit text embeddings, normalised again.
        logit_scale: factor from a cosine to CLIP's logit.
        logit_bias: what is added then, as SigLIP does.
        probe: what the model's text tower gave for a few fixed texts [p, e], by which another model is recognised;
            None where no model made the classifier.

    Raises:
        ValueError: if there are no classes, a name occurs twice, or the embeddings do not match the names or are not
            unit vectors.
    """

    names: tuple[str, ...]
    embeddings: Float[Tensor, "t e"] = field(repr=False)
    logit_scale: float
    logit_bias: float = 0.0
    probe: Float[Tensor, "p e"] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        Labels(self.names, self.embeddings)  # Refuses what cannot be a vocabulary.

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    @takes_bridges
    def from_labels(
        cls,
        model: ImageTextModel,
        labels: Iterable[str],
        templates: Iterable[Template] = ("{}",),
        on_progress: OnProgress = lambda done, total: None,
    ) -> ZeroShotClassifier:
        """A classifier of the given labels, which are also its names; of a WordNet id the texts hold the words.

        Args:
            model: its text tower is used; embeddings are kept on disk, see
                :func:`~clip_lens_plugin.texts.embedding.embed_texts`.
            labels: each once.
            templates: texts with "{}", or functions from text to text.
            on_progress: called with (texts done, texts in all).

        Raises:
            ValueError: if there are no labels or templates, one string stands for several, a label occurs twice, a
                template has no "{}", or the model has no tokenizer.
        """
        names, filled = checked_texts("from_labels", labels), _checked_templates(templates)
        return cls._encoded(model, checked_names(names), [*map(text_of, names)], filled, on_progress)

    @classmethod
    @takes_bridges
    def from_imagenet(
        cls, model: ImageTextModel, on_progress: OnProgress = lambda done, total: None
    ) -> ZeroShotClassifier:
        """ImageNet's 1,000 classes in their order, with open_clip's class names and its 80 templates.

        Two class names stand for two classes each; the second is named with a number, "missile (2)", but its texts
        are those of the plain name. Encoding 80,000 texts takes minutes the first time; it may be interrupted.

        Args:
            model: whose text tower encodes them.
            on_progress: called with (texts done, texts in all) after each batch.

        Raises:
            ValueError: if the model has no tokenizer.
        """
        return cls._encoded(
            model, distinct(IMAGENET_CLASSNAMES), IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES, on_progress
        )

    @classmethod
    def _encoded(
        cls,
        model: ImageTextModel,
        names: tuple[str, ...],
        words: Sequence[str],
        templates: Sequence[Template],
        on_progress: OnProgress,
    ) -> ZeroShotClassifier:
        texts = [fill(template, word) for word in words for template in templates]
        embeddings = embed_texts(model, texts, on_progress, mean_of=len(templates))
        return cls(names, embeddings, model.logit_scale, model.logit_bias, model.text_probe())

    @takes_bridges
    def attach(self, model: ImageTextModel) -> None:
        """Makes the classes the model's vocabulary: ``W_U``, ``logit_attrs`` and the logit lens speak of them.

        Raises:
            ValueError: if the model's joint space has another width, or its text tower is not the classes' own.
        """
        self.refuse_other_model(model)
        model.set_labels(self.names, self.embeddings)
        if model.labels is not None and model.tokenizer is not None:
            model.labels = replace(model.labels, probe=self.probe, rounded_to=self.embeddings.dtype)

    @takes_bridges
    def refuse_other_model(self, model: ImageTextModel) -> None:
        """Raises ValueError if the model's text tower gives something else for a few texts than the classes' own gave.

        Weights may be of another dtype: values are compared within the coarser one's rounding. A model without texts is
        not looked at, nor a classifier that no model made.
        """
        if self.probe is None or model.tokenizer is None or self.probe.shape[-1] != model.cfg.d_embed:
            return
        try:
            given = model.text_probe()
        except ValueError:  # Its tokenizer is out of reach.
            return
        dtypes = (self.embeddings.dtype, model.cfg.dtype)
        if not is_same_probe(given, self.probe, max(dtypes, key=PROBE_TOLERANCE.__getitem__)):
            raise ValueError(
                f"The classifier was made with another model than {model.cfg.model_name}: its text tower gives "
                f"something else for the same texts. Make the classifier with this model."
            )

    def refuse_other_classes(self, classes: Sequence[str], whose: str) -> None:
        """Raises ValueError if labels that are positions in ``classes`` would be taken for other classes here.

        That is so where a class stands elsewhere among the names, or where the names are others and more or fewer.
        Names that are all others, but as many, are taken to be the same classes in other words.

        Args:
            classes: of the data set, in the order of its labels.
            whose: for the message: "the store's".
        """
        theirs, own = comparable(classes, self.names)
        place = {name: i for i, name in enumerate(own)}
        moved = [i for i, name in enumerate(theirs) if place.get(name, i) != i]
        mend = f"Make it with {whose} classes: ZeroShotClassifier.from_labels(model, store.classes), or give labels."
        if moved:
            i = moved[0]
            raise ValueError(
                f"The classifier's classes stand in another order than {whose}: its class {place[theirs[i]]} is "
                f"{classes[i]!r}, there it is class {i}. {mend}"
            )
        if len(own) != len(theirs) and (len(own) < len(theirs) or own[: len(theirs)] != theirs):
            strange = [name for name, each in zip(classes, theirs, strict=True) if each not in place] or [*self.names]
            raise ValueError(
                f"The classifier has {len(own)} classes, {whose} are {len(theirs)}; among these only are "
                f"{few(strange)}. {mend}"
            )

    @full_precision()
    def cosines(self, embedding: Float[Tensor, "b e"]) -> Float[Tensor, "b t"]:
        """Cosine of each image with each class, in float32 or wider, where rounding makes no ties.

        Args:
            embedding: of images, of any length: they are normalised here.

        Raises:
            ValueError: if they are of another width than the classes', or hold NaN or infinite values.
        """
        if embedding.shape[-1] != self.embeddings.shape[-1]:
            raise ValueError(
                f"The classes' embeddings are {self.embeddings.shape[-1]} wide, the images' {embedding.shape[-1]}: "
                f"both must come from the same model."
            )
        if not bool(embedding.isfinite().all()):
            raise ValueError("The images' embeddings hold NaN or infinite values, so they have no nearest class.")
        zero = (embedding == 0).all(-1)
        if bool(zero.any()):
            raise ValueError(
                f"The embedding of image {int(zero.nonzero()[0])} is zero, so it has no nearest class. Leave it out."
            )
        dtype = torch.promote_types(torch.promote_types(embedding.dtype, self.embeddings.dtype), torch.float32)
        classes = self.embeddings.to(embedding.device, dtype)
        return equations.cosines(embedding.to(dtype), classes)

    def logits(self, embedding: Float[Tensor, "b e"]) -> Float[Tensor, "b t"]:
        """CLIP's logits: :attr:`logit_scale` times :meth:`cosines` plus :attr:`logit_bias`. Raises as those do."""
        return self.logit_scale * self.cosines(embedding) + self.logit_bias

    def ranks(self, embedding: Float[Tensor, "b e"], labels: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        """How many classes come before the true one: 0 where it is the nearest, as for ``argmax``.

        Of classes that are equally near, the earlier comes first.

        Args:
            embedding: of images, of any length.
            labels: position of the true class of each image, -1 where it is not known; such an image's rank is -1.

        Raises:
            ValueError: if there are more or fewer labels than images, a label is not a class, or as :meth:`cosines`.
        """
        scores = self.cosines(embedding)
        truth = checked_labels(labels, len(scores), len(self)).to(scores.device).unsqueeze(1)
        own = scores.gather(1, truth.clamp(min=0))
        earlier = torch.arange(len(self), device=scores.device) < truth
        before = ((scores > own) | ((scores == own) & earlier)).sum(1)
        return torch.where(truth[:, 0] < 0, -1, before)

    def accuracy(self, embedding: Float[Tensor, "b e"], labels: Int[Tensor, " b"]) -> ZeroShotAccuracy:
        """How often the true class is the nearest, or among the five nearest.

        Args:
            embedding: of images, of any length.
            labels: position of the true class of each image, -1 where it is not known: that image is left out.

        Raises:
            ValueError: as :meth:`ranks`, or if no label is known.
        """
        return ZeroShotAccuracy.from_ranks(self.ranks(embedding, labels), labels, self.names)


@dataclass(frozen=True)
class ZeroShotAccuracy(Tabled):
    """Shares of images, 0 to 1, with 95 % Wilson score intervals over the images.

    Attributes:
        n: images with a known class.
        top1: share whose nearest class is the true one.
        top5: share whose true class is among the five nearest, or among all where there are fewer.
        per_class: one row per class: ``class`` (its name), ``label`` (its position), ``n``, ``top1``, ``top1_low``,
            ``top1_high``, ``top5``; NaN where n is 0.
    """

    n: int
    top1: Interval
    top5: Interval
    per_class: pd.DataFrame = field(repr=False)

    @classmethod
    def from_ranks(cls, ranks: Int[Tensor, " b"], labels: Int[Tensor, " b"], names: Sequence[str]) -> ZeroShotAccuracy:
        """From :meth:`ZeroShotClassifier.ranks`, which may be gathered in parts and joined.

        Args:
            ranks: of the true class of each image.
            labels: position of the true class of each image, -1 where it is not known: that image is left out.
            names: of the classes.

        Raises:
            ValueError: if there are more or fewer labels than ranks, a label is not a class, a rank is none, or no
                label is known.
        """
        truth, place = checked_labels(labels, len(ranks), len(names)).numpy(), ranks.cpu().numpy()
        known = truth >= 0
        truth, place = truth[known], place[known]
        if len(truth) == 0:
            raise ValueError(f"No image has a known class: all {len(labels)} labels are -1.")
        if place.min() < 0 or place.max() >= len(names):
            raise ValueError(
                f"Ranks among {len(names)} classes must be 0 to {len(names) - 1}, got {place.min()} to {place.max()}."
            )
        n, first, five = (
            np.bincount(truth[chosen], minlength=len(names)) for chosen in (place >= 0, place < 1, place < 5)
        )
        low, high = share_interval(first, n)
        some = np.where(n > 0, n, np.nan)
        columns = {"class": list(names), "label": np.arange(len(names)), "n": n}
        shares = {"top1": first / some, "top1_low": low, "top1_high": high, "top5": five / some}
        total = len(truth)
        return cls(
            n=total,
            top1=Interval.of_share(int(first.sum()), total),
            top5=Interval.of_share(int(five.sum()), total),
            per_class=pd.DataFrame(columns | shares),
        )

    def to_dataframe(self) -> pd.DataFrame:
        """:attr:`per_class`, one row per class."""
        return self.per_class.copy()

    def __str__(self) -> str:
        known = np.count_nonzero(self.per_class["n"])
        return f"top1 {_said(self.top1)}, top5 {_said(self.top5)} on {self.n:,} images of {known:,} classes"


def _said(share: Interval) -> str:
    return f"{share.value:.3f} ({share.low:.3f} to {share.high:.3f})"


def _checked_templates(given: Iterable[Template]) -> list[Template]:
    """The templates in a list. Raises ValueError if one string stands for several, or there are none."""
    templates = [] if isinstance(given, str) else list(given)
    if not templates:
        raise ValueError(f"A classifier takes a list of one or more templates, got {given!r:.80}.")
    return templates
