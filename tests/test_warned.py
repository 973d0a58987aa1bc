"""Warnings point at the user's line."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import clip_lens_plugin
from clip_lens_plugin import HookedCLIP, Moments, TextPool, text_span
from clip_lens_plugin.retrieval import extreme_images
from tests.conftest import random_clip, random_images

PACKAGE = Path(clip_lens_plugin.__file__).parent


@pytest.fixture(scope="module")
def model(tokenizer) -> HookedCLIP:
    return HookedCLIP.from_open_clip(random_clip(), tokenizer=tokenizer)


def test_a_warning_points_at_the_line_that_called(model) -> None:
    """Through the wrapper that takes bridges, and without it."""
    pool = TextPool(["a dog", "a cat"])
    rows = model.decompose(random_images(model, 4))
    with pytest.warns(UserWarning, match="rank=500 was cut") as cut:
        text_span(model, Moments.from_contributions(rows.normalized()), pool, 2, rank=500)
    with pytest.warns(UserWarning, match="There is one image") as one:
        extreme_images(model.decompose(random_images(model, 1)), ["a dog"])
    assert [each.filename for each in (*cut, *one)] == [__file__, __file__]


def test_no_module_counts_the_calls_between_it_and_the_user() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.keyword) and node.arg == "stacklevel"), path
            assert not (isinstance(node, ast.Attribute) and ast.unparse(node) == "warnings.warn"), path
