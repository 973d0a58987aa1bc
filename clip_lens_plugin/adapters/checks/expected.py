"""What the modules of a source tower consist of: the classes whose forward the wrapper knows, and their children."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import open_clip.transformer as oc
from open_clip.timm_model import TimmModel
from timm.layers import attention as timm_attention
from timm.layers import mlp as timm_mlp
from timm.layers import norm as timm_norm
from timm.layers.attention_pool import AttentionPoolLatent
from timm.layers.drop import DropPath
from timm.layers.layer_scale import LayerScale as TimmLayerScale
from timm.layers.patch_dropout import PatchDropout, PatchDropoutWithIndices
from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block as TimmBlock
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from clip_lens_plugin.after_import import after_import


@dataclass(frozen=True)
class Kind:
    """Which classes may stand in a place, exactly: a subclass may compute something else.

    Attributes:
        name: in words.
        classes: the classes.
        as_it_is: the wrapper runs the module itself, whatever it and its children are.
        holds: places of a container's children by name, in their order; those that are not there are left out.
        each: the kind of every child of a container whose children's names say nothing.
    """

    name: str
    classes: tuple[type[nn.Module], ...] = ()
    as_it_is: bool = False
    holds: tuple[tuple[str, Kind], ...] = ()
    each: Kind | None = None


def _holding(name: str, *classes: type[nn.Module], **holds: Kind) -> Kind:
    return Kind(name, classes, holds=tuple(holds.items()))


def _list_of(name: str, *classes: type[nn.Module]) -> Kind:
    return Kind(f"a list of {name}s", (nn.ModuleList, nn.Sequential), each=Kind(f"a {name}", classes))


IDENTITY = (nn.Identity,)
LINEAR = Kind("a plain linear layer", (nn.Linear, NonDynamicallyQuantizableLinear))
NORMS = (nn.LayerNorm, oc.LayerNorm, oc.LayerNormFp32, timm_norm.LayerNorm, timm_norm.LayerNormFp32)
NORM = Kind("a LayerNorm", NORMS + IDENTITY)
STREAM_NORM = Kind("a LayerNorm", NORMS)
SCALE = Kind("a LayerScale", (oc.LayerScale, TimmLayerScale, *IDENTITY))
DROP = Kind("a dropout", (nn.Dropout, DropPath, oc.PatchDropout, PatchDropout, PatchDropoutWithIndices, *IDENTITY))
MULTI_HEAD = Kind("torch's multi-head attention", (nn.MultiheadAttention,))
TIMM_MLP = Kind("an MLP of timm", (timm_mlp.Mlp, timm_mlp.GluMlp, timm_mlp.SwiGLU))
TIMM_ATTENTION = Kind("attention of timm", (timm_attention.Attention, timm_attention.AttentionRope, EvaAttention))
EMBEDDING = Kind("an embedding", (nn.Embedding,))
RUN = Kind("a module that is run as it is", as_it_is=True)

_OC_BLOCK = {"ln_1": STREAM_NORM, "ls_1": SCALE, "ln_2": STREAM_NORM, "ls_2": SCALE}
_OC_MLP = _holding("open_clip's MLP", nn.Sequential, c_fc=LINEAR, gelu=RUN, ln=NORM, c_proj=LINEAR)
_OC_TEXT = {
    "token_embedding": EMBEDDING,
    "transformer": Kind("open_clip's transformer", (oc.Transformer,)),
    "ln_final": STREAM_NORM,
    "text_projection": LINEAR,
}
_TIMM_BLOCK = {
    **dict.fromkeys(("norm1", "norm2"), STREAM_NORM),
    **dict.fromkeys(("ls1", "ls2"), SCALE),
    **dict.fromkeys(("drop_path1", "drop_path2"), DROP),
    **{"attn": TIMM_ATTENTION, "mlp": TIMM_MLP},
}
_TIMM_ATTENTION = {
    **dict.fromkeys(("qkv", "q_proj", "k_proj", "v_proj", "proj"), LINEAR),
    **dict.fromkeys(("q_norm", "k_norm", "norm"), NORM),
    **dict.fromkeys(("attn_drop", "proj_drop"), DROP),
}
_TIMM_MLP = {
    **dict.fromkeys(("fc1", "fc1_g", "fc1_x", "fc2"), LINEAR),
    **{"act": RUN, "norm": NORM, "drop1": DROP, "drop2": DROP},
}
_TIMM_TRUNK = {
    **{"patch_embed": RUN, "rope": RUN},
    **dict.fromkeys(("norm_pre", "norm", "fc_norm"), NORM),
    **dict.fromkeys(("pos_drop", "patch_drop", "head_drop"), DROP),
    "blocks": _list_of("block of timm", TimmBlock, EvaBlock, EvaBlockPostNorm),
    "attn_pool": Kind("timm's attention pool", (AttentionPoolLatent,)),
    "head": Kind("a plain linear layer", (*LINEAR.classes, *IDENTITY)),
}


def _transformers(family: Any, prefix: str) -> dict[type[nn.Module], dict[str, Kind]]:
    """Hugging Face's classes of one family; they differ in their names alone."""

    def named(suffix: str) -> tuple[type[nn.Module], ...]:
        # CLIP has no pooling head. This runs inside transformers' own import, which a class that was renamed must not
        # break: a model that has it is refused, by its name.
        found = getattr(family, prefix + suffix, None)
        return () if found is None else (found,)

    mlp, attention = Kind("its MLP", named("MLP")), Kind("its attention", named("Attention"))
    layers = _list_of("layer of its encoder", *named("EncoderLayer"))
    pool = named("MultiheadAttentionPoolingHead")
    vision = {
        "embeddings": Kind("its embeddings", named("VisionEmbeddings")),
        "pre_layrnorm": NORM,
        "encoder": Kind("its encoder", named("Encoder")),
        "post_layernorm": STREAM_NORM,
        "head": Kind("its pooling head", pool),
    }
    text = {
        "embeddings": Kind("its embeddings", named("TextEmbeddings")),
        "encoder": Kind("its encoder", named("Encoder")),
        "final_layer_norm": STREAM_NORM,
        "head": LINEAR,
    }
    embeddings = {
        "patch_embedding": Kind("a convolution or linear layer", (nn.Conv2d, nn.Linear)),
        "position_embedding": EMBEDDING,
    }
    parts = {
        "VisionModel": vision,
        "VisionEmbeddings": embeddings,
        "TextModel": text,
        "TextEmbeddings": dict.fromkeys(("token_embedding", "position_embedding"), EMBEDDING),
        "Encoder": {"layers": layers},
        "EncoderLayer": {"layer_norm1": STREAM_NORM, "self_attn": attention, "layer_norm2": STREAM_NORM, "mlp": mlp},
        "Attention": dict.fromkeys(("q_proj", "k_proj", "v_proj", "out_proj"), LINEAR),
        "MLP": {"activation_fn": RUN, "fc1": LINEAR, "fc2": LINEAR},
        "MultiheadAttentionPoolingHead": {"attention": MULTI_HEAD, "layernorm": STREAM_NORM, "mlp": mlp},
    }
    return {each: children for suffix, children in parts.items() for each in named(suffix)}


