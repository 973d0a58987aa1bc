"""Which heads does the colour of a shape go through? Direct effect, then total effect with a hook of your own.

Run it as it is on the embedded model; for any open_clip model, change the first line of ``main`` and the images.
"""

from __future__ import annotations

import torch

from clip_lens_plugin import HookedCLIP
from clip_lens_plugin.scenes import ATTRIBUTES, draw, prompts, sample_scenes


def accuracy(embeddings: torch.Tensor, texts: torch.Tensor, answers: torch.Tensor) -> float:
    """Share of images whose nearest text is the right one."""
    return (embeddings @ texts.T).argmax(-1).eq(answers).double().mean().item()


@torch.no_grad()
def main() -> dict[str, float]:
    """Prints and returns three accuracies: of the model, and without its best colour head, direct and total."""
    model = HookedCLIP.from_pretrained("scenes")
    scenes = sample_scenes(400, seed=11)
    images = model.prepare([draw(scene) for scene in scenes])
    texts = model.encode_text(prompts("colour"))
    answers = torch.tensor([ATTRIBUTES["colour"].index(scene.colour) for scene in scenes])

    # How well does each head's contribution alone tell the colours apart?
    contributions = model.decompose(images)
    scores = contributions.towards(texts)  # [images, layers, heads, colours]
    alone = (scores - scores.mean(0)).argmax(-1).eq(answers[:, None, None]).double().mean(0)
    layer, head = divmod(int(alone.argmax()), model.cfg.n_heads)
    print(f"L{layer}H{head} alone tells {alone.max():.0%} of the colours (chance {1 / len(texts):.0%}).")

    # Direct effect: its contribution is replaced by its mean, nothing is run again.
    mean = contributions.heads[:, layer, head].mean(0)
    direct = contributions.embedding - contributions.heads[:, layer, head] + mean

    # Total effect: its output is replaced by its mean while the model runs, so later layers react.
    _, cache = model.run_with_cache(images, names_filter=f"blocks.{layer}.attn.hook_z")
    mean_z = cache["z", layer][:, :, head].mean(0)

    def mean_ablate(z: torch.Tensor, hook: object) -> torch.Tensor:
        z[:, :, head] = mean_z
        return z

    total = model.run_with_hooks(images, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", mean_ablate)])
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
