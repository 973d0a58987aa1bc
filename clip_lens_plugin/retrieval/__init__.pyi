from .found import ExtremeImages as ExtremeImages
from .found import NearestImages as NearestImages
from .searching import extreme_images as extreme_images
from .searching import nearest_images as nearest_images
from .strongest import StrongestNeurons as StrongestNeurons
from .strongest import strongest_neurons as strongest_neurons
