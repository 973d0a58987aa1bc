"""The package's imports: no circle, whether at the top of a module, for types alone, or inside a function."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

NAME = "clip_lens_plugin"
ROOT = Path(__file__).parent.parent / NAME
FACE = f"{NAME}.__init__"


VERSION = "__version__"
"""A constant, which the top of the package has before it loads anything."""


def module_name(path: Path) -> str:
    parts = (NAME, *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def imported(source: str, known: set[str]) -> Iterator[str]:
    """Modules of the package that a module imports, wherever the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (
                found for alias in node.names for found in (alias.name, f"{alias.name}.__init__") if found in known
            )
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"import by the whole name, not relative: {ast.unparse(node)}"
            for alias in node.names:
                inner, face = f"{node.module}.{alias.name}", f"{node.module}.__init__"
                if inner in known or node.module in known:
                    yield inner if inner in known else str(node.module)
                elif face in known and alias.name != VERSION:
                    yield face


def loaded_lazily(stub: str, package: str) -> set[str]:
    """Modules that a package loads names from when they are first used."""
    nodes = [node for node in ast.walk(ast.parse(stub)) if isinstance(node, ast.ImportFrom)]
    assert all(node.level == 1 and node.module is not None for node in nodes)
    return {f"{package}.{node.module}" for node in nodes}


def graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    return {name: set(imported(source, set(sources))) - {name} for name, source in sources.items()}


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    found = graph({module_name(path): path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py")})
    for path in ROOT.rglob("__init__.pyi"):
        name = module_name(path)
        lazy = loaded_lazily(path.read_text(encoding="utf-8"), name.removesuffix(".__init__"))
        assert lazy
        assert lazy <= set(found)
        found[name] |= lazy
    return found


def circle(imports: Mapping[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_circle_of_modules(imports: dict[str, set[str]]) -> None:
    assert len(imports) > 150
    assert circle(imports) == []


ANALYSES_OF_THE_MODEL = [
    (f"{NAME}.model.hooked_clip", f"{NAME}.decomposition.running.runs"),
    (f"{NAME}.model.editable", f"{NAME}.editing.edited"),
    (f"{NAME}.model.editable", f"{NAME}.editing.effects"),
    (f"{NAME}.model.editable", f"{NAME}.editing.saving"),
    (f"{NAME}.model.text.hooked_text", f"{NAME}.decomposition.running.text_runs"),
    (f"{NAME}.model.text.hooked_text", f"{NAME}.decomposition.text_contributions"),
]
"""Methods of the models that call an analysis or an edit, which knows them by their protocol alone."""


def by_folder(imports: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Each folder, or module beside the folders, to those that it imports from."""
    folders: dict[str, set[str]] = {}
    for name, found in imports.items():
        for other in found:
            if name != FACE and (name, other) not in ANALYSES_OF_THE_MODEL:
                own, its = name.split(".")[1], other.split(".")[1]
                folders.setdefault(own, set()).update({its} - {own})
    return folders


def test_no_circle_of_folders(imports: dict[str, set[str]]) -> None:
    folders = by_folder(imports)
    assert len(folders) > 15
    assert circle(folders) == []


ORDER = {
    "for all": "after_import warned files hints bars plain_text not_there arguments dependencies shown numerics",
    "pictures and data sets, which the model opens": "images labelling datasets",
    "the model": "layers config scenes adapters model bridge",
    "the sum, and what is kept of it": "decomposition texts statistics higher_order zero_shot collection",
    "analyses, which take a store": (
        "interactions describe ablation patching maps retrieval saliency segmentation roles decisions groups editing"
    ),
    "what is shown": "report views app cli __main__",
}
"""Folders in the order of their imports, each only from those before it."""


def test_the_order_of_folders(imports: dict[str, set[str]]) -> None:
    place = {folder: at for at, folder in enumerate(" ".join(ORDER.values()).split())}
    folders = by_folder(imports)
    assert set(folders).union(*folders.values()) == set(place)
    assert [(own, its) for own, found in folders.items() for its in found if place[its] >= place[own]] == []


KNOWS_THE_PROTOCOL = (
    "decomposition texts statistics higher_order zero_shot interactions describe ablation patching maps retrieval "
    "saliency roles decisions groups"
)
"""Folders that know a model by its protocol alone."""


def test_the_mathematics_does_not_import_the_model(imports: dict[str, set[str]]) -> None:
    model = f"{NAME}.model.hooked_clip"
    free = {f"{NAME}.{folder}" for folder in KNOWS_THE_PROTOCOL.split()}
    assert [name for name, found in imports.items() if ".".join(name.split(".")[:2]) in free and model in found] == []
    assert free <= {".".join(name.split(".")[:2]) for name in imports}


@pytest.mark.parametrize(
    "second",
    [
        "from a import x",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import x",
        "def f():\n    import a",
    ],
)
def test_a_circle_is_found(second: str) -> None:
    assert set(circle(graph({"a": "import b", "b": second}))) == {"a", "b"}
    assert circle(graph({"a": "import b", "b": "import os"})) == []


@pytest.mark.parametrize("second", ["import a", "from a import x", "def f():\n    from a import x"])
def test_a_circle_through_the_top_is_found(second: str) -> None:
    assert set(circle(graph({"a.__init__": "from a.b import y", "a.b": second}))) == {"a.__init__", "a.b"}
    assert circle(graph({"a.__init__": "from a.b import y", "a.b": "from a import __version__"})) == []


def test_a_relative_import_is_refused() -> None:
    with pytest.raises(AssertionError, match="whole name"):
        graph({"a.b": "from . import c", "a.c": "import os"})


def loaded_at_once(source: str) -> set[str]:
    """Modules that are imported when a module is: those that stand at its top, but for types alone."""
    found: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_a_report_needs_no_matplotlib() -> None:
    sources = {module_name(path): path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py")}
    waiting, seen = [f"{NAME}.views.report.report", f"{NAME}.report.analyses"], set()
    while waiting:
        name = waiting.pop()
        if name in sources and name not in seen:
            seen.add(name)
            waiting += loaded_at_once(sources[name])
    assert f"{NAME}.views.drawing.view" in seen
    assert {each for each in seen if any("matplotlib" in other for other in loaded_at_once(sources[each]))} == set()


SHOWN, AFTER_IMPORT = f"{NAME}.shown", f"{NAME}.after_import"
LOADERS = {"import_module", "resolve_name", "__import__", "run_module", "run_path", "exec_module", "load_module"}
"""What loads a module by a name that an import does not show."""


def named_later(source: str, constants: tuple[str, ...] = ("VIEWS", "INLINE")) -> dict[str, set[str]]:
    """Module to the functions of it that these tables of a module name, as "module:function"."""
    found: dict[str, set[str]] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and {ast.unparse(each) for each in node.targets} & set(constants):
            for value in ast.literal_eval(node.value).values():
                module, _, function = value.partition(":")
                found.setdefault(module, set()).add(function)
    return found


def loaders(source: str) -> set[str]:
    """The names of :data:`LOADERS` that a module imports, reads or calls."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute | ast.Name):
            found.add(node.attr if isinstance(node, ast.Attribute) else node.id)
    return found & LOADERS


def test_what_is_named_in_the_place_of_an_import_is_there_and_would_be_a_circle(imports: dict[str, set[str]]) -> None:
    sources = {module_name(path): path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py")}
    named = named_later(sources[SHOWN])
    assert set(named) == {f"{NAME}.views.results", f"{NAME}.views.inline"}
    for module, functions in named.items():
        defined = {node.name for node in ast.parse(sources[module]).body if isinstance(node, ast.FunctionDef)}
        assert functions <= defined, module
        assert circle({**imports, SHOWN: {*imports[SHOWN], module}}), f"Import {module} in {SHOWN}: it is no circle."


def test_no_other_module_is_loaded_by_a_name() -> None:
    found = {module_name(path): loaders(path.read_text(encoding="utf-8")) for path in ROOT.rglob("*.py")}
    # The face loads what its stub lists; what waits for another library loads that one.
    assert {name for name, used in found.items() if used} == {FACE, AFTER_IMPORT, SHOWN}


@pytest.mark.parametrize(
    "source",
    [
        "import importlib\nimportlib.import_module(NAME + '.views')",
        "from pkgutil import resolve_name as found",
        "def f():\n    return __import__('a.b')",
    ],
)
def test_an_import_that_a_string_hides_is_found(source: str) -> None:
    assert len(loaders(source)) == 1
    assert loaders("import importlib.metadata\nfrom importlib.util import find_spec") == set()


def test_names_in_a_table_are_read() -> None:
    table = "VIEWS = {'A': 'p.views:a', 'B': 'p.views:b'}\nINLINE = {'A': 'p.inline:a'}\nOTHER = {'A': 'p.x:a'}"
    assert named_later(table) == {"p.views": {"a", "b"}, "p.inline": {"a"}}
