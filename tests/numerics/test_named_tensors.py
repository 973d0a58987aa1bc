"""Tensors by name are a dictionary, and show themselves as a table."""

from __future__ import annotations

import math
import pickle

import pytest
import torch

from clip_lens_plugin.numerics.named_tensors import NamedTensors

FOUND = NamedTensors({"blocks.0.<b>": torch.tensor([[1.0, -3.0], [2.0, 4.0]]), "empty": torch.empty(0, 2)})


def test_it_is_a_dictionary() -> None:
    assert isinstance(FOUND, dict)
    assert list(FOUND) == ["blocks.0.<b>", "empty"]
    copy = pickle.loads(pickle.dumps(FOUND))
    assert type(copy) is NamedTensors
    assert torch.equal(copy["blocks.0.<b>"], FOUND["blocks.0.<b>"])


def test_its_table_has_the_numbers_of_each_tensor() -> None:
    table = FOUND.to_dataframe().set_index("name")
    first = table.loc["blocks.0.<b>"]
    assert (first["shape"], first["dtype"]) == ("2 × 2", "float32")
    assert tuple(first[["mean", "lowest", "highest"]]) == (1.0, -3.0, 4.0)
    assert first["std"] == pytest.approx(math.sqrt((0 + 16 + 1 + 9) / 4))
    assert table.loc["empty", ["mean", "std", "lowest", "highest"]].isna().all()
    assert len(NamedTensors[str]().to_dataframe()) == 0


def test_it_shows_shapes_and_escapes_names() -> None:
    assert repr(FOUND).splitlines() == [
        "NamedTensors of 2:",
        "  'blocks.0.<b>': [2, 2], torch.float32",
        "  'empty': [0, 2], torch.float32",
    ]
    page = FOUND._repr_html_()
    assert page.startswith("<p>2 tensors</p>")
    assert "blocks.0.&lt;b&gt;" in page
    assert "<b>" not in page
