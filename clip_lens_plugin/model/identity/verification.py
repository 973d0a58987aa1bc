"""Whether the wrapped model gives the embeddings of its source: one probe through both."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from clip_lens_plugin.adapters.checks.structure import SourceMismatchError
from clip_lens_plugin.model.hooks.interventions import refuse_hooks
from clip_lens_plugin.model.inputs.given import GivenImages, given_images
from clip_lens_plugin.model.inputs.pixels import unlooked
from clip_lens_plugin.model.protocol import ImageModel, Tower
from clip_lens_plugin.numerics.precision import full_precision
from clip_lens_plugin.plain_text import how_many
from clip_lens_plugin.shown import Tabled
from clip_lens_plugin.warned import warn

ALLOWED = {torch.float64: 1e-11, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Greatest relative difference that is taken for rounding, by the dtype of the weights."""

SEED, BATCH = 0, 16


@dataclass(frozen=True)
class Verification(Tabled):
    """The wrapped model's embeddings beside those of its source.

    Attributes:
        relative_difference: greatest ‖ours − theirs‖ / ‖theirs‖ over the images; NaN where the source's own embedding
            is NaN or infinite.
        allowed: what is taken for rounding.
        dtype: of the weights, for example "float32".
        n_images: how many were compared.
        images: "probe", drawn from a seed, or "given".
        parts_at: the first hook point at which the two streams differ, for example "blocks.3.hook_resid_post"; None
            where nowhere.
        what: "image", or "text" for the text tower's embeddings of texts.
        text: the same of the model's text tower; None if it has none that is supported, or it was not asked for.
    """

    relative_difference: float
    allowed: float
    dtype: str
    n_images: int
    images: str
    parts_at: str | None = None
    what: str = "image"
    text: Verification | None = None

    @property
    def holds(self) -> bool:
        """Whether the difference is no more than rounding."""
        return self.relative_difference <= self.allowed

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON's types, None for NaN."""
        finite = math.isfinite(self.relative_difference)
        text = None if self.text is None else self.text.to_json()
        return {**asdict(self), "relative_difference": self.relative_difference if finite else None, "text": text}

    @classmethod
    def from_json(cls, values: dict[str, Any] | None) -> Verification | None:
        """Reads what :meth:`to_json` gave; None for None.

        Raises:
            TypeError: if it is something else.
        """
        if values is None:
            return None
        difference = values.get("relative_difference")
        difference = math.nan if difference is None else float(difference)
        return cls(**{**values, "relative_difference": difference, "text": cls.from_json(values.get("text"))})

    def to_dataframe(self) -> pd.DataFrame:
        """One row for images, and one for texts where they were compared: ``what``, ``n``, ``relative_difference``,
        ``allowed``, ``dtype``, ``parts_at`` and ``holds``.
        """
        compared = [self] if self.text is None else [self, self.text]
        columns = ("what", "n_images", "relative_difference", "allowed", "dtype", "parts_at", "holds")
        rows = [[getattr(each, name) for name in columns] for each in compared]
        return pd.DataFrame(rows, columns=["n" if name == "n_images" else name for name in columns])

    def __str__(self) -> str:
        probes = f"one probe {self.what}" if self.n_images == 1 else f"{self.n_images} probe {self.what}s"
        on = probes if self.images == "probe" else how_many(self.n_images, self.what)
        where = f"; the streams part at {self.parts_at}" if self.parts_at else ""
        text = f"; texts to {self.text.relative_difference:.1e}" if self.text else ""
        return (
            f"embedding equal to the source's own to {self.relative_difference:.1e} on {on}{text} ({self.dtype}, at "
            f"most {self.allowed:.0e} is rounding){where}"
        )


@torch.no_grad()
def verify(model: ImageModel, images: Any = None) -> Verification:
    """The wrapped model's embedding of images beside the source's own; see :meth:`HookedCLIP.verify`."""
    refuse_hooks(model, "verify compares the plain model with its source")
    probe = images is None
    given = GivenImages(model, probe_image(model), None) if probe else given_images(model, images)
    about = Verification(math.nan, allowed(model), _shown(model), len(given), "probe" if probe else "given")
    batches = (given.pixels(slice(start, start + BATCH)) for start in range(0, len(given), BATCH))
    with unlooked() if probe else given.checked():
        return compared(model, batches, lambda part: source_embedding(model, part), about)


