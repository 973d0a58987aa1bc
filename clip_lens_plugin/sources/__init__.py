"""Data sets of every kind as samples at positions, each with a name known before it is read."""

from clip_lens_plugin.sources.choose import as_source
from clip_lens_plugin.sources.folder import FolderSource
from clip_lens_plugin.sources.hugging_face import HuggingFaceSource
from clip_lens_plugin.sources.hugging_face_stream import HuggingFaceStream
from clip_lens_plugin.sources.shards import ShardSource
from clip_lens_plugin.sources.source import ImageSource, Sample
from clip_lens_plugin.sources.stream import StreamSource
from clip_lens_plugin.sources.torch_dataset import TorchSource

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
