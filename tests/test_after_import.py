"""What is done when another library's module is loaded: on a planted package, in every order, once."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Barrier, Thread
from types import ModuleType

import pytest

from clip_lens_plugin.after_import import after_import

NAMES = ("planted.first", "planted.second")


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package on the path; what it left behind is taken away."""
    (tmp_path / "planted").mkdir()
    for name in ("__init__", "first", "second"):
        (tmp_path / "planted" / f"{name}.py").write_text("TABLE = {}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path / "planted"
    for name in [each for each in sys.modules if each.partition(".")[0] == "planted"]:
        del sys.modules[name]


class Calls(list[str]):
    def add(self, module: ModuleType) -> None:
        assert module.TABLE == {}
        module.TABLE["added"] = True
        self.append(module.__name__)

    def actions(self) -> dict[str, Callable[[ModuleType], object]]:
        return dict.fromkeys(NAMES, self.add)


def test_modules_that_come_later(planted: Path) -> None:
    before, calls = list(sys.meta_path), Calls()
    after_import(calls.actions())
    after_import(calls.actions())
    assert calls == []
    assert len(sys.meta_path) == len(before) + 1
    for name in NAMES:
        module = importlib.import_module(name)
        assert module.TABLE == {"added": True}
        assert type(module.__loader__).__module__ != after_import.__module__
        assert module.__spec__ is not None
        assert module.__spec__.loader is module.__loader__
    assert calls == list(NAMES)
    assert sys.meta_path == before


def test_modules_that_are_there_already(planted: Path) -> None:
    before, calls = list(sys.meta_path), Calls()
    importlib.import_module(NAMES[1])
    after_import(calls.actions())
    assert calls == [NAMES[1]]
    importlib.import_module(NAMES[0])
    assert calls == [NAMES[1], NAMES[0]]
    assert sys.meta_path == before


def test_an_import_that_fails_is_waited_for_again(planted: Path) -> None:
    calls, source = Calls(), (planted / "first.py").read_text()
    after_import(calls.actions())
    (planted / "first.py").write_text("raise RuntimeError('planted')")
    with pytest.raises(RuntimeError, match="planted"):
        importlib.import_module(NAMES[0])
    assert calls == []
    (planted / "first.py").write_text(source)
    importlib.invalidate_caches()
    assert importlib.import_module(NAMES[0]).TABLE == {"added": True}
    assert calls == [NAMES[0]]


def test_a_module_that_is_not_there(planted: Path) -> None:
    after_import({"planted.third": lambda module: pytest.fail("there is none")})
    with pytest.raises(ModuleNotFoundError, match=r"planted\.third"):
        importlib.import_module("planted.third")


def test_two_that_wait_for_the_same(planted: Path) -> None:
    order: list[int] = []
    after_import(dict.fromkeys(NAMES, lambda module: order.append(1)))
    after_import(dict.fromkeys(NAMES, lambda module: order.append(2)))
    importlib.import_module(NAMES[0])
    assert order == [1, 2]


def test_a_module_is_loaded_anew(planted: Path) -> None:
    calls = Calls()
    after_import(calls.actions())
    first = importlib.import_module(NAMES[0])
    assert importlib.reload(first).TABLE == {}  # Once is once.
    importlib.import_module(NAMES[1])
    assert calls == list(NAMES)


def test_threads_that_import_at_once(planted: Path) -> None:
    calls, start, found = Calls(), Barrier(8), []
    after_import(calls.actions())

    def run(i: int) -> None:
        start.wait()
        found.append(importlib.import_module(NAMES[i % 2]).TABLE)

    threads = [Thread(target=run, args=(i,)) for i in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [{"added": True}] * 8
    assert sorted(calls) == list(NAMES)
