from .masked.dataset import MaskedImage as MaskedImage
from .masked.dataset import PartOfMasked as PartOfMasked
from .masked.dataset import SegmentationDataset as SegmentationDataset
from .masked.drawn import DrawnObjects as DrawnObjects
from .masked.imagenet_file import ImageNetSegmentation as ImageNetSegmentation
from .masked.mask_folder import MaskFolder as MaskFolder
