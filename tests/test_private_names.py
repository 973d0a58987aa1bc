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
from datasets.distributed import split_dataset_by_node

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.adapters.text.logits import logit_bias_of
from clip_lens_plugin.datasets.streams import steps
from clip_lens_plugin.dependencies import (
    of_circuitsvis,
    of_open_clip,
    of_timm,
    of_transformer_lens,
    of_transformers,
)
from clip_lens_plugin.labelling import columns
from clip_lens_plugin.maps.crop_geometry import Placement
from tests.adapters.conversion import clip_model, siglip_model
from tests.bridge.conftest import boot
from tests.conftest import random_clip
from tests.support.families import FAMILIES

HERE = sorted(path.stem for path in Path(of_timm.__file__).parent.glob("of_*.py"))


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


def streams() -> dict[str, Any]:
    """Streams that have every step which is known."""
    plain = datasets.Dataset.from_dict({"x": [1, 2]}).to_iterable_dataset()
    return {
        "generated": datasets.IterableDataset.from_generator(generated),
        "cut": plain.skip(1).take(1).repeat(2).select_columns("x"),
        "filtered": plain.filter(bool),
        "mapped": plain.with_format("arrow").map(plain_function),
        "joined": datasets.concatenate_datasets([plain, plain]),
        "mixed": datasets.interleave_datasets([plain, plain]),
        "mixed by chance": datasets.interleave_datasets([plain, plain], probabilities=[0.5, 0.5], seed=0),
        "shuffled": plain.shuffle(buffer_size=2),
        "every second": plain._step(2, 1),
        "part": split_dataset_by_node(plain, 0, 2),
    }


def plain_function(row: Any) -> Any:
    return row


def test_a_stream_has_each_name() -> None:
    # Most are given to an object when it is made: its class has none of them.
    table, found = datasets.Dataset.from_dict({"x": [1, 2]}), streams()
    made = [table, *found.values(), found["part"]._distributed]
    for stream in found.values():
        reached = list(steps.steps(stream))
        made += [*reached, *(step.formatting for step in reached if getattr(step, "formatting", None) is not None)]
    objects = {type(each).__name__: each for each in made}
    assert steps.ATTRIBUTES.keys() <= objects.keys()
    for name in steps.NAMES:
        owner, _, last = name.rpartition(":")[2].partition(".")
        assert hasattr(objects[owner], last) if owner in objects else missing([name]) == [], name
    assert {*steps.EXACT, *steps.MIXED, steps.SHUFFLED} <= steps.ATTRIBUTES.keys()


def test_every_name_that_the_steps_ask_for_is_listed() -> None:
    listed = {name.rpartition(".")[2].rpartition(":")[2] for name in steps.NAMES}
    calls = [
        node for node in ast.walk(ast.parse(Path(steps.__file__).read_text("utf-8"))) if isinstance(node, ast.Call)
    ]
    asked = [call.args[1] for call in calls if ast.unparse(call.func) == "_of"]
    names = {each.value for each in asked if isinstance(each, ast.Constant)}
    assert {ast.unparse(each) for each in asked if not isinstance(each, ast.Constant)} == {"name"}  # One of READERS.
    assert len(names) > 15
    # No test need look for a public class of a public module.
    assert names - {"WebDataset"} <= listed


