from .attributes import ATTRIBUTES as ATTRIBUTES
from .attributes import Scene as Scene
from .attributes import sample_scenes as sample_scenes
from .captions import caption as caption
from .captions import prompts as prompts
from .dataset import ScenesDataset as ScenesDataset
from .drawing import draw as draw
from .drawing import shape_mask as shape_mask
