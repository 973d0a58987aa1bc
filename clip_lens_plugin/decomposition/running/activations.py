"""The few activations that a decomposition needs: taken from a cache, or while the model runs.

Only rows that the pooling reads are kept (r of them: one for a class token, or for a mean over patches), and never a
per-head output or an n × n pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from jaxtyping import Bool, Float
from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.hook_points import HookPoint

from clip_lens_plugin.decomposition import equations
from clip_lens_plugin.decomposition.running.changed_heads import ChangedHeads, ablated, fold_results, seen_replaced
from clip_lens_plugin.decomposition.running.pattern_rows import (
    Rows,
    compared_hooks,
    pattern_hooks,
    pattern_is_listened_to,
)
from clip_lens_plugin.layers.block import Block
from clip_lens_plugin.layers.pooling.pooling import Pooling
from clip_lens_plugin.layers.pooling.token_pooling import POSITION
from clip_lens_plugin.model.hooks.interventions import (
    refuse_rewritten_output,
    stream_is_edited,
)
from clip_lens_plugin.model.protocol import ImageModel, Tower
from clip_lens_plugin.numerics.precision import full_precision


class MissingActivationsError(KeyError):
    """The cache lacks activations that were asked for."""

    def __str__(self) -> str:
        return str(self.args[0])


class TokensNotAvailableError(ValueError):
    """The contributions of single tokens were not kept, or a hook made them meaningless."""


@dataclass
class Factors:
    """Raw activations of one run at the pooled rows, held until their parts are taken. Lists have one entry per layer.

    Attributes:
        embedding: M(I) [b, e].
        read: what the pooling keeps of the hook points that it reads, by their names: ``ln_final.hook_scale``
            [b, r, 1], and an attention pool's.
        embed: ``hook_embed`` [b, r, d].
        z: ``hook_z`` [b, r, h, k].
        mlp_out: ``hook_mlp_out`` [b, r, d].
        final: ``hook_resid_post`` of the last block [b, r, d].
        pattern: gives rows of ``hook_pattern`` [b, h, r, n], over ``hook_z_scale`` where there is one; empty if tokens
            were not asked for.
        v: ``hook_v`` [b, n, h, k]; or, where text directions were given, ``v · M_{l,h} e_t`` [b, n, h, p, t].
        post: ``mlp.hook_post`` [b, r, d_mlp]; empty if neurons were not asked for.
        result_edit: what a hook on ``hook_result`` added to the heads' outputs [b, r, h, d]; None for a layer
            where none did. A head that such a hook set to zero has z = 0 instead.
        resid_pre: ``hook_resid_pre`` [b, r, d] of each layer; empty if edits were not asked for.
        self_message: what the class token sends to itself, ``pattern[.., 0] · v[0]`` [b, r, h, k]; empty if it is not
            what the pooling reads, the pattern or v is missing, or a hook replaced what a head puts out.
        bias_weight: 1 / ``hook_bias_scale`` [b, r, 1]; empty where no layer has it.
        hooked: layers in which a hook stood on what heads put out (``hook_z``, ``hook_result``); None for a cached run,
            whose hooks are not known any more.
        replaced: heads that a hook on ``hook_z`` changed otherwise than to zero, of each layer in ``hooked``.
    """

    embedding: Tensor
    read: dict[str, Tensor]
    embed: Tensor
    z: list[Tensor]
    mlp_out: list[Tensor]
    final: Tensor
    pattern: list[Rows] = field(default_factory=list)
    v: list[Tensor] = field(default_factory=list)
    post: list[Tensor] = field(default_factory=list)
    result_edit: list[Tensor | None] = field(default_factory=list)
    resid_pre: list[Tensor] = field(default_factory=list)
    self_message: list[Tensor] = field(default_factory=list)
    bias_weight: list[Tensor] = field(default_factory=list)
    hooked: frozenset[int] | None = None
    replaced: dict[int, Bool[Tensor, "b h"]] = field(default_factory=dict)


def factors_from_cache(model: Tower, cache: ActivationCache) -> Factors:
    """Slices of a full cache of ``model.run_with_cache``; what is optional is taken if it is there.

    Raises:
        MissingActivationsError: if a required activation is not in the cache; the message names them.
        ValueError: if the batch dimension was removed, or positions were sliced away.
    """
    model.check_source()
    refuse_rewritten_output(model)
    layers, pooling = range(model.cfg.n_layers), model.pooling
    required = [
        "hook_embed",
        *dict.fromkeys((*pooling.reads, pooling.output)),
        f"blocks.{model.cfg.n_layers - 1}.hook_resid_post",
        *(f"blocks.{l}.attn.hook_z" for l in layers),
        *(f"blocks.{l}.hook_mlp_out" for l in layers),
        *(f"blocks.{l}.attn.hook_bias_scale" for l in layers if model.blocks[l].attn.out.outer is not None),
    ]
    missing = [name for name in required if name not in cache.cache_dict]
    if missing:
        raise MissingActivationsError(
            f"The cache lacks {len(missing)} activations that a decomposition needs, among them {missing[:4]}. Let "
            f"names_filter keep {sorted({name.split('.')[-1] for name in required})}, or call "
            f"model.decompose(images), which keeps only what is needed."
        )
    if not cache.has_batch_dim:
        raise ValueError("The cache has no batch dimension; run with remove_batch_dim=False to decompose it.")
    if cache["hook_embed"].shape[1:] != (model.cfg.n_ctx, model.cfg.d_model):
        raise ValueError(
            f"The cache holds hook_embed of shape {list(cache['hook_embed'].shape)}, expected [batch, "
            f"{model.cfg.n_ctx}, {model.cfg.d_model}]: run without pos_slice, on this model."
        )

    pooling = pooling.bound(cache.cache_dict)

    def rows(x: Tensor) -> Tensor:
        return pooling.rows(x[:, pooling.positions])

    everywhere = partial(_by_layer, cache.cache_dict, model.cfg.n_layers)
    pooled = pooling.pooled(cache[pooling.output], model.ln_final, model.cfg.dtype)
    pattern, v = everywhere("attn.hook_pattern"), everywhere("attn.hook_v")
    # A full cache has it only in layers where a hook is on it.
    result = [cache.cache_dict.get(f"blocks.{l}.attn.hook_result") for l in layers]
    z, result_edit = fold_results(
        model,
        [rows(z) for z in everywhere("attn.hook_z")],
        [None if each is None else rows(each) for each in result],
        [None for _ in layers],
    )
    z_scale = everywhere("attn.hook_z_scale")
    known = not any(block.attn.out.has_scale for block in model.blocks) or bool(z_scale)
    taken = [a[:, :, pooling.positions] for a in pattern] if v and known else []
    if z_scale:
        taken = [a / scale[:, None, pooling.positions] for a, scale in zip(taken, z_scale, strict=False)]
    rows_of_pattern = [pooling.rows(a, 2) for a in taken]
    messages = [_self_message(pooling, a, each) for a, each in zip(rows_of_pattern, v, strict=False)]
    of_tokens = zip(rows_of_pattern, v, z, strict=False) if pooling.reads_class_token_alone else ()
    replaced = [seen_replaced(*each) for each in of_tokens]
    return Factors(
        embedding=model.project(pooled),
        read={name: pooling.kept(name, cache[name]) for name in pooling.reads},
        embed=rows(cache["hook_embed"]),
        z=z,
        mlp_out=[rows(out) for out in everywhere("hook_mlp_out")],
        final=rows(cache[f"blocks.{layers[-1]}.hook_resid_post"]),
        pattern=[_known(each) for each in rows_of_pattern],
        v=v if rows_of_pattern else [],
        post=[rows(post) for post in everywhere("mlp.hook_post")],
        result_edit=result_edit,
        resid_pre=[rows(pre) for pre in everywhere("hook_resid_pre")],
        self_message=_kept_messages(messages, z, replaced, result_edit, layers),
        bias_weight=[rows(scale.reciprocal()) for scale in everywhere("attn.hook_bias_scale")],
    )


def factors_from_images(
    model: Tower,
    images: Tensor,
    tokens: bool,
    neurons: bool,
    directions: Float[Tensor, "l h pk t"] | None = None,
) -> Factors:
    """Runs the model once and keeps copies of the needed slices only.

    Of the pattern, the rows that are read: see
    :func:`~clip_lens_plugin.decomposition.running.pattern_rows.pattern_hooks`. Where many are read, queries and keys
    are kept in their place, see :func:`keeps_queries_and_keys`.

    Args:
        images: or texts, whatever the model takes.
        directions: ``M_{l,h} e_t``, towards which each token's values are taken; z and MLPs are not kept then.
    """
    saved: dict[str, Tensor] = {}
    passing: dict[str, Tensor] = {}
    patterns: list[Rows] = []
    messages: list[Tensor | None] = []
    pooling = model.pooling
    positions = pooling.positions
    edited = stream_is_edited(model)
    reads_all = positions.stop is None

    def keep(tensor: Tensor, hook: HookPoint, take: Callable[[Tensor], Tensor]) -> None:
        assert hook.name is not None
        saved[hook.name] = take(tensor.detach())

    def hooks() -> Iterator[tuple[str, Callable[..., None]]]:
        def at_rows(name: str) -> tuple[str, Callable[..., None]]:
            return name, partial(keep, take=lambda x: pooling.rows(x[:, positions]).clone())

        # Where all positions are pooled nothing is gained by a copy, and nothing changes these two in place.
        def unchanged(name: str) -> tuple[str, Callable[..., None]]:
            everything = pooling.positions == slice(0, None) and pooling.n_rows(model.cfg.n_ctx) == model.cfg.n_ctx
            return (name, partial(keep, take=lambda x: x)) if everything else at_rows(name)

        def bind(position: Tensor, hook: HookPoint) -> None:
            nonlocal pooling
            saved[POSITION] = position.detach()
            pooling = pooling.bound(saved)

        if POSITION in pooling.reads:
            yield POSITION, bind
        yield at_rows("hook_embed")
        for name in pooling.reads:
            if name == POSITION:
                continue
            yield name, partial(keep, take=lambda x, name=name: pooling.kept(name, x).clone())
        yield at_rows(f"blocks.{model.cfg.n_layers - 1}.hook_resid_post")
        for l, block in enumerate(model.blocks):
            if directions is None:
                yield unchanged(f"blocks.{l}.attn.hook_z")
                yield unchanged(f"blocks.{l}.hook_mlp_out")
            if block.attn.out.outer is not None:
                name = f"blocks.{l}.attn.hook_bias_scale"
                yield name, partial(keep, take=lambda scale: pooling.rows(scale[:, positions].reciprocal()))
            if block.attn.hook_result.has_hooks():
                yield at_rows(f"blocks.{l}.attn.hook_result")
            if edited:
                yield at_rows(f"blocks.{l}.hook_resid_pre")
            if neurons:
                yield at_rows(f"blocks.{l}.mlp.hook_post")
            if tokens or pooling.reads_class_token_alone:
                yield from attention_hooks(l, block)

    def attention_hooks(l: int, block) -> Iterator[tuple[str, Callable[..., None]]]:
        name = f"blocks.{l}.attn.hook_"
        later = keeps_queries_and_keys(model, block)

        def take_pattern(pattern: Tensor) -> None:
            passing["pattern"] = pattern

        def take_values(v: Tensor, hook: HookPoint) -> None:
            if not later:
                passing["v"] = v.detach()
            if tokens:
                saved[name + "v"] = (
                    v.detach().clone() if directions is None else equations.values_towards(v.detach(), directions[l])
                )

        def finish(z: Tensor, hook: HookPoint) -> None:
            pattern = pooling.rows(passing.pop("pattern"), 2)
            if tokens:
                # Where the model computes it for us, nobody else holds it, and nothing changes it any more.
                patterns.append(_known(pattern if reads_all else pattern.clone()))
            messages.append(_self_message(pooling, pattern, passing.pop("v")))

        yield name + "v", take_values
        if later:
            yield from compared_hooks(block, l, positions, patterns.append)
        else:
            yield from pattern_hooks(block, l, positions, take_pattern)
            yield name + "z", finish

    of_hooks = ChangedHeads(model, lambda x: pooling.rows(x[:, positions]))
    hooked = of_hooks.layers
    with model.alone(), of_hooks.watched(), model.hooks(fwd_hooks=[*hooks(), *of_hooks.hooks()]):
        embedding = model(images).detach()

    everywhere = partial(_by_layer, saved, model.cfg.n_layers)
    layers = range(model.cfg.n_layers)
    result = [saved.get(f"blocks.{l}.attn.hook_result") for l in layers]
    z = everywhere("attn.hook_z")
    changed = [None if each is None else of_hooks.at(l, "hook_result", each) for l, each in enumerate(result)]
    z, result_edit = fold_results(model, z, result, changed) if z else ([], [])
    replaced = {l: of_hooks.at(l, "hook_z", z[l]) & ~ablated(z[l]) for l in hooked if z}
    return Factors(
        embedding=embedding,
        read={name: saved[name] for name in pooling.reads},
        embed=saved["hook_embed"],
        z=z,
        mlp_out=everywhere("hook_mlp_out"),
        final=saved[f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"],
        pattern=patterns,
        v=everywhere("attn.hook_v"),
        post=everywhere("mlp.hook_post"),
        result_edit=result_edit,
        resid_pre=everywhere("hook_resid_pre"),
        self_message=_kept_messages(messages, z, replaced.values(), result_edit, hooked),
        bias_weight=everywhere("attn.hook_bias_scale"),
        hooked=hooked,
        replaced=replaced,
    )


def keeps_queries_and_keys(model: Tower, block: Block) -> bool:
    """Whether a layer's queries and keys are kept until the end of a run, instead of the pattern that they give.

    So it is where images' tokens are all read, each by itself: ω is known at the end, and until then n × n numbers of
    every head would wait. A pattern that a hook may change is kept itself.
    """
    many = model.pooling.positions.stop is None and model.pooling.n_rows(model.cfg.n_ctx) > 1
    return many and isinstance(model, ImageModel) and not pattern_is_listened_to(block)


def _known(pattern: Tensor) -> Rows:
    return lambda: pattern


def _by_layer(found: Mapping[str, Tensor], n_layers: int, name: str) -> list[Tensor]:
    """One activation of every layer; none if a layer lacks it."""
    names = [f"blocks.{l}.{name}" for l in range(n_layers)]
    return [found[full] for full in names] if all(full in found for full in names) else []


@full_precision()
def _self_message(
    pooling: Pooling, pattern: Float[Tensor, "b h r n"], v: Float[Tensor, "b n h k"]
) -> Float[Tensor, "b r h k"] | None:
    """What the class token sends to itself; None where it is not what is pooled."""
    return equations.class_token_message(pattern, v) if pooling.reads_class_token_alone else None


def _kept_messages(
    messages: Sequence[Tensor | None],
    z: Sequence[Tensor],
    replaced: Iterable[Bool[Tensor, "b h"]],
    result_edit: Sequence[Tensor | None],
    hooked: Container[int],
) -> list[Tensor]:
    """The messages, zero for ablated heads; none if a hook replaced the output of a head in any layer.

    Args:
        hooked: layers in which a hook may have ablated heads.
    """
    kept = [message for message in messages if message is not None]
    if len(kept) < len(messages) or any(edit is not None for edit in result_edit):
        return []
    if any(bool(each.any()) for each in replaced):
        return []
    return [
        message.masked_fill(ablated(each)[:, None, :, None], 0.0) if layer in hooked else message
        for layer, (message, each) in enumerate(zip(kept, z, strict=False))
    ]
