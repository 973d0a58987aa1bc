"""Image towers run token by token on their source's own modules, one image at a time, all patterns in the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Attention:
    """What one attention did: q [m, h, k], k and v [n, h, k], pattern [h, m, n], all heads' outputs joined [m, h k]."""

    q: Tensor
    k: Tensor
    v: Tensor
    pattern: Tensor
    joined: Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Attention:
    q, k, v = (each.unflatten(-1, (heads, -1)) for each in (q, k, v))
    scores = [q[:, h] @ k[:, h].T / q.shape[-1] ** 0.5 for h in range(heads)]
    pattern = torch.stack([each.softmax(-1) for each in scores])
    return Attention(q, k, v, pattern, torch.cat([pattern[h] @ v[:, h] for h in range(heads)], dim=-1))


@dataclass
class Run:
    """One image's run: of each layer what came in, what its heads read, its attention, and what came out."""

    before: list[Tensor]
    read: list[Tensor]
    attention: list[Attention]
    after: list[Tensor]
    pool_read: Tensor
    pool: Attention | None
    embedding: Tensor


class Plain:
    """A tower of open_clip's own architecture."""

    def __init__(self, clip: Any) -> None:
        self.visual = clip.visual
        self.n_patches = len(clip.visual.positional_embedding) - 1
        self.layers: list[Any] = list(clip.visual.transformer.resblocks)
        self.entrance: nn.Module = clip.visual.transformer

    def norm(self, block: Any) -> Callable[[Tensor], Tensor]:
        return block.ln_1

    def qkv(self, block: Any, read: Tensor) -> Attention:
        packed = read @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
        return attend(*packed.chunk(3, -1), block.attn.num_heads)

    def written(self, block: Any, joined: Tensor) -> Tensor:
        """What the heads add to the stream."""
        return block.ls_1(block.attn.out_proj(joined))

    def through_mlp(self, block: Any, mid: Tensor) -> Tensor:
        return mid + block.ls_2(block.mlp(block.ln_2(mid)))

    def last_norm(self, stream: Tensor) -> Tensor:
        visual = self.visual
        return visual.attn_pool.ln_k(stream) if visual.attn_pool is not None else visual.ln_post(stream)

    def pool(self, read: Tensor) -> Attention | None:
        pool = self.visual.attn_pool
        if pool is None:
            return None
        attn, d = pool.attn, pool.query.shape[-1]
        bias = attn.in_proj_bias.split(d)
        weights = attn.q_proj_weight, attn.k_proj_weight, attn.v_proj_weight
        inputs = pool.ln_q(pool.query)[:1], read, read
        return attend(*(x @ w.T + b for x, w, b in zip(inputs, weights, bias, strict=True)), attn.num_heads)

    def embedded(self, stream: Tensor, pool: Attention | None) -> Tensor:
        """The embedding, from the last stream."""
        visual = self.visual
        if pool is not None:
            return visual.ln_post(visual.attn_pool.attn.out_proj(pool.joined[0])) @ visual.proj
        if visual.final_ln_after_pool:
            return visual.ln_post(stream[1:].mean(0)) @ visual.proj
        normed = visual.ln_post(stream)
        return (normed[1:].mean(0) if visual.pool_type == "avg" else normed[0]) @ visual.proj

    def alone(self, token: Tensor) -> Tensor:
        """The embedding if this were the only token that is pooled."""
        visual = self.visual
        if visual.attn_pool is not None:
            return visual.ln_post(visual.attn_pool(token[None, None]))[0, 0] @ visual.proj
        return visual.ln_post(token) @ visual.proj

    def features(self, stream: Tensor) -> tuple[Tensor, Tensor | None]:
        """LeGrad's features of a layer, and the pool's pattern in them."""
        pool = self.pool(self.last_norm(stream))
        if pool is None:
            return self.visual.ln_post(stream.mean(0)) @ self.visual.proj, None
        return self.embedded(stream, pool), pool.pattern

    def queries(self, n: int) -> list[int]:
        """The tokens that are pooled."""
        averaged = self.visual.pool_type == "avg" or self.visual.final_ln_after_pool
        return list(range(1, n)) if averaged else [0]

    def run(self, image: Tensor) -> Run:
        caught: list[Tensor] = []
        handle = self.entrance.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
        self.visual(image[None])
        handle.remove()
        run = Run([], [], [], [], torch.empty(0), None, torch.empty(0))
        x = caught[0][0]
        for block in self.layers:
            run.before.append(x)
            run.read.append(self.norm(block)(x))
            run.attention.append(self.qkv(block, run.read[-1]))
            x = self.through_mlp(block, x + self.written(block, run.attention[-1].joined))
            run.after.append(x)
        run.pool_read = self.last_norm(x)
        run.pool = self.pool(run.pool_read)
        run.embedding = self.embedded(x, run.pool)
        return run


class PlainTimm(Plain):
    """A tower around a timm vision transformer."""

    def __init__(self, clip: Any) -> None:
        self.visual, self.trunk = clip.visual, clip.visual.trunk
        self.layers = list(self.trunk.blocks)
        self.entrance = self.trunk.blocks[0]
        self.n_patches = self.trunk.patch_embed.num_patches

    def norm(self, block: Any) -> Callable[[Tensor], Tensor]:
        return block.norm1

    def qkv(self, block: Any, read: Tensor) -> Attention:
        return attend(*block.attn.qkv(read).chunk(3, -1), block.attn.num_heads)

    def written(self, block: Any, joined: Tensor) -> Tensor:
        return block.ls1(block.attn.proj(joined))

    def through_mlp(self, block: Any, mid: Tensor) -> Tensor:
        return mid + block.ls2(block.mlp(block.norm2(mid)))

    def last_norm(self, stream: Tensor) -> Tensor:
        return self.trunk.norm(stream)

    def pool(self, read: Tensor) -> Attention | None:
        pool = self.trunk.attn_pool
        if pool is None:
            return None
        read = read if self.trunk.pool_include_prefix else read[self.trunk.num_prefix_tokens :]
        return attend(pool.q(pool.latent[0]), *pool.kv(read).chunk(2, -1), pool.num_heads)

    def embedded(self, stream: Tensor, pool: Attention | None) -> Tensor:
        if pool is None:
            return self.visual.head(self.trunk.norm(stream)[0])
        out = self.trunk.attn_pool.proj(pool.joined[0])
        return self.visual.head(out + self.trunk.attn_pool.mlp(self.trunk.attn_pool.norm(out)))

    def alone(self, token: Tensor) -> Tensor:
        normed = self.trunk.norm(token)
        pool = self.trunk.attn_pool
        return self.visual.head(normed if pool is None else pool(normed[None, None])[0])

    def features(self, stream: Tensor) -> tuple[Tensor, Tensor | None]:
        pool = self.pool(self.last_norm(stream))
        if pool is None:
            return self.visual.head(self.trunk.norm(stream.mean(0))), None
        return self.embedded(stream, pool), pool.pattern

    def queries(self, n: int) -> list[int]:
        return [0]
