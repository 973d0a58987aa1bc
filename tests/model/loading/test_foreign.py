"""A model's folder brings weights and settings: code of its own is refused by name, not run, and nothing is asked."""

from __future__ import annotations

import builtins
import io
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPImageProcessor, CLIPTokenizer

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.model.loading import LoadingWarning, ModelNotFoundError
from tests.adapters.conversion import clip_model, letters_tokenizer
from tests.conftest import TEXT_CFG, random_clip, random_images
from tests.model.loading.test_by_name import CONFIG, write_model

pytestmark = pytest.mark.slow

PROGRAM = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
Path({marker!r}).touch()
class Anything:
    def __init__(self, *a, **k): pass
    @classmethod
    def from_pretrained(cls, *a, **k): return cls()
    @classmethod
    def register_for_auto_class(cls, *a): pass
Tokenizer = Processor = Config = Model = Anything
"""
OWN = {"AutoConfig": "own.Config", "AutoModel": "own.Model", "AutoTokenizer": ["own.Tokenizer", None]}
OWN |= {"AutoImageProcessor": "own.Processor", "AutoProcessor": "own.Processor"}


class NobodyThere(io.StringIO):
    """Standard input that fails a test which reads it."""

    def read(self, *_: Any) -> str:
        raise AssertionError("a question was asked")

    readline = read


@pytest.fixture(autouse=True)
def watched(monkeypatch, tmp_path) -> Any:
    """Fails a test in which a program of the folder ran, or a question was asked."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty-cache"))
    monkeypatch.setattr(sys, "stdin", NobodyThere())
    asked: list[str] = []

    def ask(question: str = "") -> str:
        asked.append(question)
        return "y"

    monkeypatch.setattr(builtins, "input", ask)
    yield
    assert asked == []
    assert not [*tmp_path.rglob("ran")]


def add_program(folder: Path) -> None:
    (folder / "own.py").write_text(PROGRAM.format(marker=str(folder / "ran")), encoding="utf-8")


def change(folder: Path, file: str, **values: Any) -> None:
    """Sets entries of a JSON file, made where there is none."""
    path = folder / file
    held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(held | values), encoding="utf-8")


@pytest.fixture(scope="module")
def letters(tmp_path_factory) -> CLIPTokenizer:
    return letters_tokenizer(tmp_path_factory.mktemp("letters") / "made")


@pytest.fixture
def open_clip_folder(tmp_path, letters) -> Callable[..., str]:
    """Writes a model with changes to its config; returns its name."""

    def write(text: dict | None = None, vision: dict | None = None, **changes: Any) -> str:
        config = {**CONFIG, **changes}
        config["text_cfg"] = {**TEXT_CFG, **(text or {})}
        config["vision_cfg"] = {**CONFIG["vision_cfg"], **(vision or {})}
        name = write_model(tmp_path / "model", random_clip(), config)
        letters.save_pretrained(tmp_path / "model")
        add_program(tmp_path / "model")
        return name

    return write


@pytest.fixture
def transformers_folder(tmp_path, letters) -> Path:
    folder = tmp_path / "theirs"
    clip_model(random_clip()).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    letters.save_pretrained(folder)
    add_program(folder)
    return folder


def refused_for_texts(name: str, **options: Any) -> str:
    """Images work, texts are refused: the message."""
    model = HookedCLIP.from_pretrained(name, device="cpu", **options)
    assert model(random_images(model)).isfinite().all()
    with pytest.raises(ModelNotFoundError) as caught:
        model.encode_text("ab")
    return str(caught.value)


# ---------------------------------------------------------------------- open_clip's folders


