"""Data sets of every kind as samples at positions, each with a name known before it is read."""

from clip_lens_plugin.datasets.choose import as_source
from clip_lens_plugin.datasets.folder import FolderSource
from clip_lens_plugin.datasets.hub_dataset import HuggingFaceSource
from clip_lens_plugin.datasets.shards import ShardSource
from clip_lens_plugin.datasets.source import ImageSource, Sample
from clip_lens_plugin.datasets.streams.hub_stream import HuggingFaceStream
from clip_lens_plugin.datasets.streams.stream import StreamSource
from clip_lens_plugin.datasets.torch_dataset import TorchSource

__all__ = [
    "FolderSource",
    "HuggingFaceSource",
    "HuggingFaceStream",
    "ImageSource",
    "Sample",
    "ShardSource",
    "StreamSource",
    "TorchSource",
    "as_source",
]
