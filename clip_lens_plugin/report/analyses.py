"""The report's analyses: shares of the parts, TextSpan, mean ablation and patch-text maps of a set of images.

Source: Gandelsman, Efros and Steinhardt, "Interpreting CLIP's Image Representation via Text-Based
Decomposition", ICLR 2024. Everything is computed here; :mod:`clip_lens_plugin.views` only draws it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from clip_lens_plugin.ablation import mean_ablation_curve
from clip_lens_plugin.arguments import checked_labels
from clip_lens_plugin.datasets.image_folder import Skipped, evenly_spaced
from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.activations import factors_from_images
from clip_lens_plugin.decomposition.contributions import Contributions
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.describe.spans import TextSpanResult, text_span
from clip_lens_plugin.files.whole import whole_files
from clip_lens_plugin.images.pictures import upright_rgb
from clip_lens_plugin.images.preprocessed import shown_pictures
from clip_lens_plugin.maps.crop_geometry import Placement, UnknownGeometryError
from clip_lens_plugin.maps.patch_text import HeadTextScores, head_text_scores
from clip_lens_plugin.model.bridged import takes_bridges
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.model.identity.verification import Verification
from clip_lens_plugin.model.inputs.pixels import check_form, look, once_a_call
from clip_lens_plugin.model.interventions import refuse_hooks
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
HEATMAP_BYTES = 7_000_000
"""Most of the scores of all maps together, which the page holds for every head and token."""

OnProgress = Callable[[str, int, int], object]
"""Called with (what is being done, steps done, steps in all)."""


@dataclass(frozen=True)
class Question:
    """A zero-shot question with a known answer for some images.

    Attributes:
        name: what is asked, for example "colour".
        classes: one phrase an answer, each once.
        answers: position of the true class of each image, -1 where the question does not apply.
        templates: a class's embedding is the mean over them of its unit embeddings.
    """

    name: str
    classes: tuple[str, ...]
    answers: Int[Tensor, " b"]
    templates: tuple[str, ...] = ("{}",)

    @takes_bridges
    def embeddings(self, model: HookedCLIP) -> Float[Tensor, "t e"]:
        """Unit embeddings of the classes."""
        return ZeroShotClassifier.from_labels(model, self.classes, self.templates).embeddings


@dataclass(frozen=True)
class Heatmap:
    """What one image's patches add to its similarity to a few texts.

    Attributes:
        image: position of the image.
        scores: of every head and token, in cosine units.
        picture: the photograph, or what the model sees of it.
        placement: where on the photograph the model's input lies; None if the picture is that input.
    """

    image: int
    scores: HeadTextScores
    picture: Image.Image
    placement: Placement | None


@dataclass(frozen=True)
class Report:
    """Numbers and pictures of one report. Shares are parts of ‖M(I)‖², averaged over the images.

    Attributes:
        model_name, images_from, pool_name, pool_size: what it is about.
        names: of the images.
        completeness_error: greatest relative difference between the sum of the parts and the embedding.
        verified: the model's embedding beside the source's own, on a probe image.
        layers: part ("embed", "heads", "attn_bias", "mlp", "ln_bias", "pool_bias", "pool_mlp"), layer, share_mean,
            share_std.
        heads: layer, head, share_mean, share_std.
        text_span: layer, head, rank, text, explained_variance (cumulative share), total_variance (cosine²).
        spans: the texts of the late heads, as ``text_span`` has them in a table.
        top_images: layer, head, rank, text, side ("highest", "lowest"), place, image, name, score (cosine, mean over
            images removed).
        ablation: question, ablated, kind, layers, accuracy, low, high, ablation, effect, classes, scored, means_from.
        heatmaps: a few images' patch-text maps.
        skipped: name, reason.
        pictures: position of an image to the picture the model sees, for all images shown.
    """

    model_name: str
    images_from: str
    pool_name: str
    pool_size: int
    names: tuple[str, ...]
    completeness_error: float
    verified: Verification
    layers: pd.DataFrame
    heads: pd.DataFrame
    text_span: pd.DataFrame
    spans: TextSpanResult
    top_images: pd.DataFrame
    ablation: pd.DataFrame
    heatmaps: tuple[Heatmap, ...]
    skipped: pd.DataFrame
    pictures: dict[int, Image.Image]

    def save_tables(self, out: Path) -> None:
        """Writes one parquet file a table; heat maps as image, name, text, row, column, value."""
        with whole_files() as beside:
            self.write_tables(out, beside)

    def write_tables(self, out: Path, beside: Callable[[Path], Path]) -> None:
        """Writes what :meth:`save_tables` does, put in place with other files.

        Args:
            out: the folder.
            beside: of :func:`~clip_lens_plugin.files.whole.whole_files`.
        """
        maps = [
            (each.image, self.names[each.image], text, row, column, float(value))
            for each in self.heatmaps
            for text, values in zip(each.scores.texts, each.scores.map().values[0], strict=True)
            for row, line in enumerate(values)
            for column, value in enumerate(line)
        ]
        columns = ["image", "name", "text", "row", "column", "value"]
        pd.DataFrame(maps, columns=columns).to_parquet(beside(out / "heatmaps.parquet"), index=False)
        for name in ("layers", "heads", "text_span", "top_images", "ablation", "skipped"):
            getattr(self, name).to_parquet(beside(out / f"{name}.parquet"), index=False)


@takes_bridges
@once_a_call()
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
    on_progress: OnProgress = lambda stage, done, total: None,
) -> Report:
    """Analyses the images; :func:`clip_lens_plugin.views.report.write_report` draws what it returns.

    Args:
        model: with tokenizer and preprocess.
        images: preprocessed images, two or more.
        names: of the images, shown and written to the tables.
        pool: texts for TextSpan.
        pool_name, images_from: said in the page.
        questions: whose accuracy under mean ablation is measured.
        captions: a text for each image's patch-text map; the pool's nearest text if not given.
        photograph: gives the picture that was preprocessed to an image, for maps on the whole photograph; without it,
            and where the preprocessing's geometry is unknown, maps lie on what the model sees.
        skipped: files that were not used.

    Raises:
        ValueError: if there are fewer than two images, names, captions or answers do not match them, or hooks are on
            the model.
        PixelError: if the images are no floating-point tensor of the model's shape, or hold NaN or infinity; doubtful
            pixels are a warning.
        SourceMismatchError: if the model's embedding is not the source's own.
    """
    refuse_hooks(model, "A report is of the plain model")
    check_form(model, images)
    if len(images) < 2:
        raise ValueError(f"A report needs at least two images, got {len(images)}.")
    for what, given in (("names", names), ("captions", captions)):
        if given is not None and len(given) != len(images):
            raise ValueError(f"{len(images)} images need as many {what}, got {len(given)}.")
    for question in questions:
        checked_labels(question.answers, len(images), len(question.classes))
    look(model, images)
    verified = model.verify()
    mapped = _mapped(model, len(images))
    # Before the work rather than behind it: photographs may be gone by then.
    photographs = {} if photograph is None else {i: upright_rgb(photograph(i)) for i in mapped}
    with torch.no_grad():
        every, shares = _decompose(model, images, on_progress)
        on_progress("encoding texts", 0, len(pool))
        texts = pool.embed(model, on_progress=lambda done, total: on_progress("encoding texts", done, total))
        on_progress("encoding texts", len(pool), len(pool))
        on_progress("finding texts for heads", 0, 1)
        moments = Moments.from_contributions(every, late_layers(every.n_layers))
        spans = text_span(model, moments, pool, N_DIRECTIONS, "late", texts)
        top_images = _top_images(every, spans, texts, names)
        on_progress("finding texts for heads", 1, 1)
        ablation = [pd.DataFrame(columns=ABLATION_COLUMNS)]
        for done, question in enumerate(questions, start=1):
            ablation += _ablated(model, every, question)
            on_progress("ablating", done, len(questions))
        heatmaps = _heatmaps(model, images, every, pool, texts, captions, mapped, photographs, on_progress)
    order = sorted({int(i) for i in top_images["image"]})
    return Report(
        model_name=model.cfg.model_name,
        images_from=images_from,
        pool_name=pool_name,
        pool_size=len(pool),
        names=tuple(names),
        completeness_error=every.completeness_error(),
        verified=verified,
        layers=_layer_table(shares),
        heads=_head_table(shares),
        text_span=_span_table(spans),
        spans=spans,
        top_images=top_images,
        ablation=pd.concat([each for each in ablation if len(each)] or ablation, ignore_index=True),
        heatmaps=heatmaps,
        skipped=pd.DataFrame([(each.name, each.reason) for each in skipped], columns=["name", "reason"]),
        pictures=dict(zip(order, shown_pictures(images[order], model.preprocess), strict=True)),
    )


ABLATION_COLUMNS = [
    *("question", "ablated", "kind", "layers", "accuracy", "low", "high"),
    *("ablation", "effect", "classes", "scored", "means_from"),
]


# ---------------------------------------------------------------------- contributions


def _decompose(
    model: HookedCLIP, images: Tensor, on_progress: OnProgress
) -> tuple[Contributions, dict[str, Float[Tensor, "b ..."]]]:
    """In cosine units, so that dot products with texts add up; and c · M / ‖M‖² of each part, which sum to 1."""
    shares, readout = [], Readout.of(model)

    def runs() -> Iterator[Contributions]:
        for start in range(0, len(images), BATCH_SIZE):
            factors = factors_from_images(model, images[start : start + BATCH_SIZE], tokens=False, neurons=False)
            c = Contributions.of_run(readout, factors).normalized()
            parts = {
                "embed": c.embed,
                "heads": c.heads,
                "attn_bias": c.attn_bias,
                "mlp": c.mlps,
                "ln_bias": c.ln_bias,
                "pool_bias": c.pool_bias,
                "pool_mlp": c.pool_mlp,
            }
            found = {n: equations.share(x, c.embedding) for n, x in parts.items() if x is not None}
            shares.append(found)
            on_progress("decomposing images", min(start + BATCH_SIZE, len(images)), len(images))
            yield c

    every = Contributions.joined(runs(), len(images))
    return every, {name: torch.cat([each[name] for each in shares]).double().cpu() for name in shares[0]}


def _layer_table(shares: dict[str, Tensor]) -> pd.DataFrame:
    """A row a part of a layer: share_mean and share_std over the images. The means sum to 1."""
    by_layer = {"heads": shares["heads"].sum(-1), "attn_bias": shares["attn_bias"], "mlp": shares["mlp"]}
    rows = [("embed", None, shares["embed"])]
    for layer in range(shares["mlp"].shape[1]):
        rows += [(part, layer, values[:, layer]) for part, values in by_layer.items()]
    rows += [(part, None, shares[part]) for part in ("ln_bias", "pool_bias", "pool_mlp") if part in shares]
    table = [(part, l, x.mean().item(), x.std(correction=0).item()) for part, l, x in rows]
    columns = ["part", "layer", "share_mean", "share_std"]
    return pd.DataFrame(table, columns=columns).astype({"layer": "Int64"})


def _head_table(shares: dict[str, Tensor]) -> pd.DataFrame:
    mean, std = shares["heads"].mean(0), shares["heads"].std(0, correction=0)
    rows = [(l, h, mean[l, h].item(), std[l, h].item()) for l in range(mean.shape[0]) for h in range(mean.shape[1])]
    return pd.DataFrame(rows, columns=["layer", "head", "share_mean", "share_std"])


# ---------------------------------------------------------------------- texts of heads


def _span_table(spans: TextSpanResult) -> pd.DataFrame:
    variances = [(l, h, spans[l, h].total_variance) for l, h in spans.heads]
    totals = pd.DataFrame(variances, columns=["layer", "head", "total_variance"])
    return totals.merge(spans.to_dataframe(), on=["layer", "head"], how="inner")


def _top_images(
    every: Contributions, spans: TextSpanResult, texts: Float[Tensor, "t e"], names: Sequence[str]
) -> pd.DataFrame:
    """For the first texts of each head, the images whose contribution through it leans most to the text, and least."""
    found = extreme_images(every, spans, IMAGES_PER_TEXT, n_texts=TEXTS_WITH_IMAGES, text_embeddings=texts)
    found = found.rename(columns={"row": "image"})
    return found.assign(name=[names[i] for i in found["image"]])


# ---------------------------------------------------------------------- accuracy and maps


def _ablated(model: HookedCLIP, every: Contributions, question: Question) -> list[pd.DataFrame]:
    """One table, or none where fewer than four images have an answer: every second image gives the means."""
    known = (question.answers >= 0).nonzero().flatten()
    if len(known) < 4:
        return []
    means, scored = known[0::2], known[1::2]
    table = mean_ablation_curve(
        every.select(scored),
        question.embeddings(model),
        question.answers[scored],
        every.select(means),
    )
    sizes = {"classes": len(question.classes), "scored": len(scored), "means_from": len(means)}
    return [table.assign(question=question.name, **sizes).reindex(columns=ABLATION_COLUMNS)]


def _mapped(model: HookedCLIP, n: int) -> list[int]:
    """Positions of a few of n images, evenly spaced over the set, so that none was picked for its look."""
    cfg = model.cfg
    bytes_each = 4 * cfg.n_layers * cfg.n_heads * cfg.n_ctx * TEXTS_A_MAP
    return evenly_spaced(range(n), min(N_HEATMAPS, max(1, HEATMAP_BYTES // bytes_each)))


def _heatmaps(
    model: HookedCLIP,
    images: Tensor,
    every: Contributions,
    pool: TextPool,
    texts: Float[Tensor, "t e"],
    captions: Sequence[str] | None,
    rows: list[int],
    photographs: dict[int, Image.Image],
    on_progress: OnProgress,
) -> tuple[Heatmap, ...]:
    maps = []
    for done, i in enumerate(rows, start=1):
        nearest = (
            equations.towards(every.embedding[i], every.readout.checked_texts(texts)).argsort(descending=True).tolist()
        )
        wanted = [pool.texts[each] for each in nearest[:TEXTS_A_MAP]]
        if captions is not None:
            wanted = list(dict.fromkeys([captions[i], *wanted]))[:TEXTS_A_MAP]
        picture, placement = _placed(model, images[i], photographs.get(i))
        maps.append(Heatmap(i, head_text_scores(model, images[i], wanted), picture, placement))
        on_progress("mapping patches", done, len(rows))
    return tuple(maps)


def _placed(
    model: HookedCLIP, image: Float[Tensor, "3 height width"], photograph: Image.Image | None
) -> tuple[Image.Image, Placement | None]:
    """The photograph and where the model's input lies on it, or that input alone."""
    if photograph is not None:
        try:
            height, width = model.cfg.image_size
            return photograph, Placement.of(model.preprocess, photograph.size, (width, height))
        except UnknownGeometryError:
            pass
    return shown_pictures(image[None], model.preprocess)[0], None
