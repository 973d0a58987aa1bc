"""CLIP image encoders as TransformerLens models, decomposed exactly into heads, tokens, MLPs and constants."""

from clip_lens_plugin.ablation import mean_ablation_curve
from clip_lens_plugin.bridge import architecture as _architecture
from clip_lens_plugin.bridge.model import as_hooked_clip
from clip_lens_plugin.collection import ContributionStore, collect
from clip_lens_plugin.decomposition.contributions import Contributions
from clip_lens_plugin.decomposition.runs import decompose
from clip_lens_plugin.describe.spans import text_span
from clip_lens_plugin.maps.patch_text import PatchTextMap, patch_text_map
from clip_lens_plugin.model.hooked_clip import HookedCLIP
from clip_lens_plugin.statistics.moments import Moments
from clip_lens_plugin.texts.pool import TextPool
from clip_lens_plugin.zero_shot.classifier import ZeroShotClassifier

_architecture.register()

__all__ = [
    "ContributionStore",
    "Contributions",
    "HookedCLIP",
    "Moments",
    "PatchTextMap",
    "TextPool",
    "ZeroShotClassifier",
    "as_hooked_clip",
    "collect",
    "decompose",
    "mean_ablation_curve",
    "patch_text_map",
    "text_span",
]
