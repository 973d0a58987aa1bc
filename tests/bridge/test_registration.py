"""TransformerLens knows our architectures in either order of imports, in fresh interpreters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from clip_lens_plugin.bridge import registration
from tests.adapters.conversion import clip_model
from tests.conftest import random_clip

pytestmark = pytest.mark.slow

BOOT = """
import torch
bridge = TransformerBridge.boot_transformers(sys.argv[1], device="cpu", dtype=torch.float32)
assert bridge(torch.zeros(1, 3, bridge.cfg.vision_config.image_size, bridge.cfg.vision_config.image_size)).ndim == 2
assert not [each for each in sys.meta_path if type(each).__module__.startswith("clip_lens_plugin")]
"""

OURS_FIRST = (
    """
import sys
import clip_lens_plugin
assert "transformer_lens" not in sys.modules
from clip_lens_plugin import HookedCLIP
assert {"transformer_lens", "open_clip"} < set(sys.modules)
late = {"transformer_lens.model_bridge", "transformers.modeling_utils", "matplotlib", "scipy"}
assert late.isdisjoint(sys.modules), late & set(sys.modules)
from transformer_lens.model_bridge import TransformerBridge
assert "clip_lens_plugin.bridge.architecture" not in sys.modules
"""
    + BOOT
    + """
from clip_lens_plugin.model.bridged import resolved
assert isinstance(resolved(bridge), HookedCLIP)
"""
)
ENTRY_POINTS = """
import sys
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.factories.architecture_adapter_factory import ArchitectureAdapterFactory
assert "clip_lens_plugin" not in sys.modules
ArchitectureAdapterFactory.discover_entry_points()
import clip_lens_plugin
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("saved")
    clip_model(random_clip()).save_pretrained(place)
    return place


@pytest.mark.parametrize("code", [OURS_FIRST, ENTRY_POINTS + BOOT], ids=["ours first", "theirs alone first"])
def test_a_model_is_booted_in_either_order(code: str, folder: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_the_adapter_stands_for_its_class() -> None:
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES

    from clip_lens_plugin.bridge.architecture import CLIPBridgeAdapter

    for name in registration.ARCHITECTURES:
        assert SUPPORTED_ARCHITECTURES[name].applicable_phases == CLIPBridgeAdapter.applicable_phases


def test_another_release_without_the_tables_is_said() -> None:
    with pytest.raises(AttributeError, match=r"has no planted\.VISION_ARCHITECTURES.*registration.*transformer_lens"):
        registration._add_vision_models(ModuleType("planted"))
