"""CLIP image encoders as TransformerLens models, decomposed exactly into heads, tokens, MLPs and constants."""

from clip_lens_plugin.contributions import Contributions
from clip_lens_plugin.decomposition import decompose
from clip_lens_plugin.hooked_clip import HookedCLIP

__all__ = ["Contributions", "HookedCLIP", "decompose"]
