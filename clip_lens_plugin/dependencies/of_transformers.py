"""transformers' private names."""

from __future__ import annotations

from typing import Any

from clip_lens_plugin.dependencies.names import attribute

NAMES = ("transformers:PretrainedConfig._attn_implementation",)

KERNEL_SETTING = "_attn_implementation_internal"
"""Where a config holds :func:`attention_kernel`."""

ATTENTION_SETTINGS = ("_attn_implementation", KERNEL_SETTING)

LOADED_FROM = "_name_or_path"
"""Where a config holds the name or folder of its model."""

HOOKED_BY_ACCELERATE = "_hf_hook"
"""Where a module holds the hook of Accelerate's, which need not be installed, that moves its tensors."""

LOADED_WEIGHTS = "_is_hf_initialized"
"""Where a model's modules hold that their weights are set."""


def attention_kernel(config: Any) -> str:
    """How a model's attention is computed: "sdpa", "eager" and others."""
    return attribute(config, "_attn_implementation", "transformers", __name__)


def set_attention_kernel(config: Any, kernel: str) -> None:
    """Sets it, before a model is made of the config."""
    attention_kernel(config)
    config._attn_implementation = kernel
