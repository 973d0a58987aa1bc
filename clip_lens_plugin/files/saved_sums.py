"""Sums that are written to one safetensors file, and read again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from clip_lens_plugin.files.whole import whole_files

Own = TypeVar("Own", bound="SavedSums")


def word_tensor(word: str) -> Tensor:
    """A word as the bytes of its letters, as it stands in a file of tensors."""
    return torch.tensor([*word.encode()], dtype=torch.uint8, device="cpu")


def word_of(tensor: Tensor) -> str:
    """The word that :func:`word_tensor` wrote."""
    return bytes(tensor.tolist()).decode()


class SavedSums(ABC):
    """Sums as tensors, in a file of their own.

    Attributes:
        KIND: what they are, in words.
    """

    KIND: ClassVar[str]

    @abstractmethod
    def to_tensors(self) -> dict[str, Tensor]:
        """The fields as tensors, as they are written to a file."""

    @classmethod
    @abstractmethod
    def from_tensors(cls: type[Own], tensors: dict[str, Tensor]) -> Own:
        """Reads the ``tensors`` that :meth:`to_tensors` gave.

        Raises:
            KeyError: if one is missing.
            ValueError: if they do not fit each other.
        """

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file at ``path``, whole or not at all.

        Raises:
            OSError: if it cannot be written.
        """
        with whole_files() as beside:
            save_file(self.to_tensors(), str(beside(path)))

    @classmethod
    def load(cls: type[Own], path: str | Path) -> Own:
        """Reads what :meth:`save` wrote at ``path``.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it does not hold such sums.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"There is no file {path} of {cls.KIND}.")
        try:
            return cls.from_tensors(load_file(str(path)))
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{path} holds no {cls.KIND}: {error}. Write it with {cls.__name__}.save.") from error
