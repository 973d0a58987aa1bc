"""Batches of preprocessed samples, read and decoded by worker processes if there are any."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clip_lens_plugin.datasets.image_folder import Skipped
from clip_lens_plugin.datasets.source import ImageSource
from clip_lens_plugin.datasets.streams.stream import Arrival, StreamSource
from clip_lens_plugin.files.given import UnreachableError, reason_of
from clip_lens_plugin.hints import given_as, go_on, hint, kept_so_far
from clip_lens_plugin.images.pictures import UnreadableImageError, upright_rgb
from clip_lens_plugin.model.inputs.pixels import refuse_not_pixels
from clip_lens_plugin.model.protocol import ImageModel


class UnreadableSampleError(ValueError):
    """A sample could not be read, and none may be skipped."""


@dataclass(frozen=True)
class Batch:
    """The samples of some positions that could be read, in order, and those that could not.

    Attributes:
        images: [b, 3, height, width]; None if none could be read.
        positions, labels: of the images; of a stream the numbers of arrival.
        skipped: position to name and reason.
    """

    images: Float[Tensor, "b 3 height width"] | None
    positions: list[int]
    labels: list[int]
    skipped: dict[int, Skipped]


@dataclass(frozen=True)
class _Failure:
    """What stops collecting. It is raised by the process that collects, without a worker's traceback."""

    error: ValueError | OSError


PREPROCESSING = "--image-mean, --image-std, --image-interpolation and --image-resize-mode"
_OF_THE_MACHINE = ("Too many open files", "shared memory", "allocate memory", "ancdata")
"""Parts of what torch says where a process that reads cannot pass a batch on."""


def read_batches(
    model: ImageModel,
    source: ImageSource | StreamSource,
    batches: Iterable[Sequence[int | Arrival]],
    workers: int,
    strict: bool,
) -> Iterator[Batch]:
    """The batches in the given order.

    Args:
        batches: of each batch the positions of its samples, or the samples of a stream as they arrived; read in this
            process, ahead of what is given.
        workers: processes that read ahead; none for reading in this one.
        strict: stop at the first sample that cannot be read.

    Raises:
        UnreadableSampleError: in strict mode.
        ValueError: if a sample is no picture and no tensor of the model's input size.
        UnreachableError: if a sample cannot be reached, which does not mean that it is damaged.
    """
    prepared = _Prepared(model, source, strict)
    loader = DataLoader(prepared, batch_sampler=batches, num_workers=workers, collate_fn=_collate)  # type: ignore[arg-type]
    for batch in _loaded(loader):
        if isinstance(batch, _Failure):
            raise batch.error
        yield batch


def _loaded(loader: DataLoader) -> Iterator[Batch | _Failure]:
    """What the loader gives; where the machine fails it, an UnreachableError."""
    try:
        yield from loader
    except (RuntimeError, MemoryError) as error:
        last = (str(error).splitlines() or [""])[-1]
        if isinstance(error, MemoryError) or any(each in str(error) for each in _OF_THE_MACHINE):
            raise UnreachableError(
                f"Samples cannot be read: {last or 'too little memory'}. {kept_so_far()}: {go_on()}, with fewer "
                f"workers or a smaller batch."
            ) from error
        raise


@contextmanager
def dead_readers_said() -> Iterator[None]:
    """Where a process that reads for us is killed, an UnreachableError; torch interrupts us wherever we are.

    Raises:
        UnreachableError: what was collected is kept.
    """
    try:
        yield
    except Exception as error:
        said = next((text for text in map(str, _chain(error)) if text.startswith("DataLoader worker (pid")), None)
        if said is None:
            raise
        how = said.partition("signal: ")[2].split(".")[0]
        raise UnreachableError(
            f"A process that reads samples has died{f' ({how})' if how else ''}, most often because memory ran out. "
            f"{kept_so_far()}: {go_on()}, with fewer workers or a smaller batch."
        ) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it came of: torch's may be raised inside of what turns every error into its own."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class _Prepared(Dataset):
    def __init__(self, model: ImageModel, source: ImageSource | StreamSource, strict: bool) -> None:
        self.preprocess, self.size = model.preprocess, tuple(model.cfg.image_size)
        self.model_name, self.strict = model.cfg.model_name, strict
        self.source: Any = source

    def __getitem__(self, position: int | Arrival) -> tuple[int | Arrival, Tensor | Skipped | _Failure, int]:
        try:
            sample = self.source.read(position)
            return position, self._tensor(sample.image, position), sample.label
        except UnreadableImageError as error:
            name = self.source.name(position)
            if not self.strict:
                return position, Skipped(name, str(error)), -1
            message = (
                f"{name!r} cannot be read: {error}. Mend or remove it, or collect without {given_as('strict')} to skip "
                f"such samples."
            )
            return position, _Failure(UnreadableSampleError(message)), -1
        except (OSError, MemoryError) as error:
            return position, _Failure(self._stopped(error, position)), -1
        except ValueError as error:
            return position, _Failure(error), -1

    def _stopped(self, error: OSError | MemoryError, position: int | Arrival) -> OSError:
        return UnreachableError(
            f"Sample {self.source.name(position)!r} cannot be reached: {reason_of(error)}. It may be whole, so it is "
            f"not skipped. {kept_so_far()}: bring the data back and {go_on()}."
        )

    def _tensor(self, image, position: int | Arrival) -> Tensor:
        if not isinstance(image, Tensor):
            if self.preprocess is None:
                raise ValueError(
                    f"{self.model_name} was wrapped without its preprocessing, so it cannot take pictures. Give it: "
                    f"{hint('HookedCLIP.from_open_clip(clip, preprocess, tokenizer)', PREPROCESSING)}."
                )
            image = self.preprocess(upright_rgb(image))
        name = self.source.name(position)
        refuse_not_pixels(image, f"Sample {name!r} must be a picture, or pixels that model.preprocess made")
        if tuple(image.shape) != (3, *self.size):
            raise ValueError(
                f"Sample {name!r} has shape {list(image.shape)}, {self.model_name} takes "
                f"{[3, *self.size]}. Let the data set return pictures, or tensors made by model.preprocess."
            )
        return image


def _collate(samples: list[tuple[int | Arrival, Tensor | Skipped | _Failure, int]]) -> Batch | _Failure:
    failures = [each for _, each, _ in samples if isinstance(each, _Failure)]
    if failures:
        return failures[0]
    read = [(position, image, label) for position, image, label in samples if isinstance(image, Tensor)]
    return Batch(
        images=torch.stack([image for _, image, _ in read]) if read else None,
        positions=[operator.index(position) for position, _, _ in read],
        labels=[label for _, _, label in read],
        skipped={operator.index(position): each for position, each, _ in samples if isinstance(each, Skipped)},
    )
