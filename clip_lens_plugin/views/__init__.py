"""Draws what the analyses return; computes nothing."""

from clip_lens_plugin.views.attention import attention_view, class_attention_view
from clip_lens_plugin.views.drawing.view import View, page
from clip_lens_plugin.views.gallery import head_gallery_view, neighbours_view
from clip_lens_plugin.views.patch_text import head_text_view, patch_text_view
from clip_lens_plugin.views.summaries import ablation_view, explained_variance_view, head_view, layer_view
from clip_lens_plugin.views.tables import head_texts_view, samples_view, text_span_view

__all__ = [
    "View",
    "ablation_view",
    "attention_view",
    "class_attention_view",
    "explained_variance_view",
    "head_gallery_view",
    "head_text_view",
    "head_texts_view",
    "head_view",
    "layer_view",
    "neighbours_view",
    "page",
    "patch_text_view",
    "samples_view",
    "text_span_view",
]