CHILDREN: dict[type[nn.Module], dict[str, Kind]] = {
    oc.VisionTransformer: {
        "conv1": Kind("a convolution", (nn.Conv2d,)),
        "patch_dropout": DROP,
        "ln_pre": NORM,
        "transformer": Kind("open_clip's transformer", (oc.Transformer,)),
        "attn_pool": Kind("open_clip's attention pool", (oc.AttentionalPooler,)),
        "ln_post": NORM,
    },
    oc.TextTransformer: _OC_TEXT,
    oc.Transformer: {
        "resblocks": _list_of("block of open_clip", oc.ResidualAttentionBlock, oc.CustomResidualAttentionBlock)
    },
    oc.ResidualAttentionBlock: {**_OC_BLOCK, "attn": MULTI_HEAD, "mlp": _OC_MLP},
    oc.CustomResidualAttentionBlock: {
        **_OC_BLOCK,
        "attn": Kind("open_clip's own attention", (oc.Attention,)),
        "ln_attn": NORM,
        "mlp": _OC_MLP,
    },
    oc.Attention: {
        **dict.fromkeys(("ln_q", "ln_k", "ln_inner"), NORM),
        **{"attn_drop": DROP, "out_proj": LINEAR, "out_drop": DROP},
    },
    oc.AttentionalPooler: {"attn": MULTI_HEAD, "ln_q": NORM, "ln_k": NORM},
    nn.MultiheadAttention: {"out_proj": LINEAR},
    TimmModel: {
        "trunk": Kind("a trunk of timm", (TimmVisionTransformer, Eva)),
        "head": Kind(
            "a head", (nn.Sequential,), each=Kind("a linear layer", (*LINEAR.classes, *DROP.classes, timm_mlp.Mlp))
        ),
    },
    TimmVisionTransformer: _TIMM_TRUNK,
    Eva: _TIMM_TRUNK,
    TimmBlock: _TIMM_BLOCK,
    EvaBlock: _TIMM_BLOCK,
    EvaBlockPostNorm: _TIMM_BLOCK,
    timm_attention.Attention: _TIMM_ATTENTION,
    timm_attention.AttentionRope: _TIMM_ATTENTION,
    EvaAttention: _TIMM_ATTENTION,
    timm_mlp.Mlp: _TIMM_MLP,
    timm_mlp.GluMlp: _TIMM_MLP,
    timm_mlp.SwiGLU: _TIMM_MLP,
    AttentionPoolLatent: {
        **dict.fromkeys(("q", "kv", "proj"), LINEAR),
        **dict.fromkeys(("q_norm", "k_norm", "norm"), NORM),
        **{"proj_drop": DROP, "mlp": TIMM_MLP},
    },
}
"""Class to its children by name. What is not here has none: linear layers, norms, dropouts.

Hugging Face's are added when they are loaded: importing them takes as long as importing torch.
"""

FAMILIES = {
    "transformers.models.clip.modeling_clip": "CLIP",
    "transformers.models.siglip.modeling_siglip": "Siglip",
    "transformers.models.siglip2.modeling_siglip2": "Siglip2",
}
"""Hugging Face's modules, and what the names of their classes begin with."""


def family_classes(family: ModuleType) -> set[type[nn.Module]]:
    """The known classes of one of :data:`FAMILIES`."""
    return set(_transformers(family, FAMILIES[family.__name__]))


def tower_kind() -> Kind:
    """The whole tower: a class of :data:`CHILDREN`, or what the wrapper makes of a model that holds one in parts."""
    return _holding(
        "a tower",
        vision_model=Kind("a vision model of Hugging Face", _of_families("VisionModel")),
        visual_projection=LINEAR,
        text_model=Kind("a text model of Hugging Face", _of_families("TextModel")),
        **_OC_TEXT,
    )


def _of_families(suffix: str) -> tuple[type[nn.Module], ...]:
    names = {prefix + suffix for prefix in FAMILIES.values()}
    return tuple(each for each in CHILDREN if each.__name__ in names and each.__module__ in FAMILIES)


def _add(family: ModuleType) -> None:
    CHILDREN.update(_transformers(family, FAMILIES[family.__name__]))


after_import(dict.fromkeys(FAMILIES, _add))
