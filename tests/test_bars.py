"""Work is followed step by step, seen or not, and ends where whoever follows wants it to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from clip_lens_plugin import HookedCLIP, TextPool, head_roles, upstream
from clip_lens_plugin.ablation import activation_means
from clip_lens_plugin.bars import Bars, followed, tracked


def test_what_is_tracked_is_passed_on_step_by_step(capsys: pytest.CaptureFixture[str]) -> None:
    reports: list[tuple[Any, ...]] = []
    with followed(lambda *each: reports.append(each)):
        assert list(tracked("abc", "spelling", visible=False)) == ["a", "b", "c"]
        assert list(tracked(iter("ab"), "spelling", visible=False, total=2)) == ["a", "b"]
    assert reports == [*(("spelling", n, 3) for n in (1, 2, 3)), *(("spelling", n, 2) for n in (1, 2))]
    list(tracked("abc", "spelling", visible=False))
    assert len(reports) == 5
    assert capsys.readouterr().err == ""
    list(tracked("abc", "spelling", visible=True))
    assert "spelling" in capsys.readouterr().err


def test_bars_without_an_end() -> None:
    reports: list[tuple[Any, ...]] = []
    with followed(lambda *each: reports.append(each)), Bars(visible=False) as bars:
        task = bars.add_task("reading", total=None)
        bars.update(task, completed=7)
    assert reports == [("reading", 7, None)]


class Enough(BaseException):
    pass


def long_calls(model: HookedCLIP) -> Iterator[tuple[str, Callable[[], object]]]:
    images = torch.zeros(6, 3, *model.cfg.image_size).uniform_(-1, 1)
    data = model.decompose(images).normalized()
    texts = [f"a {colour} {shape}" for colour in ("red", "blue", "green") for shape in ("star", "ring", "square")]
    pool = TextPool(texts, themes=["one", "two", "three"] * 3)
    points = ["blocks.5.hook_mlp_out"]
    yield "decompose", lambda: model.decompose(images, batch_size=2)
    yield "means", lambda: activation_means(model, images, points, batch_size=2)
    yield "upstream", lambda: upstream(model, images, 5, 3, batch_size=2)
    yield "roles", lambda: head_roles(model, data, pool, n=1, n_nulls=19, n_bootstraps=0)


def test_long_work_ends_at_its_next_step() -> None:
    scenes_model = HookedCLIP.from_pretrained("scenes", device="cpu")
    for name, call in long_calls(scenes_model):
        steps: list[str] = []

        def follow(what: str, done: float, total: float | None, steps: list[str] = steps) -> None:
            steps.append(what)
            raise Enough

        with followed(follow), pytest.raises(Enough):
            call()
        assert len(steps) == 1, name
        assert call() is not None
