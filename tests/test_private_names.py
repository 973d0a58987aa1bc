"""Private names of other libraries: each is there in the installed releases, and reached from one module alone."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import open_clip
import pytest
import timm
import torch

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.adapters.text.logits import logit_bias_of
from clip_lens_plugin.datasets.streams import steps
from clip_lens_plugin.dependencies import (
    of_circuitsvis,
    of_open_clip,
    of_timm,
    of_transformer_lens,
    of_transformers,
    of_zarr,
)
from clip_lens_plugin.maps.crop_geometry import Placement
from tests.adapters.conversion import clip_model, siglip_model
from tests.bridge.conftest import boot
from tests.conftest import random_clip
from tests.support.families import FAMILIES

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


def generated() -> Iterator[dict[str, int]]:
    yield {"x": 1}


def test_a_stream_has_each_name() -> None:
    table = datasets.Dataset.from_dict({"x": [1, 2]})
    stream, made = table.to_iterable_dataset(), datasets.IterableDataset.from_generator(generated)
    # These are given to an object when it is made: its class has none of them.
    objects = {type(each).__name__: each for each in (table, stream, stream._ex_iterable, made._ex_iterable)}
    assert objects.keys() > steps.READERS.keys()
    for name in steps.NAMES:
        owner, _, last = name.rpartition(":")[2].partition(".")
        assert hasattr(objects[owner], last) if owner in objects else missing([name]) == [], name
    assert {f"{kind}.{reader}" for kind, reader in steps.READERS.items()} < {
        name.rpartition(":")[2] for name in steps.NAMES
    }
    kinds = {name for name in vars(datasets.iterable_dataset) if name.endswith(("Iterable", "IterableDataset"))}
    assert {*steps.EXACT, *steps.MIXED, *steps.FUNCTIONS, "BufferShuffledExamplesIterable"} <= kinds


def test_a_renamed_name_of_a_stream_names_library_version_and_place(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = datasets.Dataset.from_dict({"x": [1, 2]}).to_iterable_dataset()
    said = r"datasets \d.* has no {}, which clip_lens_plugin\.datasets\.streams\.steps needs"
    with monkeypatch.context() as patch:
        patch.delattr(stream._ex_iterable, "generate_tables_fn")
        with pytest.raises(AttributeError, match=said.format(r"ArrowExamplesIterable\.generate_tables_fn")):
            steps.reads_shards(stream)
    with monkeypatch.context() as patch:
        patch.delattr(import_module("datasets.packaged_modules.webdataset.webdataset"), "WebDataset")
        with pytest.raises(AttributeError, match=said.format(r".*WebDataset")):
            steps.reads_shards(stream)
    (held,) = stream._ex_iterable.kwargs["shards"]
    monkeypatch.delattr(held, "_fingerprint")
    with pytest.raises(AttributeError, match=said.format(r"Dataset\._fingerprint")):
        steps.listing(stream)


def test_models_have_what_a_digest_leaves_out() -> None:
    assert hasattr(timm.layers.LayerNorm(4), of_timm.KERNEL_OF_A_NORM)
    model = clip_model(random_clip())
    assert of_transformers.LOADED_FROM in model.config.to_dict()
    assert of_transformers.LOADED_WEIGHTS in vars(model)


def test_a_bridge_has_each_name(tmp_path: Path) -> None:
    bridge = boot(tmp_path / "model", clip_model(random_clip()))
    for name in of_transformer_lens.OF_A_BRIDGE:
        assert hasattr(bridge, name), name
    assert dict(bridge.named_children()).keys() & {of_transformer_lens.STATE_ALONE}
    components = list(bridge.blocks[0].modules())
    assert any(of_transformer_lens.wrapped_by(each) is not None for each in components)


def test_a_renamed_name_names_library_version_and_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(open_clip.transform, "_convert_to_rgb")
    with pytest.raises(AttributeError, match=r"open_clip_torch \d.*_convert_to_rgb.*of_open_clip"):
        Placement.of(lambda picture: picture, (4, 4), (4, 4))
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


@pytest.mark.parametrize("family", ["plain", "custom", "coca"])
def test_a_renamed_logit_bias_is_not_taken_for_none(family: str) -> None:
    model = HookedCLIP.from_open_clip(FAMILIES[family]())
    assert model.logit_bias == 0
    del model.clip.logit_bias
    with pytest.raises(AttributeError, match=r"open_clip_torch \d.* has no \w+\.logit_bias, which .*adapters\.text"):
        _ = model.logit_bias


def test_a_model_of_another_library_may_have_no_logit_bias() -> None:
    assert logit_bias_of(SimpleNamespace(logit_scale=torch.zeros(()))) is None


PUBLIC_ELSEWHERE = {"from_dict", "sync"}
"""Names below ``zarr.core`` that are also those of methods which anybody may call."""

PRIVATE = {
    name.rpartition(".")[2].rpartition(":")[2] for name in (*of_open_clip.NAMES, *of_timm.NAMES, *of_zarr.NAMES)
} - PUBLIC_ELSEWHERE | {
    of_open_clip.CONVERTS_IN_OPENAIS_CLIP,
    of_timm.KERNEL_OF_A_NORM,
    of_transformers.LOADED_FROM,
    of_transformers.LOADED_WEIGHTS,
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
            own = name == "_fingerprint" and ast.unparse(node) == "self._fingerprint"  # Of the package's own classes.
            if isinstance(name, str) and name in PRIVATE and not own:
                found.append((path.name, name))
    assert found == []