@pytest.mark.parametrize("name", ["formatting", "decoding_pool"])
def test_a_renamed_attribute_of_a_step_is_not_taken_for_a_harmless_step(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = streams()["mapped"]
    with pytest.raises(ValueError, match="map\\(\\) of tables"):
        steps.refuse_inexact(stream)
    for step in steps.steps(stream):
        if name == "decoding_pool" and getattr(step, "formatting", None) is not None:
            monkeypatch.setattr(step, "formatting", None)
        if hasattr(step, name):
            monkeypatch.delattr(step, name)
    with pytest.raises(AttributeError, match=rf"datasets \d.* has no MappedExamplesIterable\.{name}, which"):
        steps.refuse_inexact(stream)


@pytest.mark.parametrize("name", ["kwargs", "function", "fn_kwargs", "ex_iterable"])
def test_a_renamed_attribute_of_a_step_loses_nothing_of_what_is_read(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = streams()["mapped"]
    assert any(name.startswith("Dataset ") for name, _ in steps.listing(stream))
    for step in list(steps.steps(stream)):
        if hasattr(step, name):
            monkeypatch.delattr(step, name)
    with pytest.raises(AttributeError, match=rf"datasets \d.* has no \w+\.{name}, which .*streams\.steps needs"):
        steps.listing(stream)


def test_a_renamed_switch_of_decoding_is_not_taken_for_off(monkeypatch: pytest.MonkeyPatch) -> None:
    features = datasets.Features({"picture": datasets.Image()})
    stream = datasets.Dataset.from_dict({"picture": [None]}, features=features).to_iterable_dataset().filter(bool)
    with pytest.raises(ValueError, match="decodes the column 'picture'"):
        steps.refuse_inexact(stream)
    with monkeypatch.context() as patch:
        patch.delattr(datasets.Image, "decode_example")
        with pytest.raises(AttributeError, match=r"datasets \d.* has no Image\.decode_example"):
            steps.refuse_inexact(stream)
    (held,) = (step.features["picture"] for step in steps.steps(stream) if type(step).__name__ == steps.FORMATTED)
    monkeypatch.delattr(datasets.Image, "decode")
    monkeypatch.delattr(held, "decode")
    with pytest.raises(AttributeError, match=r"datasets \d.* has no Image\.decode"):
        steps.refuse_inexact(stream)


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
    wrapped = [each._modules.get(of_transformer_lens.ORIGINAL) for each in components]
    assert any(each is not None for each in wrapped)
    assert [of_transformer_lens.wrapped_by(each) for each in components] == wrapped


def test_a_renamed_name_names_library_version_and_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(open_clip.transform, "_convert_to_rgb")
    with pytest.raises(AttributeError, match=r"open_clip_torch \d.*_convert_to_rgb.*of_open_clip"):
        Placement.of(lambda picture: picture, (4, 4), (4, 4))
    monkeypatch.delattr(open_clip.factory, "_find_checkpoint_in_dir")
    with pytest.raises(AttributeError, match=r"open_clip_torch \d.*_find_checkpoint_in_dir.*of_open_clip"):
        of_open_clip.checkpoint_in(Path("x"))
    with pytest.raises(AttributeError, match=r"open_clip_torch \d.*_embeds.*of_open_clip"):
        of_open_clip.embedded_text(object(), torch.zeros(1))
    with pytest.raises(AttributeError, match=r"timm \d.*_pos_embed.*of_timm"):
        of_timm.with_positions(object(), None)
    with pytest.raises(AttributeError, match=r"transformers \d.*_attn_implementation.*of_transformers"):
        of_transformers.attention_kernel(object())


GONE: dict[str, tuple[Callable[[], Any], str]] = {
    "open_clip_torch": (lambda: FAMILIES["plain"](), "pool_type"),
    "timm": (lambda: FAMILIES["EVA-02"](), "trunk.rope_mixed"),
    "timm ": (lambda: FAMILIES["registers"](), "trunk.pool_include_prefix"),
    "timm  ": (lambda: FAMILIES["registers"](), "trunk.blocks.0.attn.gate"),
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


def test_a_renamed_logit_scale_is_not_taken_for_an_image_tower_alone() -> None:
    model = HookedCLIP.from_open_clip(FAMILIES["plain"]())
    del model.clip.logit_scale
    with pytest.raises(AttributeError, match=r"open_clip_torch \d.* has no \w+\.logit_scale, which .*adapters\.text"):
        _ = model.logit_scale


def test_a_renamed_part_of_a_column_is_not_taken_for_no_label(monkeypatch: pytest.MonkeyPatch) -> None:
    features = {"label": datasets.ClassLabel(names=["a", "b"]), "name": datasets.Value("string")}
    assert (columns.is_integer(features["label"]), columns.is_name(features["name"])) == (True, True)
    del features["label"].names, features["name"].dtype
    monkeypatch.delattr(datasets.ClassLabel, "names")
    with pytest.raises(AttributeError, match=r"datasets \d.* has no ClassLabel\.names, which .*columns needs"):
        columns.label_column({"label": features["label"]})
    with pytest.raises(AttributeError, match=r"datasets \d.* has no Value\.dtype, which .*columns needs"):
        columns.is_name(features["name"])


def test_a_model_of_another_library_may_have_no_logit_bias() -> None:
    assert logit_bias_of(SimpleNamespace(logit_scale=torch.zeros(()))) is None
