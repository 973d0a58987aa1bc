"""Which heads does the colour of a shape go through? What they tell alone, then direct and total effects without them.

Run it as it is on the embedded model; for any open_clip model, change the first line of ``main`` and the images.
"""

from __future__ import annotations

import torch

from clip_lens_plugin import HookedCLIP, ZeroShotClassifier, mean_ablation_curve
from clip_lens_plugin.ablation import Components
from clip_lens_plugin.scenes import ATTRIBUTES, draw, prompts, sample_scenes

N_ABLATED = 10


@torch.no_grad()
def main() -> dict[str, float]:
    """Prints and returns three accuracies: of the model, and without its best colour heads, direct and total."""
    model = HookedCLIP.from_pretrained("scenes")
    scenes = sample_scenes(400, seed=11)
    pictures = [draw(scene) for scene in scenes]
    colours = ZeroShotClassifier.from_labels(model, prompts("colour"))
    answers = torch.tensor([ATTRIBUTES["colour"].index(scene.colour) for scene in scenes])

    # How well does each head's contribution alone tell the colours apart?
    contributions = model.decompose(pictures)
    scores = contributions.towards(colours.embeddings)  # [images, layers, heads, colours]
    alone = (scores - scores.mean(0)).argmax(-1).eq(answers[:, None, None]).double().mean(0)
    best = alone.flatten().topk(N_ABLATED).indices.tolist()
    heads = [divmod(index, model.cfg.n_heads) for index in best]
    shown = ", ".join(f"L{layer}H{head} {alone[layer, head]:.0%}" for layer, head in heads)
    print(f"Colours found by one head alone (chance {1 / len(colours):.0%}): {shown}")

    # Direct effect: these heads' contributions are replaced by their means, nothing is run again. Total effect: their
    # outputs are replaced by their means while the model runs, so later layers react.
    found = {"model": colours.accuracy(contributions.embedding, answers).top1.value}
    without = [Components.of_heads(model, heads)]
    for effect in ("direct", "total"):
        curve = mean_ablation_curve(contributions, colours, answers, components=without, effect=effect)
        found[f"{effect} effect"] = float(curve["accuracy"].iloc[-1])
    for name, share in found.items():
        print(f"{name}: accuracy {share:.3f}")
    return found


if __name__ == "__main__":
    main()
