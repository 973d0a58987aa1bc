"""What is known of the tokenizers of open_clip and Hugging Face: their whole state, and how long a text is uncut."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import transformers
from open_clip.tokenizer import HFTokenizer, SigLipTokenizer, SimpleTokenizer, basic_clean, canonicalize_text

from clip_lens_plugin.adapters.checks.behaviour import described
from clip_lens_plugin.dependencies.names import attribute

OF_OPEN_CLIP = (SimpleTokenizer, HFTokenizer, SigLipTokenizer)


def tokenizer_state(tokenizer: Any) -> str | None:
    """Everything that the ids of any text follow from, as text: the vocabulary, its merges, the length, the cleaning.

    None for a tokenizer that is not known well enough to say so.
    """
    tokenizer = made(tokenizer)
    held = dict(getattr(tokenizer, "__dict__", {}))
    if type(tokenizer) is SimpleTokenizer:
        for name in ("cache", "decoder", "byte_decoder"):  # Words met before, and what follows from the rest.
            held.pop(name, None)
        # Written out here, since describing each of their 100,000 entries would take as long as embedding the texts.
        words, merges = held.pop("encoder"), held.pop("bpe_ranks")
        return json.dumps([words, list(merges), list(merges.values())]) + described(held)
    if not is_known(tokenizer):
        return None
    inner = hugging_face_of(tokenizer)
    rules = inner.backend_tokenizer.to_str()
    # Before its tokens stand the length and the padding of the last call.
    rules = rules[max(rules.find('"added_tokens"'), 0) :]
    special = [getattr(inner, f"{name}_token_id") for name in ("bos", "eos", "pad", "cls", "sep", "unk", "mask")]
    sides = [inner.padding_side, inner.truncation_side]
    others = {name: each for name, each in held.items() if each is not inner and name != "set_lang_fn"}
    return described([type(tokenizer).__qualname__, type(inner).__qualname__, rules, special, sides, others])


def uncut_length(tokenizer: Any, text: str) -> tuple[int, int] | None:
    """Tokens of the text with those of start and end, were nothing cut, and how many the tokenizer keeps.

    None for a tokenizer that is not known.
    """
    tokenizer = made(tokenizer)
    if isinstance(tokenizer, OF_OPEN_CLIP):
        length = attribute(tokenizer, "context_length", "open_clip_torch", __name__)
    else:
        length = getattr(tokenizer, "context_length", None)  # A user's own may have none, and is not known.
    if not isinstance(length, int):
        return None
    if isinstance(tokenizer, SimpleTokenizer):
        return 2 + len(tokenizer.encode(text)), length
    inner = hugging_face_of(tokenizer)
    if inner is None:
        return None
    own_tokens = isinstance(tokenizer, HFTokenizer) and tokenizer.tokenizer_mode == "clips"
    ids = inner(_cleaning(tokenizer)(text), truncation=False, add_special_tokens=not own_tokens, verbose=False)
    return len(ids["input_ids"]) + 3 * own_tokens, length


def is_known(tokenizer: Any) -> bool:
    """Whether :func:`tokenizer_state` says everything about it."""
    tokenizer = made(tokenizer)
    if type(tokenizer) is SimpleTokenizer:
        return True
    inner = hugging_face_of(tokenizer)  # One that is written in Python has no rules that could be read.
    return inner is not None and isinstance(inner, transformers.PreTrainedTokenizerFast)


def made(tokenizer: Any) -> Any:
    """Of a tokenizer of this package that is made when it is first used, the one that it stands for."""
    make = getattr(tokenizer, "made", None) if type(tokenizer).__module__.startswith("clip_lens_plugin.") else None
    return make() if callable(make) else tokenizer


def hugging_face_of(tokenizer: Any) -> Any:
    """The tokenizer of Hugging Face inside one of open_clip or of this package."""
    if type(tokenizer) in (HFTokenizer, SigLipTokenizer):
        return attribute(tokenizer, "tokenizer", "open_clip_torch", __name__)
    ours = type(tokenizer).__module__.startswith("clip_lens_plugin.")
    return getattr(tokenizer, "tokenizer", None) if ours else None


def _cleaning(tokenizer: Any) -> Callable[[str], str]:
    if isinstance(tokenizer, SigLipTokenizer):
        return lambda text: canonicalize_text(basic_clean(text))
    return tokenizer.clean_fn if isinstance(tokenizer, HFTokenizer) else str
