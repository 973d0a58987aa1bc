"""How the tokenizers of open_clip and Hugging Face write their ids in letters, and where words begin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from open_clip.tokenizer import SimpleTokenizer

from clip_lens_plugin.adapters.text.tokenizers import hugging_face_of, made


@runtime_checkable
class Pieces(Protocol):
    """How a tokenizer's ids are written; one that it does not know with its number.

    Attributes:
        start, end, padding: ids of what it adds before, after and behind a text; None where it adds no such.
    """

    start: int | None
    end: int | None
    padding: int | None

    def begins(self, ids: list[int], position: int) -> bool:
        """Whether the token at a position begins a word."""
        ...

    def letters(self, ids: list[int]) -> str:
        """Neighbouring tokens in letters."""
        ...


def pieces_of(tokenizer: Any) -> Pieces:
    """How a tokenizer of open_clip or Hugging Face writes; of another one, every id stands for itself."""
    tokenizer = made(tokenizer)
    if isinstance(tokenizer, SimpleTokenizer):
        return _BytePairs(tokenizer)
    inner = hugging_face_of(tokenizer)
    return _Ids() if inner is None else _HuggingFacePieces(inner)


@dataclass
class _Ids:
    start: int | None = None
    end: int | None = None
    padding: int | None = None

    def begins(self, ids: list[int], position: int) -> bool:
        return True

    def letters(self, ids: list[int]) -> str:
        return " ".join(map(str, ids))


class _BytePairs:
    """OpenAI's: a word's last piece ends in a mark."""

    padding: int | None = 0

    def __init__(self, tokenizer: SimpleTokenizer) -> None:
        self._tokenizer = tokenizer
        self.start: int | None = tokenizer.sot_token_id
        self.end: int | None = tokenizer.eot_token_id

    def begins(self, ids: list[int], position: int) -> bool:
        return self._written(ids[position - 1]).endswith("</w>")

    def letters(self, ids: list[int]) -> str:
        written = "".join(self._written(each) for each in ids).replace("</w>", " ")
        as_bytes = bytes(self._tokenizer.byte_decoder.get(each, ord("?")) for each in written.strip())
        return as_bytes.decode("utf-8", errors="replace")

    def _written(self, each: int) -> str:
        return self._tokenizer.decoder.get(each, f"#{each}</w>")


class _HuggingFacePieces:
    """Hugging Face's: a word's first piece begins with a mark, or its last ends in one."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        starts = (tokenizer.bos_token_id, tokenizer.cls_token_id)
        ends = (tokenizer.eos_token_id, tokenizer.sep_token_id)
        self.start: int | None = next((each for each in starts if each is not None), None)
        self.end: int | None = next((each for each in ends if each is not None), None)
        self.padding: int | None = tokenizer.pad_token_id

    def begins(self, ids: list[int], position: int) -> bool:
        before, own = self._tokenizer.convert_ids_to_tokens([ids[position - 1], ids[position]])
        if before is None or own is None:
            return True
        if own.startswith("##"):
            return False
        return own.startswith(("▁", "Ġ")) or before.endswith("</w>")

    def letters(self, ids: list[int]) -> str:
        written = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False).strip()
        return written or " ".join(f"#{each}" for each in ids)
