"""Texts to token ids: fetched when first used, given by the user, or missing with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import open_clip
import transformers
from open_clip.tokenizer import HFTokenizer
from torch import Tensor
from transformers.utils.hub import cached_file

from clip_lens_plugin.hints import hint
from clip_lens_plugin.model.loading.errors import (
    ModelNotFoundError,
    first_line,
    is_network,
    quiet,
    refuse_machine_errors,
)
from clip_lens_plugin.model.loading.foreign import CODE, refuse_hub_path, refuse_tokenizer_code, tokenizer_settings
from clip_lens_plugin.model.loading.options import Tokenizer

FILES = ("tokenizer_config.json", "tokenizer.json")
"""One of them has every tokenizer that Hugging Face's library saves."""


def _give() -> str:
    return hint("tokenizer=FOLDER of from_pretrained", "--tokenizer FOLDER")


def _yours() -> str:
    return f"Give a tokenizer of yours: {_give()}."


class NoTexts:
    """In a tokenizer's place where there is none: an error that says why, where texts are first used."""

    def __init__(self, why: str) -> None:
        self.why = why

    def __call__(self, texts: list[str]) -> NoReturn:
        """Raises ModelNotFoundError."""
        raise ModelNotFoundError(self.why)


class LazyTokenizer:
    """Texts to token ids [t, n] by open_clip's tokenizer of a model, made when it is first used.

    Args:
        source: the model, as ``open_clip.get_tokenizer`` takes it.
        name: of the model, as shown.
        text_cfg: the text part of its config.
        folder: with a Hugging Face tokenizer to use instead of the model's own.
    """

    def __init__(self, source: str, name: str, text_cfg: dict[str, Any], folder: Path | None = None) -> None:
        self._source, self._name, self._text_cfg, self._folder = source, name, dict(text_cfg), folder
        self._made: Any = None

    def __call__(self, texts: list[str]) -> Tensor:
        return self.made()(texts)

    def made(self) -> Any:
        """open_clip's tokenizer itself.

        Raises:
            ModelNotFoundError: if it is out of reach, or asks for code of its own to be run.
        """
        if self._made is None:
            try:
                with quiet():
                    self._made = self._of_folder(self._folder) if self._folder else self._own()
            except ModelNotFoundError:
                raise
            except Exception as error:
                refuse_machine_errors(error)
                raise ModelNotFoundError(self._explain(error)) from error
        return self._made

    def __getstate__(self) -> dict[str, Any]:
        """Without the tokenizer, which is made again where it is used."""
        return {**self.__dict__, "_made": None}

    def _own(self) -> Any:
        tokenizer_settings(self._text_cfg, self._name, _yours())
        wanted = self._text_cfg.get("hf_tokenizer_name")
        if not wanted:
            return open_clip.get_tokenizer(self._source)
        if self._source.startswith("local-dir:"):
            return self._of_folder(Path(self._source.removeprefix("local-dir:")))
        refuse_hub_path(wanted, self._name, _yours())
        refuse_tokenizer_code(wanted, self._name, _yours())
        refused: dict[str, Any] = {CODE: False}
        return open_clip.get_tokenizer(self._source, **refused)

    def _of_folder(self, folder: Path) -> Any:
        if not any((folder / file).is_file() for file in FILES):
            raise ModelNotFoundError(
                f"{self._name} needs a tokenizer{self._elsewhere()}, and {folder} holds none ({' or '.join(FILES)}). "
                f"Save it there with "
                f"tokenizer.save_pretrained(FOLDER), or give another: {_give()}."
            )
        refuse_tokenizer_code(folder, self._name, _yours())
        said = (
            tokenizer_settings(self._text_cfg, self._name, _yours()) if self._text_cfg.get("hf_tokenizer_name") else {}
        )
        length = self._text_cfg.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH)
        return HFTokenizer(
            str(folder),
            context_length=length,
            tokenizer_mode=self._text_cfg.get("tokenizer_mode"),
            **{**said, CODE: False},
        )

    def _elsewhere(self) -> str:
        """The tokenizer that the config names, where it is another than the folder's."""
        wanted = self._text_cfg.get("hf_tokenizer_name")
        return f", {wanted} by its config," if wanted and self._folder is None else ""

    def _explain(self, error: Exception) -> str:
        wanted = self._text_cfg.get("hf_tokenizer_name") or "its vocabulary file"
        if self._folder or not is_network(error):
            where = self._folder or wanted
            return f"The tokenizer of {self._name}, {where}, could not be loaded: {first_line(error)}. Give {_give()}."
        return (
            f"{self._name} needs its tokenizer for texts, {wanted} of the Hugging Face hub, which is not in the local "
            f"cache and could not be downloaded: {first_line(error)}. Fetch it where there is a network (hf download "
            f"{wanted} --include '*token*' '*.model') and give its folder: {_give()}. Images need none."
        )


def tokenizer_of(source: str, name: str, text_cfg: dict[str, Any], given: Tokenizer | Path | None) -> Tokenizer:
    """The given tokenizer, or the model's own: at once where it ships with open_clip, else when it is first used."""
    if given is not None and not isinstance(given, Path):
        return given
    if isinstance(given, Path):
        return LazyTokenizer(source, name, text_cfg, given)
    wanted = text_cfg.get("hf_tokenizer_name") or text_cfg.get("tokenizer_kwargs")
    if wanted or (":" not in source and "siglip" in source.lower()):
        return LazyTokenizer(source, name, text_cfg)
    return open_clip.get_tokenizer(source)


class HuggingFaceTokenizer:
    """Texts to token ids [t, n].

    Args:
        tokenizer: of Hugging Face.
        context_length: n.
    """

    def __init__(self, tokenizer: Any, context_length: int) -> None:
        self.tokenizer, self.context_length = tokenizer, context_length

    def __call__(self, texts: list[str]) -> Tensor:
        encoding = self.tokenizer(
            texts, padding="max_length", max_length=self.context_length, truncation=True, return_tensors="pt"
        )
        return encoding["input_ids"]


def hugging_face_tokenizer(source: str, model: Any, given: Tokenizer | Path | None = None) -> Tokenizer | None:
    """The tokenizer of a Hugging Face model, padded to the text tower's length as it was trained.

    Args:
        source: its folder, or its name on the hub.
        model: with its config; None is returned where it has no text tower.
        given: by the user.
    """
    if given is not None and not isinstance(given, Path):
        return given
    if isinstance(model, transformers.CLIPVisionModelWithProjection):
        return None
    place = source if given is None else str(given)
    missing = (
        f"{source} comes without a tokenizer ({' or '.join(FILES)}) that could be read here. Texts need it, images do "
        f"not. Save it into the folder with tokenizer.save_pretrained(FOLDER), or give one: {_give()}"
    )
    # Without its files transformers makes a tokenizer with no words, which would read every text as the same one.
    try:
        if not any(_found(place, FILES)):
            return NoTexts(f"{missing}.")
        refuse_tokenizer_code(place, source, _yours())
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(place, **{CODE: False})
    except ModelNotFoundError as error:
        return NoTexts(str(error))
    except Exception as error:  # A damaged file ends in errors of every kind.
        refuse_machine_errors(error)
        return NoTexts(f"{missing}: {first_line(error)}.")
    return HuggingFaceTokenizer(tokenizer, model.config.text_config.max_position_embeddings)


def _found(place: str, files: Iterable[str]) -> Iterable[str | None]:
    for file in files:
        yield cached_file(
            place,
            file,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
