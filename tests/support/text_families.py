"""A small text tower of every kind: random weights, real architecture, in open_clip's shape."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import transformers
from jaxtyping import Int
from open_clip.model import CLIP, CustomTextCLIP
from torch import Tensor, nn

from clip_lens_plugin.adapters.transformers_tower import HuggingFaceCLIP
from tests.conftest import VISION_CFG

CONTEXT, VOCABULARY, END = 12, 100, 99
SHAPE = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": 40, "heads": 4, "layers": 3}
CUSTOM = dict.fromkeys(("scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"), True)


def randomised(model: nn.Module) -> nn.Module:
    """The same with biases and norms that are random too, so that none hides as a zero."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
            else:
                parameter.mul_(2.0)
    return model.eval()


def own(kind: type = CustomTextCLIP, **changes: Any) -> nn.Module:
    """A model of open_clip's with a text tower of its own."""
    torch.manual_seed(0)
    return randomised(kind(40, dict(VISION_CFG), {**SHAPE, **changes}))


def hugging_face(name: str, **changes: Any) -> HuggingFaceCLIP:
    """A model of Hugging Face's, in open_clip's shape."""
    sizes = {"hidden_size": 40, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4}
    text = {**sizes, "max_position_embeddings": CONTEXT, "vocab_size": VOCABULARY, "bos_token_id": 98, **changes}
    vision = {**sizes, "image_size": 32, "patch_size": 8}
    vision |= {"num_patches": 16} if name == "Siglip2" else {}
    config = getattr(transformers, f"{name}Config")(text_config=text, vision_config=vision, projection_dim=40)
    torch.manual_seed(0)
    return HuggingFaceCLIP(randomised(getattr(transformers, f"{name}Model")(config)))  # type: ignore[arg-type]


TEXT_FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "OpenAI's": partial(own, CLIP),
    "end of the text": partial(own, pool_type="eos", eos_id=END),
    "SigLIP": partial(own, pool_type="last", no_causal_mask=True, proj_bias=True, act_kwargs={"approximate": "tanh"}),
    "CLIPA": partial(own, pool_type="last", no_causal_mask=True),
    "MobileCLIP": partial(own, no_causal_mask=True),
    "no projection": partial(own, pool_type="last", no_causal_mask=True, proj_type="none"),
    "CoCa": partial(own, embed_cls=True),
    "first": partial(own, pool_type="first", no_causal_mask=True),
    "LayerScale": partial(own, ls_init_value=0.5, qk_norm=True),
    "norms in blocks": partial(own, **CUSTOM),
    "Hugging Face's CLIP": partial(hugging_face, "CLIP", eos_token_id=END),
    "Hugging Face's CLIP, early": partial(hugging_face, "CLIP", eos_token_id=2),
    "Hugging Face's SigLIP": partial(hugging_face, "Siglip", projection_size=40),
    "Hugging Face's SigLIP 2": partial(hugging_face, "Siglip2", projection_size=40),
}
"""Name to a maker of a model with ``encode_text``."""


def some_ids(n: int = 5) -> Int[Tensor, "t n"]:
    """Token ids of texts of several lengths, each with its end and padding."""
    ids = torch.randint(3, 98, (n, CONTEXT), generator=torch.Generator().manual_seed(0))
    for row in range(n):
        end = 3 + 2 * (row % 5)
        ids[row, end], ids[row, end + 1 :] = END, 0
    return ids
