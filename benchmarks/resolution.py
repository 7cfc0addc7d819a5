"""Time and memory of a masked step against image size: a fixed number of visible patches beside a fixed ratio and all.

    python benchmarks/resolution.py [backbone] [visible] [batch] [largest px]

Each point is a process of its own: peak resident memory above the start, and the median of three forward and backward
passes. `encode` is the encoder alone, forward. A masked step has its predictor and target too; a step of `full
attention` is the encoder on every patch, and nothing else.
"""

import json
import resource
import statistics
import subprocess
import sys
import time

SIZES = (224, 384, 512, 768, 1024)
PATCH = 16
KINDS = {
    "token budget, cross": {"mask": "window", "arch": "cross"},
    "ratio 0.75, mae": {"mask": "random", "arch": "mae"},
    "full attention": {},
}


def measure(kind: str, backbone: str, side: int, visible: int, batch: int) -> dict[str, float]:
    import torch

    from ssbench.encoders.build import build
    from ssbench.method import Batch
    from ssbench.methods.mim.model import MIM
    from ssbench.settings import make

    torch.manual_seed(0)
    encoder = build(backbone, size=side, channels=3, mean=torch.zeros(3), std=torch.ones(3), patch=PATCH)
    settings = dict(KINDS[kind])
    patches = (side // PATCH) ** 2
    if settings.get("arch") == "cross":
        settings |= {"visible": visible, "asked": min(visible / (patches - visible), 1.0)}
    mim = MIM(encoder, make(MIM.Settings, settings, "mim"))
    images = torch.randn(batch, 3, side, side)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times, encoding = [], []
    for turn in range(4):
        generator = torch.Generator().manual_seed(turn)
        started = time.perf_counter()
        if settings:
            mim.loss(Batch([images], torch.arange(batch), None, generator, 0.5))["reconstruction"].backward()
        else:
            encoder.tokens(images).square().mean().backward()
        times.append(time.perf_counter() - started)
        with torch.no_grad():
            keep = mim.hide(images, generator, 0.5)[0] if settings else None
            started = time.perf_counter()
            encoder.tokens(images, keep)
            encoding.append(time.perf_counter() - started)
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"step": statistics.median(times[1:]), "encode": statistics.median(encoding[1:]), "memory": memory}


def main(backbone: str = "vit_tiny_patch16_224", visible: int = 49, batch: int = 4, largest: int = 1024) -> None:
    print(f"{backbone}, patch {PATCH}, batch {batch}, {visible} visible patches for the budget; per image")
    print(f"{'':<22} {'px':>5} {'patches':>8} {'encode ms':>10} {'step ms':>9} {'memory MB':>10}   against its 224 px")
    for kind in KINDS:
        first: dict[str, float] = {}
        for side in (size for size in SIZES if size <= largest):
            command = [sys.executable, __file__, "--point", kind, backbone, str(side), str(visible), str(batch)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            first = first or found
            numbers = [1e3 * found["encode"] / batch, 1e3 * found["step"] / batch, found["memory"] / batch]
            ratios = "  ".join(f"{key} x{found[key] / first[key]:.1f}" for key in ("encode", "step", "memory"))
            row = " ".join(f"{number:>9.1f}" for number in numbers)
            print(f"{kind:<22} {side:>5} {(side // PATCH) ** 2:>8} {row}   {ratios}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--point"]:
        kind, backbone, *sizes = sys.argv[2:]
        print(json.dumps(measure(kind, backbone, *map(int, sizes))))
    else:
        main(*sys.argv[1:2], *map(int, sys.argv[2:]))