@pytest.mark.parametrize("kind", ["", "letters"])
def test_tokenizer_settings_that_ask_for_code(kind, open_clip_folder, tmp_path) -> None:
    name = open_clip_folder({"hf_tokenizer_name": kind, "tokenizer_kwargs": {"trust_remote_code": True}})
    change(tmp_path / "model", "tokenizer_config.json", auto_map=OWN, tokenizer_class="Tokenizer")
    message = refused_for_texts(name)
    assert "(trust_remote_code), which is never done" in message
    assert "tokenizer=" in message


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"auto_map": OWN}, "(auto_map)"),
        ({"auto_map": OWN, "tokenizer_class": "Tokenizer"}, "(auto_map)"),
        ({"tokenizer_class": "Tokenizer"}, "class of its own, 'Tokenizer'"),
        ({"tokenizer_class": "Trainer"}, "class of its own, 'Trainer'"),
        ({"tokenizer_file": "../elsewhere/tokenizer.json"}, "not a file beside it"),
    ],
)
def test_a_tokenizer_of_its_own(values, named, open_clip_folder, transformers_folder, tmp_path) -> None:
    change(transformers_folder, "tokenizer_config.json", **values)
    assert named in refused_for_texts(f"transformers:{transformers_folder}")
    with pytest.raises(ModelNotFoundError, match="tokenizer"):
        HookedCLIP.from_pretrained(
            f"transformers:{transformers_folder}", device="cpu", tokenizer=transformers_folder
        ).encode_text("ab")
    name = open_clip_folder({"hf_tokenizer_name": "letters"})
    change(tmp_path / "model", "tokenizer_config.json", **values)
    assert named in refused_for_texts(name)
    assert named in refused_for_texts(name, tokenizer=tmp_path / "model")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ({"hf_tokenizer_name": "x", "tokenizer_kwargs": {"cache_dir": "/"}}, "'cache_dir'"),
        ({"hf_tokenizer_name": "x", "tokenizer_kwargs": {"subfolder": ".."}}, "'subfolder'"),
        ({"tokenizer_kwargs": {"bpe_path": "/etc/passwd"}}, "'bpe_path'"),
        ({"tokenizer_kwargs": ["x"]}, "nothing that can be read"),
        ({"hf_tokenizer_name": ["x"]}, "nothing that can be read"),
    ],
)
def test_tokenizer_settings_that_are_not_known(text, named, open_clip_folder) -> None:
    assert named in refused_for_texts(open_clip_folder(text))


def test_a_tokenizer_elsewhere_is_not_read(open_clip_folder, letters, tmp_path) -> None:
    letters.save_pretrained(tmp_path / "elsewhere")
    name = open_clip_folder({"hf_tokenizer_name": str(tmp_path / "elsewhere")})
    model = HookedCLIP.from_pretrained(name, device="cpu")
    assert model.encode_text("ab").isfinite().all()  # By the folder's own.
    for file in ("tokenizer_config.json", "tokenizer.json"):
        (tmp_path / "model" / file).unlink()
    message = refused_for_texts(name)
    assert f"{tmp_path / 'elsewhere'} by its config" in message
    assert "holds none" in message


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"text": {"hf_model_name": "HERE/model"}}, "no name of the hub"),
        ({"text": {"hf_model_name": "../model"}}, "no name of the hub"),
        ({"text": {"hf_model_name": "~/model"}}, "no name of the hub"),
        ({"text": {"hf_model_name": 5}}, "no name of the hub"),
        ({"text": {"hf_model_name": "model"}}, "(auto_map)"),
        ({"text": {"auto_map": OWN}}, "(auto_map)"),
        ({"auto_map": OWN}, "(auto_map)"),
        ({"custom_pipeline": "own"}, "(custom_pipeline)"),
        ({"trust_remote_code": True}, "(trust_remote_code)"),
        ({"vision": {"timm_model_name": "hf-hub:owner/evil"}}, "asks timm for"),
        ({"vision": {"timm_model_name": "local-dir:HERE/model"}}, "asks timm for"),
        ({"vision": {"timm_model_name": ["vit"]}}, "asks timm for"),
    ],
)
def test_a_config_that_leads_elsewhere(changes, named, open_clip_folder, tmp_path, monkeypatch) -> None:
    changes = json.loads(json.dumps(changes).replace("HERE", str(tmp_path)))
    name = open_clip_folder(**changes)
    change(tmp_path / "model", "config.json", model_type="own", auto_map=OWN)
    monkeypatch.chdir(tmp_path)  # Where "model" is a folder, which transformers takes before the hub's.
    with pytest.raises(ModelNotFoundError) as caught:
        HookedCLIP.from_pretrained(name, device="cpu")
    assert named in str(caught.value)


def test_weights_that_run_something(open_clip_folder, tmp_path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "ran",)

    for suffix in (".bin", ".pth"):
        name = open_clip_folder()
        (tmp_path / "model" / "open_clip_model.safetensors").unlink()
        file = tmp_path / "model" / f"open_clip_pytorch_model{suffix}"
        torch.save({"visual": Evil(), **random_clip().state_dict()}, file)
        with pytest.raises(ModelNotFoundError, match="only weights are read"):
            HookedCLIP.from_pretrained(name, device="cpu")
        file.unlink()


# ---------------------------------------------------------------------- Hugging Face's folders


