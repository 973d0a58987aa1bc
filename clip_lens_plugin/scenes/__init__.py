"""The embedded model's world: drawn scenes whose attributes are known."""

from clip_lens_plugin.scenes.attributes import ATTRIBUTES, Scene, sample_scenes
from clip_lens_plugin.scenes.captions import caption, prompts
from clip_lens_plugin.scenes.dataset import ScenesDataset
from clip_lens_plugin.scenes.drawing import draw, shape_mask

__all__ = ["ATTRIBUTES", "Scene", "ScenesDataset", "caption", "draw", "prompts", "sample_scenes", "shape_mask"]
