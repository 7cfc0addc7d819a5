"""Part c: ordinary records on CIFAR-10's 10,000 JPEG copies, in order of value, as many as fit.

    python results.py OUT WORK SECONDS IMAGES_PER_SECOND [--rehearsal]

One process trains ResNet-18 at the published batch, 200 epochs; others, whose small steps leave the device idle, share
it and train vit-mini for 100. IMAGES_PER_SECOND is SimCLR's, from part b: by it the epochs are chosen that fit.
"""

import sys
import time
from multiprocessing import get_context
from pathlib import Path
from queue import Empty
from typing import Any

from shared import DEVICE, cells, cut, workshop, write

from ssbench.line import execute

TASKS = ["knn", "linear-probe"]
KNN = ["knn.k=200", "knn.temperature=0.1"]  # lightly, cifar10_benchmark.py
FIT = 9_047  # images that are trained on: select is about a tenth of 10,000
# SimCLR takes two views, SwAV two and four of a quarter's area, rotation four, supervised one: cost beside SimCLR's
RESNET = {"simclr": 1.0, "random-init": 0.0, "raw-pixels": 0.0, "supervised": 0.5, "swav": 1.5, "rotation": 2.0}
PRESETS = (
    *("mim-random", "random-init", "raw-pixels", "data2vec", "supervised", "mim-block", "simmim", "ibot", "ijepa"),
    *("capi", "maskfeat", "beit", "cmae", "mim-attention", "mim-hard", "mim-adaptive", "mim-object"),
)
LANES = 3  # processes that train vit-mini
SHARED = 1.7  # how much longer ResNet-18 takes beside them: a guess


def epochs(images_a_second: float, seconds: float) -> int:
    """Epochs of SimCLR that take no more than eight tenths of the time: 200, or fewer."""
    fits = (count for count in (200, 100, 50) if count * FIT / images_a_second < 0.8 * seconds)
    return next(fits, 25)


def one(method: str, backbone: str, budget: str, data: Path, work: Path, batch: int = 512) -> list[dict[str, Any]]:
    """A pretraining and its tasks: records in the store, rows for the table."""
    settings = [f"train.batch={batch}", *KNN]
    asked = {"backbone": [backbone], "task": TASKS, "budget": budget, "precision": "bf16", "set": settings}
    found, started = [], time.monotonic()
    for record in execute(cells(method, data, **asked), workshop(work / "results", DEVICE)):
        score = record.scores[record.headline].value if record.status == "done" else None
        budget = str(record.spec.pretraining.budget or "untrained")
        line = {"method": method, "backbone": backbone, "budget": budget, "task": record.spec.task, "score": score}
        trained = {"seconds": record.costs.pretrain_seconds, "images": record.costs.images}
        took = round(time.monotonic() - started, 1)
        found.append({**line, **trained, "cell seconds": took, "note": record.reason})
    return found


def lane(out: Path, queue: Any, until: float, rate: float, go: Any, wait: float, *rest: Any) -> None:
    """Train what the queue holds, one after the other; what can't be done in time, alone on the device, is left out."""
    if wait:
        go.wait(wait)
    while True:
        try:
            method, backbone, budget = queue.get(timeout=2)
        except Empty:
            return
        slower = 1.0 if method == "simclr" else SHARED
        needs = slower * RESNET.get(method, 0) * float(budget.split("=")[1]) * FIT / rate if "epochs" in budget else 0
        if time.time() + needs > until:
            write(out / "results.jsonl", {"method": method, "backbone": backbone, "note": f"left out: {needs:.0f} s"})
            continue
        try:
            for row in one(method, backbone, budget, *rest):
                write(out / "results.jsonl", row)
        except Exception as error:
            write(out / "results.jsonl", {"method": method, "backbone": backbone, "note": str(error)})
        go.set()  # the first, SimCLR, is through


def main(out: Path, work: Path, seconds: float, rate: float, rehearsal: bool) -> None:
    until, data = time.time() + seconds, Path(__file__).parent / "data" / "cifar10"
    long, short, batch = f"epochs={epochs(rate, seconds)}", "epochs=100", 512
    resnet, presets, backbone, lanes = list(RESNET), list(PRESETS), "vit-mini", LANES
    if rehearsal:
        data, batch, long, short, backbone, lanes = (
            cut(data, work / "cut", 160),
            32,
            "steps=2",
            "steps=2",
            "vit-nano",
            1,
        )
        resnet, presets = ["simclr", "random-init"], ["mim-random", "raw-pixels"]
    context = get_context("spawn")
    first, second, go = context.Queue(), context.Queue(), context.Event()
    for method in resnet:
        first.put((method, "resnet18", long))
    for method in presets:
        second.put((method, backbone, short))
    # SimCLR has the device for itself, unless it takes less than a third of the time
    alone = 0.0 if float(long.split("=")[1]) * FIT / rate < seconds / 3 else 0.85 * seconds
    rest = (data, work, batch)
    workers = [context.Process(target=lane, args=(out, first, until, rate, go, 0.0, *rest))]
    workers += [context.Process(target=lane, args=(out, second, until, rate, go, alone, *rest)) for _ in range(lanes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(max(until - time.time(), 0))
        worker.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), "--rehearsal" in sys.argv)
