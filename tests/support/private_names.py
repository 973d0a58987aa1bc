"""Where a package's source reaches names that begin with an underscore and are not its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

PRIVATE = re.compile(r"_[A-Za-z]\w*")
"""An underscore and a letter: those of Python itself begin with two, and a lone one is no name."""


ASKING = {"getattr", "hasattr", "setattr", "delattr", "attribute", "_of"}
"""Functions that take an object and the name of its attribute; the last two are the package's own."""

VARIABLES = re.compile(r"vars\(.*\)|.*__dict__|state")
"""What a table of an object's attributes is called."""


@dataclass(frozen=True)
class Reach:
    """One place that reaches such a name."""

    module: str
    line: int
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.text}"


@dataclass
class Class:
    """A class of the package: what it defines and sets on itself, and the dotted names of its bases."""

    module: str
    node: ast.ClassDef
    bases: tuple[str, ...]
    defined: set[str] = field(default_factory=set)


def _is_private(name: object) -> bool:
    return isinstance(name, str) and PRIVATE.fullmatch(name) is not None


def _receiver(node: ast.Attribute) -> str:
    return ast.unparse(node.value)


def _defined_by(node: ast.ClassDef) -> set[str]:
    """Names that a class defines in its body, or sets on itself, in methods too."""
    found = {each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    for each in node.body:
        targets = each.targets if isinstance(each, ast.Assign) else [getattr(each, "target", None)]
        found |= {name.id for target in targets if target for name in ast.walk(target) if isinstance(name, ast.Name)}
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store):
            if isinstance(each.value, ast.Name) and each.value.id in ("self", "cls"):
                found.add(each.attr)
        elif isinstance(each, ast.Call) and ast.unparse(each.func) in ("object.__setattr__", "super().__setattr__"):
            found |= {arg.value for arg in each.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
    return found


def _asked(node: ast.Call | ast.Subscript) -> list[ast.expr]:
    """The name that a call or subscript asks an object for by a string, as ``getattr(x, name)``."""
    if not any(isinstance(each, ast.Constant) and _is_private(each.value) for each in ast.iter_child_nodes(node)):
        return []  # Most are this, and spelling out what is called takes long.
    if isinstance(node, ast.Subscript):
        return [node.slice] if VARIABLES.fullmatch(ast.unparse(node.value)) else []
    called = ast.unparse(node.func)
    if called in ASKING:
        return node.args[1:2]
    owner, _, last = called.rpartition(".")
    return node.args[:1] if last in ("get", "pop", "setdefault") and VARIABLES.fullmatch(owner) else []


class Source:
    """The modules of a package, each by its dotted name.

    Args:
        package: its name.
        texts: module to its source.
    """

    def __init__(self, package: str, texts: Mapping[str, str]) -> None:
        self.package = package
        self.trees = {module: ast.parse(text) for module, text in texts.items()}
        self.names = {module: self._names(module) for module in self.trees}

    def _names(self, module: str) -> dict[str, str]:
        """What a module calls a class or module of the package, to its dotted name."""
        found = {}
        for node in ast.walk(self.trees[module]):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.ClassDef):
                found[node.name] = f"{module}.{node.name}"
        return {name: where for name, where in found.items() if where.startswith(f"{self.package}.")}

    @cached_property
    def classes(self) -> dict[str, Class]:
        """Each class by its dotted name."""
        found = {}
        for module, tree in self.trees.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    bases = [
                        ast.unparse(base.value if isinstance(base, ast.Subscript) else base) for base in node.bases
                    ]
                    known = tuple(self.names[module][base] for base in bases if base in self.names[module])
                    found[f"{module}.{node.name}"] = Class(module, node, known, _defined_by(node))
        return found

    def _above(self, name: str) -> Iterator[str]:
        if name in self.classes:
            yield name
            for base in self.classes[name].bases:
                yield from self._above(base)

    @cached_property
    def families(self) -> dict[str, set[str]]:
        """Each class, to the names that it or a class of the package above or below it defines."""
        found: dict[str, set[str]] = {name: set() for name in self.classes}
        for name in self.classes:
            above = list(self._above(name))
            defined = set[str]().union(*(self.classes[each].defined for each in above))
            for each in above:  # A class may read what those made of it define.
                found[each] |= defined
        return found

    def of_others(self) -> Iterator[tuple[str, Class, set[str]]]:
        """Classes made of one that is not the package's, each with the private names that it defines itself."""
        for name, each in self.classes.items():
            defined = {name for name in each.defined if _is_private(name)}
            above = [self.classes[one] for one in self._above(name)]
            if defined and any(len(one.bases) < len(one.node.bases) for one in above):
                yield name, each, defined

    def functions(self, module: str) -> set[str]:
        """Names at the top of a module."""
        return {node.name for node in self.trees[module].body if isinstance(node, ast.FunctionDef | ast.ClassDef)}

    def reached(self) -> Iterator[Reach]:
        """Every place that reads, calls, sets or imports a private name which the package does not define there.

        ``self._name`` is the package's own where the class, or one of the package above or below it, defines the name;
        ``x._name`` where a class does that the module defines or imports: which of several classes has it is not
        looked for in the whole package, since two libraries may choose the same name.
        """
        for module, tree in self.trees.items():
            yield from self._in(module, tree, None)

    def _in(self, module: str, node: ast.AST, owner: str | None) -> Iterator[Reach]:
        for child in ast.iter_child_nodes(node):
            inner = f"{module}.{child.name}" if isinstance(child, ast.ClassDef) else owner
            for name in self._private(child):
                if not self._is_own(module, child, name, owner):
                    yield Reach(module, getattr(child, "lineno", 0), name, ast.unparse(child))
            yield from self._in(module, child, inner)

    def _private(self, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Attribute) and _is_private(node.attr):
            yield node.attr
        elif isinstance(node, ast.Call | ast.Subscript):
            yield from (
                each.value for each in _asked(node) if isinstance(each, ast.Constant) and _is_private(each.value)
            )
        elif isinstance(node, ast.ImportFrom | ast.Import):
            dotted = [*(node.module or "").split(".")] if isinstance(node, ast.ImportFrom) else []
            parts = [*dotted, *(part for alias in node.names for part in alias.name.split("."))]
            if parts[0] != self.package:
                yield from (part for part in parts if _is_private(part))

    def _is_own(self, module: str, node: ast.AST, name: str, owner: str | None) -> bool:
        if isinstance(node, ast.Attribute) and _receiver(node) == "super()":
            above = [] if owner is None else list(self._above(owner))[1:]
            return any(name in self.classes[each].defined for each in above)
        if isinstance(node, ast.Attribute) and _receiver(node) in ("self", "cls"):
            return owner is not None and name in self.families[owner]
        if isinstance(node, ast.Import | ast.ImportFrom):
            return False
        known = set(self.names[module].values())
        return any(name in self.families[each] for each in known & self.classes.keys()) or any(
            name in self.functions(each) for each in known & self.trees.keys()
        )
