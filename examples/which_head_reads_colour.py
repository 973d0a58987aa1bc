"""Which heads does the colour of a shape go through? Direct effects, then total effects with a hook of your own.

Run it as it is on the embedded model; for any open_clip model, change the first line of ``main`` and the images.
"""

from __future__ import annotations

import torch
from transformer_lens.hook_points import HookPoint

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.scenes import ATTRIBUTES, draw, prompts, sample_scenes

N_ABLATED = 10


def accuracy(embeddings: torch.Tensor, texts: torch.Tensor, answers: torch.Tensor) -> float:
    """Share of images whose nearest text is the right one."""
    return (embeddings @ texts.T).argmax(-1).eq(answers).double().mean().item()


@torch.no_grad()
def main() -> dict[str, float]:
    """Prints and returns three accuracies: of the model, and without its best colour heads, direct and total."""
    model = HookedCLIP.from_pretrained("scenes")
    scenes = sample_scenes(400, seed=11)
    images = model.prepare([draw(scene) for scene in scenes])
    texts = model.encode_text(prompts("colour"))
    answers = torch.tensor([ATTRIBUTES["colour"].index(scene.colour) for scene in scenes])

    # How well does each head's contribution alone tell the colours apart?
    contributions = model.decompose(images)
    scores = contributions.towards(texts)  # [images, layers, heads, colours]
    alone = (scores - scores.mean(0)).argmax(-1).eq(answers[:, None, None]).double().mean(0)
    best = alone.flatten().topk(N_ABLATED).indices.tolist()
    heads = [divmod(index, model.cfg.n_heads) for index in best]
    shown = ", ".join(f"L{layer}H{head} {alone[layer, head]:.0%}" for layer, head in heads)
    print(f"Colours found by one head alone (chance {1 / len(texts):.0%}): {shown}")

    # Direct effect: these heads' contributions are replaced by their means, nothing is run again.
    direct = contributions.embedding.clone()
    for layer, head in heads:
        contribution = contributions.heads[:, layer, head]
        direct += contribution.mean(0) - contribution

    # Total effect: their outputs are replaced by their means while the model runs, so later layers react.
    _, cache = model.run_with_cache(images, names_filter=lambda name: name.endswith("hook_z"))

    def mean_ablate(z: torch.Tensor, hook: HookPoint) -> torch.Tensor:
        for layer, head in heads:
            if layer == hook.layer():
                z[:, :, head] = cache["z", layer][:, :, head].mean(0)
        return z

    names = sorted({f"blocks.{layer}.attn.hook_z" for layer, _ in heads})
    total = model.run_with_hooks(images, fwd_hooks=[(name, mean_ablate) for name in names])
    found = {
        "model": accuracy(contributions.embedding, texts, answers),
        "direct effect": accuracy(direct, texts, answers),
        "total effect": accuracy(total, texts, answers),
    }
    for name, share in found.items():
        print(f"{name}: accuracy {share:.3f}")
    return found


if __name__ == "__main__":
    main()