@torch.no_grad()
@full_precision()  # Two runs that differ by rounding alone should differ by little.
def compared(
    model: Tower, batches: Iterable[Tensor], source: Callable[[Tensor], Tensor], about: Verification
) -> Verification:
    """The tower's embeddings of what was given beside the source's own.

    Args:
        batches: of images, or of token ids; one or more.
        source: runs the source on one.
        about: what is returned, but for the difference.

    Raises:
        SourceMismatchError: if they differ by more than rounding.
    """
    first, parts = None, []
    for batch in batches:
        first = batch[:1] if first is None else first
        parts.append((model(batch).double(), source(batch).double()))
    ours, theirs = (torch.cat(every) for every in zip(*parts, strict=True))
    assert first is not None
    if ours.shape != theirs.shape:
        raise SourceMismatchError(
            f"{model.cfg.model_name}: the source gives embeddings of shape {list(theirs.shape)}, the wrapped model "
            f"{list(ours.shape)}: what the source does after its projection is not known."
        )
    if not bool(theirs.isfinite().all()):
        warn(
            f"{model.cfg.model_name}: the source's own embedding of the {about.what}s holds NaN or infinite values, so "
            f"it could not be compared with the wrapped model's. In float16, load the model in float32 or bfloat16."
        )
        return about
    difference = float(((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1).clamp(min=1e-300)).max())
    found = replace(about, relative_difference=difference)
    if found.holds:
        return found
    parting = first_parting(model, first, model.source_blocks, lambda: source(first))
    raise SourceMismatchError(
        f"{model.cfg.model_name}: the wrapped model's embedding differs from the source's own by {difference:.1e} "
        f"(relative), more than the {found.allowed:.0e} that is rounding in {found.dtype}. The two streams part first "
        f"at {parting}. What the source does there is not in the weights that the wrapper reads, so no number would be "
        f"of this model."
    )


def _shown(model: Tower) -> str:
    return str(model.cfg.dtype).removeprefix("torch.")


def verified_texts(model: Tower, ids: Tensor, source: Callable[[Tensor], Tensor], probe: bool) -> Verification:
    """A text tower's embeddings beside the source's own; see :meth:`HookedText.verify`.

    Args:
        ids: token ids [t, n].
        source: runs the source's own ``encode_text`` on token ids.
        probe: whether the ids were drawn from a seed.
    """
    refuse_hooks(model, "verify compares the plain text tower with its source")
    images = "probe" if probe else "given"
    about = Verification(math.nan, allowed(model), _shown(model), len(ids), images, None, "text")
    return compared(model, ids.split(BATCH), source, about)


def allowed(model: Tower) -> float:
    """What is rounding, by the weights' dtype; or by what the source itself rounds to, where that is coarser."""
    rounds_in = getattr(model.clip, "rounds_in", None)
    return ALLOWED[model.cfg.dtype if rounds_in is None else rounds_in(model.cfg.dtype)]


def can_verify(model: Tower) -> bool:
    """Whether the model holds numbers: not on the meta device, and not under a fake tensor mode."""
    return not any(weight.is_meta or isinstance(weight, FakeTensor) for weight in model.clip.parameters())


def probe_image(model: ImageModel) -> Float[Tensor, "1 3 height width"]:
    """An image of noise from −1 to 1, within what pixels can be for any model; always the same for an input size."""
    generator = torch.Generator("cpu").manual_seed(SEED)
    noise = 2 * torch.rand(1, 3, *model.cfg.image_size, generator=generator, device="cpu") - 1
    return noise.to(model.cfg.device, model.cfg.dtype)


def source_embedding(model: ImageModel, images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b e"]:
    """What the source itself gives, not normalised: ``encode_image``, or the forward of an image tower alone."""
    clip = model.clip
    return unnormalised(getattr(clip, "encode_image", clip.visual), images.to(model.cfg.device, model.cfg.dtype))


def unnormalised(encode: Callable[..., Any], given: Tensor) -> Float[Tensor, "b e"]:
    """What a source's method gives before it is made a unit vector."""
    normalises = "normalize" in inspect.signature(encode).parameters  # CoCa does unless False is passed.
    found = encode(given, **({"normalize": False} if normalises else {}))
    return found[0] if isinstance(found, tuple) else found


def first_parting(model: Tower, image: Tensor, blocks: Sequence[nn.Module], run: Callable[[], object]) -> str:
    """The first hook point at which our stream differs from that of another model.

    Args:
        model: ours.
        image: what both are run on, or a text's token ids.
        blocks: the other model's.
        run: runs it on the image.
    """
    names = ["hook_embed", *(f"blocks.{l}.hook_resid_post" for l in range(len(blocks)))]
    _, ours = model.run_with_cache(image, names_filter=names)
    theirs: list[Tensor] = []

    def keep_input(block: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        theirs.append(given[0] if given else next(iter(named.values())))

    def keep_output(block: nn.Module, given: Any, found: Any) -> None:
        theirs.append(found[0] if isinstance(found, tuple) else found)

    handles = [blocks[0].register_forward_pre_hook(keep_input, with_kwargs=True)]
    handles += [block.register_forward_hook(keep_output) for block in blocks]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    for name, stream in zip(names, theirs, strict=False):
        mine, own = ours[name].double(), stream.double()
        if mine.shape != own.shape or not (mine - own).norm() <= allowed(model) * own.norm():
            return name
    return "the pooling or the projection, after the last block"
