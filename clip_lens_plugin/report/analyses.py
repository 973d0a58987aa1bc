"""The report's analyses: shares of the parts, TextSpan, mean ablation and patch-text maps of data of any size.

Source: Gandelsman, Efros and Steinhardt, "Interpreting CLIP's Image Representation via Text-Based
Decomposition", ICLR 2024. Everything is computed here; :mod:`clip_lens_plugin.views` only draws it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from clip_lens_plugin.ablation import mean_ablation_curve
from clip_lens_plugin.arguments import checked_labels
from clip_lens_plugin.datasets.image_folder import Skipped, evenly_spaced
from clip_lens_plugin.decisions.explaining import NoGapError, explain
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.contributions import Contributions, Data
from clip_lens_plugin.decomposition.data_views import SomeRows, held_if_small
from clip_lens_plugin.decomposition.parts.component_shares import ShareStatistics
from clip_lens_plugin.decomposition.running.runs import runs
from clip_lens_plugin.describe.class_heads import class_heads
from clip_lens_plugin.describe.spans import TextSpanResult, text_span
from clip_lens_plugin.maps.patch_text import head_text_scores
from clip_lens_plugin.maps.pictured import Pictured
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.model.hooks.interventions import refuse_hooks
from clip_lens_plugin.model.inputs.given import given_images
from clip_lens_plugin.model.inputs.pixels import check_form, look, once_a_call
from clip_lens_plugin.report.clearest import clarity
from clip_lens_plugin.report.late_roles import late_roles, refuse_without_roles
from clip_lens_plugin.report.pictures import Pictures, PixelsInMemory, other_rows
from clip_lens_plugin.report.provenance import ReportProvenance
from clip_lens_plugin.report.results import Decided, Explained
from clip_lens_plugin.report.results import Heatmap as Heatmap
from clip_lens_plugin.report.results import Report as Report
from clip_lens_plugin.retrieval import extreme_images
from clip_lens_plugin.statistics.moments import Moments, late_layers
from clip_lens_plugin.texts.pool import TextPool
from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier

BATCH_SIZE = 32
N_DIRECTIONS = 8
TEXTS_WITH_IMAGES = 3
IMAGES_PER_TEXT = 4
N_HEATMAPS = 4
TEXTS_A_MAP = 3
N_DECISIONS, RANDOM_SETS = 2, 10
N_PERMUTATIONS = 3
HELD_BYTES = 2**27
"""Most of the contributions that are held in memory; more are read again for each analysis."""

SAME_PICTURE = 0.05
"""Greatest relative difference between a picture's embedding and the one collected of it, in any dtype."""

HEATMAP_BYTES = 7_000_000
"""Most of the scores of all maps together, which the page holds for every head and token."""

OnProgress = Callable[[str, int, int], object]
"""Called with (what is being done, steps done, steps in all)."""


@dataclass(frozen=True)
class Question:
    """A zero-shot question with a known answer for some images.

    Attributes:
        name: what is asked, for example "colour".
        classes: one phrase per answer, each once.
        answers: position of the true class of each image, -1 where the question does not apply.
        templates: a class's embedding is the mean over them of its unit embeddings.
    """

    name: str
    classes: tuple[str, ...]
    answers: Int[Tensor, " b"]
    templates: tuple[str, ...] = ("{}",)

    def embeddings(self, model: HookedCLIP) -> Float[Tensor, "t e"]:
        """Unit embeddings of the classes."""
        return ZeroShotClassifier.from_labels(model, self.classes, self.templates).embeddings


