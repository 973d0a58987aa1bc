"""Where earlier versions had the configuration: pickles that they wrote name this place."""

from clip_lens_plugin.layers.config import HookedCLIPConfig

__all__ = ["HookedCLIPConfig"]
