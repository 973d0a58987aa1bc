"""Private names of other libraries: each is there in the installed releases, and reached from one module alone."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import datasets
import open_clip
import pytest

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.datasets.streams import steps
from clip_lens_plugin.dependencies import of_circuitsvis, of_open_clip, of_timm, of_transformer_lens, of_transformers
from tests.adapters.conversion import clip_model, siglip_model
from tests.bridge.conftest import boot
from tests.conftest import random_clip
from tests.families import FAMILIES

PACKAGE = Path(__file__).parent.parent / "clip_lens_plugin"
HERE = sorted(path.stem for path in (PACKAGE / "dependencies").glob("of_*.py"))


def missing(names: Iterable[str]) -> list[str]:
    """Those of the dotted names, as "module:attribute.attribute", that the installed library does not have."""
    return [name for name in names if not _is_there(name)]


def _is_there(name: str) -> bool:
    module, _, path = name.partition(":")
    try:
        found = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.parametrize("module", [name for name in HERE if name != "of_circuitsvis"])
def test_the_installed_library_has_each_name(module: str) -> None:
    names = import_module(f"clip_lens_plugin.dependencies.{module}").NAMES
    assert names
    assert missing(names) == []


def test_a_missing_name_is_found() -> None:
    assert missing(["json:loads", "json:_gone", "json:loads.gone", "no_such_library:x"]) == [
        "json:_gone",
        "json:loads.gone",
        "no_such_library:x",
    ]


def test_circuitsvis_has_its_bundle() -> None:
    assert len(of_circuitsvis.bundle()) > 100_000


def test_a_stream_has_each_name() -> None:
    stream = datasets.Dataset.from_dict({"x": [1, 2]}).to_iterable_dataset()
    assert [name for name in steps.NAMES if not hasattr(stream, name.rpartition(".")[2])] == []
    kinds = {name for name in vars(datasets.iterable_dataset) if name.endswith(("Iterable", "IterableDataset"))}
    assert {*steps.EXACT, *steps.MIXED, *steps.FUNCTIONS, "BufferShuffledExamplesIterable"} <= kinds


def test_a_bridge_has_each_name(tmp_path: Path) -> None:
    bridge = boot(tmp_path / "model", clip_model(random_clip()))
    for name in of_transformer_lens.OF_A_BRIDGE:
        assert hasattr(bridge, name), name
    assert dict(bridge.named_children()).keys() & {of_transformer_lens.STATE_ALONE}
    components = list(bridge.blocks[0].modules())
    assert any(of_transformer_lens.wrapped_by(each) is not None for each in components)


def test_a_renamed_name_names_library_version_and_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(open_clip.factory, "_find_checkpoint_in_dir")
    with pytest.raises(AttributeError, match=r"open_clip_torch \d.*_find_checkpoint_in_dir.*of_open_clip"):
        of_open_clip.checkpoint_in(Path("x"))
    with pytest.raises(AttributeError, match=r"timm \d.*_pos_embed.*of_timm"):
        of_timm.with_positions(object(), None)
    with pytest.raises(AttributeError, match=r"transformers \d.*_attn_implementation.*of_transformers"):
        of_transformers.attention_kernel(object())


GONE: dict[str, tuple[Callable[[], Any], str]] = {
    "open_clip_torch": (lambda: FAMILIES["plain"](), "pool_type"),
    "timm": (lambda: FAMILIES["EVA-02"](), "trunk.rope_mixed"),
    "timm ": (lambda: FAMILIES["registers"](), "trunk.pool_include_prefix"),
    "transformers": (lambda: siglip_model(FAMILIES["SigLIP"]()), "vision_model.use_head"),
    "transformers ": (lambda: siglip_model(FAMILIES["SigLIP"]()), "logit_bias"),
}
"""Library to a model of its, and an attribute of which a tower without it would be read as another one."""


@pytest.mark.parametrize("library", GONE)
def test_a_renamed_attribute_of_a_tower_names_the_adapter(library: str) -> None:
    make, path = GONE[library]
    model = make()
    owner, _, name = path.rpartition(".")
    holder = (model.visual if hasattr(model, "visual") else model).get_submodule(owner)
    delattr(holder, name)
    wrap = HookedCLIP.from_open_clip if hasattr(model, "visual") else HookedCLIP.from_transformers
    said = (
        rf"{library.strip()} \d.* has no {type(holder).__name__}\.{name}, which clip_lens_plugin\.adapters\.\w+ needs"
    )
    with pytest.raises(AttributeError, match=said):
        wrap(model)


PRIVATE = {name.rpartition(".")[2].rpartition(":")[2] for name in (*of_open_clip.NAMES, *of_timm.NAMES)} | {
    *of_transformers.ATTENTION_SETTINGS,
    *(name.rpartition(".")[2] for name in of_transformer_lens.NAMES if "_pos_slice_dim" not in name),
    *of_transformer_lens.OF_A_BRIDGE,
    of_transformer_lens.ORIGINAL,
    of_transformer_lens.STATE_ALONE,
    *(name.rpartition(".")[2] for name in steps.NAMES),
}


def test_no_other_module_reaches_into_them() -> None:
    found = []
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "dependencies" or path == Path(steps.__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "value", None)
            if isinstance(name, str) and name in PRIVATE:
                found.append((path.name, name))
    assert found == []
