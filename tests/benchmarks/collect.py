"""Cost and memory of collecting, and the time of all ablation curves: ``python -m tests.benchmarks.collect [FOLDER]``.

FOLDER holds photographs as JPEG; without it some are drawn and written first.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from clip_lens_plugin import ContributionStore, HookedCLIP, collect, mean_ablation_curve
from clip_lens_plugin.ablation import Components, paper_components
from clip_lens_plugin.collection.parts_and_classes import BlockRowNumbers
from clip_lens_plugin.collection.place import Place
from clip_lens_plugin.collection.plan import Plan
from clip_lens_plugin.collection.reading import read_batches
from clip_lens_plugin.collection.rows import BlockRows, RowWriter
from clip_lens_plugin.collection.running.begin import begin
from clip_lens_plugin.collection.running.finish import finish
from clip_lens_plugin.collection.running.progress import Progress
from clip_lens_plugin.datasets.choose import as_source
from clip_lens_plugin.decomposition.contributions import Contributions
from clip_lens_plugin.decomposition.parts.parts import Parts
from clip_lens_plugin.decomposition.readout import Readout
from clip_lens_plugin.scenes.dataset import ScenesDataset
from tests.benchmarks.measure import printed_last, seconds
from tests.benchmarks.memory import _status

BATCH, ROUNDS = 16, 5
STORED, CLASSES = 5000, 1000
SMALL, LARGE = 2000, 20_000


def main() -> None:
    """Runs each case and prints one table."""
    table = Table("what", "measured", "bound")
    with tempfile.TemporaryDirectory() as folder:
        jpegs = Path(sys.argv[1]) if len(sys.argv) > 1 else _write_jpegs(Path(folder) / "jpegs")
        for what in ("moments", "contributions"):
            ratio = cost(jpegs, what)
            table.add_row(f"collect {what}, ViT-B-16, JPEG files, over open_clip with the same loader", ratio, "1.15 x")
        table.add_row(f"memory at {LARGE:,} images over {SMALL:,}", memory(), "1.05 x")
        for ablation in ("mean", "zero", "resample"):
            taken, sets = curves(ablation)
            what = f"{sets} curves ({ablation}), {STORED:,} images, {CLASSES:,} classes, ViT-B-16"
            table.add_row(what, f"{taken:.1f} s", "60 s")
    Console(width=130).print(table)


def cost(jpegs: Path, what: str) -> str:
    """Median of paired ratios, each side in turn in this process."""
    model = _vit_b_16()
    source = as_source(jpegs)
    parts = [range(i, min(i + BATCH, len(source))) for i in range(0, len(source), BATCH)]

    def plain() -> None:
        with torch.no_grad():
            for batch in read_batches(model, source, parts, workers=0, strict=False):
                model.clip.encode_image(batch.images)

    def ours() -> None:
        with tempfile.TemporaryDirectory() as out:
            collect(model, source, Path(out) / "store", what, batch_size=BATCH, progress=False)  # type: ignore[arg-type]

    plain()
    ratios = [seconds(ours) / seconds(plain) for _ in range(ROUNDS)]
    return f"{statistics.median(ratios):.3f} x ({min(ratios):.3f} to {max(ratios):.3f}, {len(source)} images)"


def memory() -> str:
    """Resident memory after, and its peak, each in a new process: the embedded model on drawn scenes, with a store."""
    small, large = (_in_new_process(n) for n in (SMALL, LARGE))
    resident, peak = (b / a for a, b in zip(small, large, strict=True))
    return f"{resident:.3f} x resident, {peak:.3f} x peak ({large[1]:.0f} MB)"


def curves(ablation: str) -> tuple[float, int]:
    """Seconds for the paper's sets, each layer, each MLP and each head of a store; and how many sets."""
    model = _vit_b_16()
    layers = range(model.cfg.n_layers)
    sets = [
        *paper_components(model),
        *(Components.of_attention(model, [l]) for l in layers),
        *(Components.of_mlps(model, [l]) for l in layers),
        *(Components.of_heads(model, [(l, h)]) for l in layers for h in range(model.cfg.n_heads)),
    ]
    classes = torch.nn.functional.normalize(torch.randn(CLASSES, model.cfg.d_embed), dim=-1)
    with tempfile.TemporaryDirectory() as folder:
        store = random_store(model, folder)
        labels = torch.randint(CLASSES, (STORED,))
        start = time.perf_counter()
        mean_ablation_curve(store, classes, labels, components=sets, ablation=ablation)  # type: ignore[arg-type]
        return time.perf_counter() - start, len(sets)


class _Blank:
    """A data set of which only the size matters."""

    description, classes = "random numbers", None

    def __init__(self, n: int) -> None:
        self._n = n

    def __len__(self) -> int:
        return self._n

    def name(self, position: int) -> str:
        return str(position)

    def read(self, position: int):
        raise NotImplementedError

    def fingerprint(self) -> str:
        return "random"


def random_store(model: HookedCLIP, folder: str, n: int = STORED) -> ContributionStore:
    """A finished store of n random rows of the model's shape: the time of a curve does not depend on the numbers."""
    place, plan = Place(folder), Plan.of(model, _Blank(n), "contributions", "float16", 32, None)
    progress, readout = Progress(), Readout.of(model)
    with ExitStack() as held:
        begin(place, plan, False, held)
    writer = RowWriter(place, plan)
    l, h, k, e, p, r = plan.shape
    for block in range(plan.n_blocks):
        positions = list(plan.samples(block))
        b = len(positions)
        y, mlps, own = torch.randn(b, l, h, k), torch.randn(b, l, e), torch.randn(b, l, e)
        embed, omega = torch.randn(b, e), torch.rand(b, p, r)
        draft = Contributions(readout, Parts(embed, omega, y, mlps, embed, own, torch.float32, 1e-6))
        parts = Parts(draft.total().detach(), omega, y, mlps, embed, own, torch.float32, 1e-6)
        contributions = Contributions(readout, parts)
        rows = BlockRows(plan, block)
        rows.fill(positions, [0] * b, contributions)
        progress.add_rows(block, writer.write(rows, block))
        progress.add_block(block, [contributions], {}, plan, BlockRowNumbers(positions, [-1] * b))
    finish(place, plan, [progress], model.verify())
    return ContributionStore.open(folder, model)


def _vit_b_16() -> HookedCLIP:
    torch.manual_seed(0)
    clip, _, preprocess = open_clip.create_model_and_transforms("ViT-B-16")
    return HookedCLIP.from_open_clip(clip, preprocess, model_name="ViT-B-16")  # type: ignore[arg-type]


def _write_jpegs(folder: Path, n: int = 96) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        coarse.resize((640, 480), Image.Resampling.BICUBIC).save(folder / f"{i:04d}.jpg", quality=90)
    return folder


def _in_new_process(n: int) -> tuple[float, float]:
    resident, peak = printed_last("tests.benchmarks.collect", "--memory", str(n)).split()
    return float(resident), float(peak)


def _memory_of(n: int) -> None:
    model = HookedCLIP.from_pretrained("scenes", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        collect(model, ScenesDataset(n, 1, "background"), Path(folder) / "store", "contributions", progress=False)
        print(_status("VmRSS"), _status("VmHWM"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        _memory_of(int(sys.argv[2]))
    else:
        main()
