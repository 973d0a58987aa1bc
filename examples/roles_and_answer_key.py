"""Are the roles that texts give to heads the right ones? On drawn scenes there is an answer key to compare them with.

The key of a head is the attribute that explains most of the variance of what it writes: the greatest η², between over
total, of the seven attributes of the scenes. Roles are found from texts alone. Nothing here says that they must agree.
"""

from __future__ import annotations

import pandas as pd
import torch

from clip_lens_plugin import HookedCLIP, TextPool, class_heads, head_roles
from clip_lens_plugin.scenes import ATTRIBUTES, draw, sample_scenes

LEAST_SHARE = 0.005
"""Of the variance of all heads: heads of less are left out."""


def main(n_scenes: int = 2000, n_nulls: int = 200) -> pd.DataFrame:
    """Prints and returns a row per head: its role and theme, its key, and the η² of that."""
    model = HookedCLIP.from_pretrained("scenes")
    scenes = sample_scenes(n_scenes, seed=21)
    contributions = model.decompose([draw(scene) for scene in scenes])

    # Texts that name one attribute, so that a theme can be an attribute.
    every = TextPool.scenes()
    chosen = [i for i, theme in enumerate(every.themes) if theme in ATTRIBUTES]
    pool = TextPool([every.texts[i] for i in chosen], [every.themes[i] for i in chosen])
    roles = head_roles(model, contributions, pool, heads="all", n_nulls=n_nulls)
    print(roles)

    labels = torch.tensor([scene.codes() for scene in scenes])
    found = roles.to_dataframe()
    for at, (attribute, values) in enumerate(ATTRIBUTES.items()):
        by_value = class_heads(contributions, labels[:, at], values, permutations=0)
        found[attribute] = [float(by_value.grid()[layer, head]) for layer, head in roles.heads]
    found["key"] = found[[*ATTRIBUTES]].idxmax(axis=1)
    found["eta_squared"] = found[[*ATTRIBUTES]].max(axis=1)

    table = found[found["variance_share"] > LEAST_SHARE].sort_values("variance_share", ascending=False)
    columns = ["layer", "head", "variance_share", "role", "theme", "key", "eta_squared"]
    with_role = table[table["role"] != "none"]
    agree = with_role["role"] == with_role["key"]
    print(f"{len(table)} heads carry more than {LEAST_SHARE:.1%} of the variance; {len(with_role)} have a role.")
    print(f"The role is the key in {agree.sum()} of {len(agree)}, the theme, role or not, in ", end="")
    print(f"{(table['theme'] == table['key']).sum()} of {len(table)}. Roles that are not the key:")
    print(with_role[~agree][columns].round(3).to_string(index=False))
    return table


if __name__ == "__main__":
    main()
