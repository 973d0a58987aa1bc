from .found import ExtremeImages as ExtremeImages
from .found import NearestImages as NearestImages
from .nearest import nearest_images as nearest_images
from .nearest import nearest_to_text as nearest_to_text
from .searching import extreme_images as extreme_images
from .strongest import StrongestNeurons as StrongestNeurons
from .strongest import strongest_neurons as strongest_neurons
