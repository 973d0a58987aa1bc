"""What the package reaches of other libraries' private names: each is listed, and reached from one module alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch

from clip_lens_plugin.datasets.streams import steps
from clip_lens_plugin.dependencies import of_open_clip, of_timm, of_transformer_lens, of_transformers, of_zarr
from clip_lens_plugin.dependencies.names import overriding
from tests.support.private_names import Source

PACKAGE = Path(__file__).parent.parent / "clip_lens_plugin"

LISTED = {
    name.rpartition(".")[2].rpartition(":")[2]
    for names in (of_open_clip, of_timm, of_transformer_lens, of_transformers, of_zarr, steps)
    for name in names.NAMES
} | {
    *of_transformer_lens.OF_A_BRIDGE,
    of_timm.KERNEL_OF_A_NORM,
    of_transformers.LOADED_FROM,
    of_transformers.LOADED_WEIGHTS,
    *of_transformers.ATTENTION_SETTINGS,
}
"""Private names of the libraries; those that no class has are touched on an object above."""

OF_TORCH = {
    "_C": torch,
    "_apply": torch.nn.Module,
    "_backward_hooks": torch.nn.Linear(1, 1),
    "_backward_pre_hooks": torch.nn.Linear(1, 1),
    "_buffers": torch.nn.Linear(1, 1),
    "_call_impl": torch.nn.Module,
    "_compiled_call_impl": torch.nn.Module,
    "_forward_hooks": torch.nn.Linear(1, 1),
    "_forward_pre_hooks": torch.nn.Linear(1, 1),
    "_functorch": torch._C,
    "_get_default_store": torch.distributed.distributed_c10d,
    "_get_tracing_state": torch._C,
    "_global_forward_hooks": torch.nn.modules.module,
    "_global_forward_pre_hooks": torch.nn.modules.module,
    "_modules": torch.nn.Linear(1, 1),
    "_non_persistent_buffers_set": torch.nn.Linear(1, 1),
    "_parameters": torch.nn.Linear(1, 1),
    "_python_dispatch": torch.utils,
    "_subclasses": torch,
    "_torchdynamo_orig_callable": torch.compile(lambda x: x, backend="eager"),
    "_version": torch.zeros(1),
}
"""Names of PyTorch to what has them: its modules, hooks and tracing offer no public way to see what stands there."""

DOCUMENTED = {"_asdict", "_replace", "_getframe", "_metadata"}
"""Names of Python and pandas that their documentation offers."""

OWN = {"_original", "_labels", "_pixel_range"}
"""Names that the package itself gives an object of another of its modules."""


@pytest.fixture(scope="module")
def source() -> Source:
    paths = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    texts = {name.removesuffix(".__init__"): path.read_text(encoding="utf-8") for name, path in paths.items()}
    return Source(PACKAGE.name, texts)


def test_every_private_name_that_is_reached_is_listed(source: Source) -> None:
    found = list(source.reached())
    # Elsewhere only what belongs to no library above.
    elsewhere = {*OF_TORCH, *DOCUMENTED, *OWN}
    listed = elsewhere | LISTED
    adapters = (f"{PACKAGE.name}.dependencies.", steps.__name__)
    wrong = [each for each in found if each.name not in (listed if each.module.startswith(adapters) else elsewhere)]
    assert [str(each) for each in wrong] == []
    assert {each.name for each in found} >= elsewhere - {"_metadata"}, "A name is listed for nothing."
    assert {"_embeds", "_strip_protocol", "_ex_iterable", "_driver"} <= {each.name for each in found}


def test_torch_has_each_name() -> None:
    assert [name for name, holder in OF_TORCH.items() if not hasattr(holder, name)] == []


def overridden(source: Source) -> Iterator[tuple[str, str]]:
    """Each class with a private name that it puts in place of one of another library's."""
    for name, each, defined in source.of_others():
        bases = getattr(import_module(each.module), each.node.name).__mro__
        others = [base for base in bases if base.__module__.partition(".")[0] != PACKAGE.name]
        theirs = {name for base in others for name in (*vars(base), *vars(base).get("__annotations__", ()))}
        yield from ((name, each) for each in defined & theirs)


def test_every_private_method_that_is_overridden_is_listed(source: Source) -> None:
    found = {name: kind for kind, name in overridden(source)}
    assert found.keys() <= LISTED | {"_apply", *DOCUMENTED}, found
    assert {"_with_store", "_get_many", "_set_many", "_pos_slice_dim", "_setup_qkv_hook_reshaping"} <= found.keys()


def test_a_method_in_place_of_one_that_was_renamed_is_refused() -> None:
    with pytest.raises(
        AttributeError, match=r"zarr \d.* has no dict\._with_store, which tests\.test_reached_names needs"
    ):
        overriding("zarr", "_with_store")(type("Own", (dict,), {"_with_store": None, "__module__": __name__}))
    kind = type("Own", (dict,), {"pop": None})
    assert overriding("zarr", "pop")(kind) is kind


PLANTED = {
    "p.a": "class A:\n    def __init__(self):\n        self._store = 1\n    def f(self, other):\n        other._store",
    "p.b": "import u\nclass B(u.Wrapper):\n    def f(self, other):\n        self._store, other._store, super()._open()",
    "p.c": "from p.a import A\nclass C(A):\n    x: A\n    def f(self):\n        self._store, self.x._store, self._gone",
    "p.d": "from u._inner import f\n'_word', vars(f)['_kept'], getattr(f, '_asked', 0), f.__dict__.get('_held')",
    "p.e": "from p.c import C\nclass E(C):\n    def g(self):\n        super()._store, super()._far",
}


def test_what_reaches_into_a_library_is_found_where_an_own_class_has_the_same_name() -> None:
    found = {(each.module, each.text) for each in Source("p", PLANTED).reached()}
    assert found == {
        ("p.b", "self._store"),
        ("p.b", "other._store"),
        ("p.b", "super()._open"),
        ("p.c", "self._gone"),
        ("p.d", "from u._inner import f"),
        ("p.d", "vars(f)['_kept']"),
        ("p.d", "getattr(f, '_asked', 0)"),
        ("p.d", "f.__dict__.get('_held')"),
        ("p.e", "super()._far"),
    }


UNLIKE_ANY_OTHER = {
    "default_buffer_prototype",
    "generic_activation_patch",
    "DECODERS",
    "decode_example",
    "decoding_pool",
    "ex_iterable",
    "ex_iterables",
    "generate_examples_fn",
    "generate_tables_fn",
}
"""Those of the listed names that begin with no underscore, and are not also words of others."""


def test_no_other_module_reaches_into_them() -> None:
    assert UNLIKE_ANY_OTHER <= LISTED
    found = []
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "dependencies" or path == Path(steps.__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "value", None)
            if isinstance(name, str) and name in UNLIKE_ANY_OTHER:
                found.append((path.name, name))
    assert found == []