@takes_bridges
@once_a_call()
@torch.no_grad()
def analyse(
    model: HookedCLIP,
    images: Float[Tensor, "b 3 height width"],
    *,
    names: Sequence[str],
    pool: TextPool,
    pool_name: str = "the given texts",
    images_from: str = "the given images",
    questions: Sequence[Question] = (),
    captions: Sequence[str] | None = None,
    photograph: Callable[[int], Image.Image] | None = None,
    skipped: Sequence[Skipped] = (),
    command: str | None = None,
    roles: bool = False,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> Report:
    """What :func:`report_on` finds in images in memory, which are decomposed first.

    Args:
        model: with tokenizer and preprocess.
        images: preprocessed images, two or more.
        photograph: gives the picture that was preprocessed to an image, for maps on the whole photograph; without it,
            and where the preprocessing's geometry is unknown, maps lie on what the model sees.
        names, pool, pool_name, images_from, questions, captions, skipped, command, roles, on_progress: see
            :func:`report_on`.

    Raises:
        ValueError: as :func:`report_on`, or if hooks are on the model.
        PixelError: if the images are no floating-point tensor of the model's shape, or hold NaN or infinity; doubtful
            pixels are a warning.
        SourceMismatchError: if the model's embedding is not the source's own.
    """
    refuse_hooks(model, "A report is of the plain model")
    check_form(model, images)
    n = len(images)
    _refuse_unlike(n, names, captions, questions)
    look(model, images)

    def starts() -> Iterator[int]:
        for start in range(0, n, BATCH_SIZE):
            on_progress("decomposing images", start, n)
            yield start
        on_progress("decomposing images", n, n)

    return report_on(
        Contributions.joined(runs(model, given_images(model, images), starts(), BATCH_SIZE), n),
        names=names,
        pool=pool,
        pool_name=pool_name,
        images_from=images_from,
        questions=questions,
        captions=captions,
        pictures=PixelsInMemory(images, photograph),
        skipped=skipped,
        command=command,
        roles=roles,
        on_progress=on_progress,
    )


@once_a_call()
@torch.no_grad()
def report_on(
    data: Data,
    *,
    pool: TextPool,
    names: Sequence[str] | None = None,
    pool_name: str = "the given texts",
    images_from: str = "the given images",
    questions: Sequence[Question] = (),
    captions: Sequence[str] | None = None,
    pictures: Pictures | None = None,
    skipped: Sequence[Skipped] = (),
    command: str | None = None,
    roles: bool = False,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> Report:
    """Analyses data of any size; :func:`clip_lens_plugin.views.report.report.write_report` draws what it returns.

    The data are read block by block, some times over; small ones are held in memory.

    Args:
        data: contributions, or a store, of two or more images.
        pool: texts for TextSpan.
        names: of the images, shown and written to the tables; those of the data if not given.
        pool_name, images_from: said in the page.
        questions: whose accuracy under mean ablation is measured.
        captions: a text for each image's patch-text map; the pool's nearest text if not given.
        pictures: of the rows, for thumbnails and patch-text maps, which are left out where there are none.
        skipped: files that were not used.
        command: as it was typed, for a report that is made on the command line.
        roles: find the role of each late head, too; the pool's texts need themes.
        on_progress: called with what is being done, steps done and steps in all.

    Raises:
        ValueError: if there are fewer than two images, names, captions or answers do not match them, hooks are on
            the model, a picture is not the one that was collected, or roles are asked for of texts without themes or
            of heads of few coordinates.
        SourceMismatchError: if the model's embedding is not the source's own.
    """
    model: HookedCLIP = data.readout.image_model
    refuse_hooks(model, "A report is of the plain model")
    names = names if names is not None else data.names or [f"image {i}" for i in range(len(data))]
    _refuse_unlike(len(data), names, captions, questions)
    if roles:
        refuse_without_roles(data, pool)
    verified = model.verify()
    given, data = data, held_if_small(data, HELD_BYTES)
    # Before the work rather than behind it: photographs may be gone by then.
    mapped = [row for row in _mapped(model, len(data)) if pictures is not None and row in pictures]
    rows_of_maps = {row: data.select([row]) for row in mapped}
    embeddings = {row: each.normalized().embedding[0] for row, each in rows_of_maps.items()}
    taken = {} if pictures is None else _taken(model, rows_of_maps, pictures, names)
    blocks = list(data.blocks())

    def shown() -> Iterator[Contributions]:
        for done, rows in enumerate(blocks):
            on_progress("measuring shares", done, len(blocks))
            yield data.select(rows)
        on_progress("measuring shares", len(blocks), len(blocks))

    shares = ShareStatistics.of(shown())
    on_progress("encoding texts", 0, len(pool))
    texts = pool.embed(model, on_progress=lambda done, total: on_progress("encoding texts", done, total))
    on_progress("encoding texts", len(pool), len(pool))
    on_progress("finding texts for heads", 0, 3)
    moments = Moments.of(data, late_layers(model.cfg.n_layers))
    spans = text_span(model, moments, pool, N_DIRECTIONS, "late", texts)
    on_progress("finding texts for heads", 1, 3)
    clear = clarity(model, moments, spans, len(pool))
    on_progress("finding texts for heads", 2, 3)
    top_images = _top_images(data, spans, texts, names)
    on_progress("finding texts for heads", 3, 3)
    found_roles = late_roles(model, given, pool, texts, on_progress) if roles else None
    explained = []
    for done, question in enumerate(questions, start=1):
        explained += _explained(data, question)
        on_progress("comparing classes", done, len(questions))
    ablation = [pd.DataFrame(columns=ABLATION_COLUMNS)]
    for done, question in enumerate(questions, start=1):
        ablation += _ablated(model, data, question)
        on_progress("ablating", done, len(questions))
    heatmaps = []
    for done, (row, (pixels, photograph)) in enumerate(taken.items(), start=1):
        wanted = _nearest(pool, equations.towards(embeddings[row], data.readout.checked_texts(texts)))
        if captions is not None:
            wanted = list(dict.fromkeys([captions[row], *wanted]))[:TEXTS_A_MAP]
        scores = head_text_scores(model, pixels, wanted)
        pictured = scores.pictured or Pictured()
        if photograph is not None:
            pictured = pictured.of_photograph(photograph, names[row])
        heatmaps.append(Heatmap(row, scores, *pictured.placed(scores.grid_size)))
        on_progress("mapping patches", done, len(taken))
    order = sorted({int(i) for i in top_images["image"]})
    return Report(
        provenance=ReportProvenance.of(
            model,
            data,
            verified,
            dataset=images_from,
            texts=pool_name,
            n_texts=len(pool),
            n_skipped=len(skipped),
            command=command,
        ),
        names=tuple(names),
        completeness_error=data.greatest_error(),
        head_width=data.readout.n_coordinates(data.constants),
        layers=shares.by_layer(),
        heads=shares.by_head(),
        text_span=_span_table(spans),
        spans=spans,
        clarity=clear,
        top_images=top_images,
        ablation=pd.concat([each for each in ablation if len(each)] or ablation, ignore_index=True),
        heatmaps=tuple(heatmaps),
        skipped=pd.DataFrame([(each.name, each.reason) for each in skipped], columns=["name", "reason"]),
        pictures={} if pictures is None else pictures.shown(order, model.preprocess),
        explained=tuple(explained),
        roles=found_roles,
        decisions=tuple(_decided(model, data, questions, spans, heatmaps, [pixels for pixels, _ in taken.values()])),
    )


ABLATION_COLUMNS = [
    *("question", "ablated", "kind", "layers", "accuracy", "low", "high"),
    *("difference", "difference_low", "difference_high"),
    *("ablation", "effect", "classes", "scored", "means_from"),
]


def _refuse_unlike(n: int, names: Sequence[str], captions: Sequence[str] | None, questions: Sequence[Question]) -> None:
    """Raises ValueError if there are fewer than two images, or what is given of them is of more or fewer."""
    if n < 2:
        raise ValueError(f"A report needs at least two images, got {n}.")
    for what, given in (("names", names), ("captions", captions)):
        if given is not None and len(given) != n:
            raise ValueError(f"{n} images need as many {what}, got {len(given)}.")
    for question in questions:
        checked_labels(question.answers, n, len(question.classes))


# ---------------------------------------------------------------------- texts of heads


def _span_table(spans: TextSpanResult) -> pd.DataFrame:
    variances = [(l, h, spans[l, h].total_variance) for l, h in spans.heads]
    totals = pd.DataFrame(variances, columns=["layer", "head", "total_variance"])
    return totals.merge(spans.to_dataframe(), on=["layer", "head"], how="inner")


def _top_images(data: Data, spans: TextSpanResult, texts: Float[Tensor, "t e"], names: Sequence[str]) -> pd.DataFrame:
    """For the first texts of each head, the images whose contribution through it leans most to the text, and least."""
    each_side = max(1, min(IMAGES_PER_TEXT, len(data) // 4))  # Of few images most are neither high nor low.
    found = extreme_images(data, spans, each_side, n_texts=TEXTS_WITH_IMAGES, text_embeddings=texts)
    found = found.rename(columns={"row": "image"})
    return found.assign(name=[names[i] for i in found["image"]])


# ---------------------------------------------------------------------- classes, accuracy and maps


def _explained(data: Data, question: Question) -> list[Explained]:
    """How much of each head the classes explain; none where images of fewer than two have an answer."""
    if len(question.answers[question.answers >= 0].unique()) < 2:
        return []
    found = class_heads(data, question.answers, question.classes, permutations=N_PERMUTATIONS)
    return [Explained(question.name, found)] if bool(found.eta_squared.isfinite().any()) else []


def _ablated(model: HookedCLIP, data: Data, question: Question) -> list[pd.DataFrame]:
    """One table, or none where fewer than four images have an answer: every second image gives the means."""
    known = (question.answers >= 0).nonzero().flatten()
    if len(known) < 4:
        return []
    means, scored = known[0::2], known[1::2]
    table = mean_ablation_curve(
        SomeRows(data, scored),
        question.embeddings(model),
        question.answers[scored],
        SomeRows(data, means),
    )
    sizes = {"classes": len(question.classes), "scored": len(scored), "means_from": len(means)}
    return [table.assign(question=question.name, **sizes).reindex(columns=ABLATION_COLUMNS)]


def _mapped(model: HookedCLIP, n: int) -> list[int]:
    """Positions of a few of n images, evenly spaced over the set, so that none was picked for its look."""
    cfg = model.cfg
    bytes_each = 4 * cfg.n_layers * cfg.n_heads * cfg.n_ctx * TEXTS_A_MAP
    return evenly_spaced(range(n), min(N_HEATMAPS, max(1, HEATMAP_BYTES // bytes_each)))


def _decided(
    model: HookedCLIP,
    data: Data,
    questions: Sequence[Question],
    spans: TextSpanResult,
    shown: Sequence[Heatmap],
    pixels: Sequence[Float[Tensor, "3 height width"]],
) -> Iterator[Decided]:
    """The first question's two nearest classes, of the first images with maps that have a gap between them."""
    question = next((each for each in questions if len(each.classes) > 1), None)
    if question is None or not shown:
        return
    # Through the heads of an attention pool, means of contributions do not say what a head writes.
    means = data if model.pooling.n_heads == 1 else None
    classifier = ZeroShotClassifier.from_labels(model, question.classes, question.templates)
    for mapped, image in zip(shown[:N_DECISIONS], pixels, strict=False):
        try:
            found = explain(model, image, classifier, means=means, texts=spans, random_sets=RANDOM_SETS)
        except NoGapError:
            continue
        yield Decided(mapped.image, question.name, found, mapped.picture, mapped.placement)


def _nearest(pool: TextPool, cosines: Float[Tensor, " t"]) -> list[str]:
    """The texts that are most similar, the nearest first."""
    nearest: list[int] = cosines.argsort(descending=True).tolist()
    return [pool.texts[each] for each in nearest[:TEXTS_A_MAP]]


def _taken(
    model: HookedCLIP, rows: Mapping[int, Contributions], pictures: Pictures, names: Sequence[str]
) -> dict[int, tuple[Float[Tensor, "3 height width"], Image.Image | None]]:
    """Pixels and photograph of some rows.

    Raises:
        ValueError: if a picture gives the model another embedding than the row has.
    """
    pixels = {row: pictures.pixels(row) for row in rows}
    other = other_rows(model, pixels, {row: each.embedding[0] for row, each in rows.items()}, SAME_PICTURE)
    if other:
        raise ValueError(
            f"The picture {names[other[0]]!r} gives another embedding than was collected of it: it was changed since, "
            f"or is of another data set with the same names. Give the data set that was collected."
        )
    return {row: (each, pictures.photograph(row)) for row, each in pixels.items()}
