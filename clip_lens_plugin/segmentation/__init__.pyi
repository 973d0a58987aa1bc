from .dataset import MaskedImage as MaskedImage
from .dataset import PartOfMasked as PartOfMasked
from .dataset import SegmentationDataset as SegmentationDataset
from .drawn import DrawnObjects as DrawnObjects
from .imagenet_file import ImageNetSegmentation as ImageNetSegmentation
from .mask_folder import MaskFolder as MaskFolder