@pytest.mark.parametrize(
    ("file", "values", "named"),
    [
        ("config.json", {"auto_map": OWN}, "(auto_map)"),
        ("config.json", {"auto_map": OWN, "model_type": "own"}, "(auto_map)"),
        ("config.json", {"custom_pipelines": {"x": {"impl": "own.Model"}}}, "(custom_pipelines)"),
        ("config.json", {"text_config": {"auto_map": OWN}}, "(auto_map)"),
        ("config.json", {"_attn_implementation": "owner/kernel"}, "(_attn_implementation)"),
        ("config.json", {"architectures": "CLIPModel"}, "no class"),
        ("preprocessor_config.json", {"auto_map": OWN}, "(auto_map)"),
        ("preprocessor_config.json", {"image_processor_type": "Processor"}, "class of its own, 'Processor'"),
        ("preprocessor_config.json", {"resample": "own"}, "could not be read|cannot be read"),
        ("processor_config.json", {"image_processor": {"auto_map": OWN}}, "(auto_map)"),
        ("model.safetensors.index.json", {"weight_map": {"a": "../elsewhere.safetensors"}}, "not a file beside it"),
        ("model.safetensors.index.json", {"weight_map": {"a": "/elsewhere.safetensors"}}, "not a file beside it"),
    ],
)
def test_a_hugging_face_folder_with_code(file, values, named, transformers_folder) -> None:
    change(transformers_folder, file, **values)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (of two kinds; the message is checked)
        HookedCLIP.from_pretrained(f"transformers:{transformers_folder}", device="cpu")
    assert any(each in str(caught.value) for each in named.split("|"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("held", [b"[" * 100_000, b"\xff\xfe{", b"[]", b"{", b""])
def test_settings_that_are_none(file, held, transformers_folder) -> None:
    (transformers_folder / file).write_bytes(held)
    with pytest.raises(ModelNotFoundError):
        HookedCLIP.from_pretrained(f"transformers:{transformers_folder}", device="cpu").encode_text("ab")


@pytest.mark.parametrize("held", [b"[" * 100_000, b'{"model_cfg":' * 50_000, b"\xff\xfe{", b"[]", b"{", b""])
def test_a_config_that_is_none(held, open_clip_folder, tmp_path) -> None:
    name = open_clip_folder()
    (tmp_path / "model" / "open_clip_config.json").write_bytes(held)
    with pytest.raises(ModelNotFoundError) as caught:
        HookedCLIP.from_pretrained(name, device="cpu")
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------- links, and what is well


def test_links_that_lead_out_are_said(open_clip_folder, tmp_path) -> None:
    folder, name = tmp_path / "model", open_clip_folder()
    (folder / "open_clip_model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    (folder / "open_clip_model.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.warns(LoadingWarning, match="lead out of it, which were followed: open_clip_model.safetensors"):
        HookedCLIP.from_pretrained(name, device="cpu")
    # As the hub's cache keeps a model, whose links lie inside it.
    hub = tmp_path / "models--owner--mine"
    (hub / "blobs").mkdir(parents=True)
    (hub / "snapshots").mkdir()
    (folder / "open_clip_model.safetensors").unlink()
    (tmp_path / "elsewhere.safetensors").rename(hub / "blobs" / "abc")
    folder.rename(hub / "snapshots" / "123")
    (hub / "snapshots" / "123" / "open_clip_model.safetensors").symlink_to(Path("..", "..", "blobs", "abc"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        HookedCLIP.from_pretrained(f"local-dir:{hub / 'snapshots' / '123'}", device="cpu")


def test_links_of_a_hugging_face_folder_are_said(transformers_folder, tmp_path) -> None:
    (transformers_folder / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    (transformers_folder / "model.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.warns(LoadingWarning, match=r"model.safetensors \(to .*elsewhere.safetensors\)"):
        HookedCLIP.from_pretrained(f"transformers:{transformers_folder}", device="cpu")


def test_code_that_nothing_asks_for_is_not_in_the_way(open_clip_folder, transformers_folder) -> None:
    model = HookedCLIP.from_pretrained(f"transformers:{transformers_folder}", device="cpu")
    assert model.encode_text("ab").isfinite().all()
    text = {"hf_tokenizer_name": "letters", "tokenizer_kwargs": {"clean": "lower", "trust_remote_code": False}}
    model = HookedCLIP.from_pretrained(open_clip_folder(text), device="cpu")
    assert model.encode_text("ab").isfinite().all()
