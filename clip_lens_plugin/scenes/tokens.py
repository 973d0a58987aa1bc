"""A tokenizer for the scenes' few words: the part of open_clip's own byte-pair merges that they need."""

from __future__ import annotations

import gzip
from pathlib import Path

from open_clip.tokenizer import SimpleTokenizer

from clip_lens_plugin.files.whole import whole_files
from clip_lens_plugin.scenes.captions import vocabulary

BPE_FILE = "bpe.txt.gz"
CONTEXT_LENGTH = 20
"""Tokens of the longest caption, with its start and end, rounded up."""


def scenes_tokenizer(folder: Path) -> SimpleTokenizer:
    """The tokenizer whose merges lie in ``folder``; words outside the scenes become bytes."""
    return SimpleTokenizer(bpe_path=str(folder / BPE_FILE), context_length=CONTEXT_LENGTH)


def write_merges(folder: Path) -> None:
    """Writes the merges that :func:`vocabulary` needs, in their original order.

    A merge that no word uses never wins over one that it does use, so each word keeps the single token that the
    full list gives it.
    """
    full = SimpleTokenizer()
    pieces = set()
    ranks = {"".join(pair): pair for pair in sorted(full.bpe_ranks, key=full.bpe_ranks.__getitem__)}
    for word in vocabulary():
        waiting: list[str] = list(full.bpe(word).split(" "))
        while waiting:
            piece = waiting.pop()
            if piece in ranks and piece not in pieces:
                pieces.add(piece)
                waiting.extend(ranks[piece])
    kept = [pair for pair in full.bpe_ranks if "".join(pair) in pieces]
    text = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in kept)])
    with whole_files() as beside:
        beside(folder / BPE_FILE).write_bytes(gzip.compress(text.encode(), mtime=0))
