"""Part c: ordinary records by processes that share the device, in order of value, as many as fit.

    python results.py OUT WORK SECONDS [--rehearsal]

One process trains ResNet-18 at the published batch; the others, whose small steps leave the device idle, run suites on
small backbones.
"""

import sys
import time
from collections.abc import Iterator
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from queue import Empty
from typing import Any

from shared import DEVICE, cut, workshop, write

from ssbench import api, plan
from ssbench.line import execute
from ssbench.plan import Cell

HERE = Path(__file__).parent
BACKBONE = "resnet-nano"
LANES = 13  # processes beside the first
PUBLISHED = "simclr", "byol", "barlow-twins", "swav", "moco-v2", "simsiam", "dino"
PATCHES = "mim-random", "mim-block", "dinov2", "msn"  # what needs a ViT
CALTECH = (
    *("simclr", "dcl", "byol", "dinov2", "vicreg", "lejepa", "swav", "deepcluster-v2", "rotation"),
    *("relative-location", "mim-random", "mim-block"),
)
SLOW = "moco-v2", "ressl", "moco-v3", "simsiam"  # what gains least on shapes in 64,000 images
KNN = "knn.k=200", "knn.temperature=0.1"  # lightly, cifar10_benchmark.py

# a suite and what overrides it, in order of value; a data set other than shapes is a folder beside this file
ASKED: dict[str, dict[str, Any]] = {
    "resnet18": {
        "method": PUBLISHED,
        "dataset": "cifar10",
        "backbone": "resnet18",
        "seeds": "0",
        "budget": "epochs=50",
        "recipe": "cifar",
        "precision": "bf16",
        "task": "knn,linear-probe",
        "set": ["train.batch=512", *KNN],
    },
    "longer": {"suite": "families", "method": SLOW, "budget": "samples=256000"},
    "cifar10": {"suite": "families", "dataset": "cifar10"},
    "shapes, conv": {"suite": "families", "backbone": BACKBONE},
    "cifar10, conv": {"suite": "families", "dataset": "cifar10", "backbone": BACKBONE},
    "caltech": {"suite": "families", "method": CALTECH, "dataset": "caltech"},
    "caltech, conv": {"suite": "families", "method": CALTECH, "dataset": "caltech", "backbone": BACKBONE},
    "mixtures": {"suite": "mixtures", "dataset": "cifar10"},
}
LARGE = "resnet18"  # what the first process does before anything else
TINY = {"seeds": "0", "untrained_seeds": "1", "budget": "steps=2", "method": ("simclr",), "set": ["train.batch=16"]}


def groups(name: str, data: Path, rehearsal: bool = False) -> list[list[Cell]]:
    """The cells of a name, those of one pretraining together."""
    asked = ASKED[name] | (TINY if rehearsal else {})
    if asked.get("backbone") == BACKBONE:
        methods = asked.get("method") or plan.suite(asked["suite"])["method"]
        asked["method"] = [one for one in methods if one not in PATCHES]
    if "dataset" in asked:
        asked["dataset"] = f"parquet:{data / asked['dataset']}"
    found = plan.cells(api.request(asked.pop("suite", ""), **asked))
    return [[*of] for _, of in groupby(found, lambda cell: cell.spec.pretraining.digest())]


def rows(cells: list[Cell], results: Path) -> Iterator[dict[str, Any]]:
    """Run what has no record yet, and give a row a cell."""
    shop, started = workshop(results, DEVICE), time.monotonic()
    for record in execute([cell for cell in cells if shop.store.find(cell.spec) is None], shop):
        p, costs = record.spec.pretraining, record.costs
        yield {
            "method": p.method,
            "backbone": p.backbone,
            "data": record.spec.data.name,
            "seed": p.seed,
            "task": record.spec.task,
            "budget": str(p.budget or "untrained"),
            "note": record.reason,
            "score": record.scores[record.headline].value if record.status == "done" else None,
            **({"seconds": costs.pretrain_seconds, "MB": costs.peak_memory_mb} if costs else {}),
            "cell seconds": round(time.monotonic() - started, 1),
        }


def lane(out: Path, results: Path, until: float, queues: list[Any]) -> None:
    """Do what the queues hold, the first one first, until the last is told that no more comes."""
    while time.time() < until and (cells := _next(queues)) is not None:
        try:
            for row in rows(cells, results):
                write(out / "results.jsonl", row)
        except Exception as error:
            p = cells[0].spec.pretraining
            write(out / "results.jsonl", {"method": p.method, "backbone": p.backbone, "note": str(error)})


def _next(queues: list[Any]) -> Any:
    for queue in queues[:-1]:
        try:
            return queue.get(timeout=0.5)
        except Empty:
            continue
    return queues[-1].get()


def main(out: Path, work: Path, seconds: float, rehearsal: bool) -> None:
    until, data, lanes = time.time() + seconds, HERE / "data", LANES
    if rehearsal:
        data, lanes = work / "cut", 1
        for folder, count in (("cifar10", 160), ("caltech", 4000)):  # fewer of the latter lack classes
            cut(HERE / "data" / folder, data / folder, count)
    context = get_context("spawn")
    large, small = context.Queue(), context.Queue()
    for name in ASKED:
        for cells in groups(name, data, rehearsal):
            (large if name == LARGE else small).put(cells)
    shared = out, work / "results", until
    workers = [context.Process(target=lane, args=(*shared, [large, small]))]
    workers += [context.Process(target=lane, args=(*shared, [small])) for _ in range(lanes)]
    for worker in workers:
        worker.start()
        small.put(None)
    for worker in workers:
        worker.join(max(until - time.time(), 0))
        worker.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), "--rehearsal" in sys.argv)
