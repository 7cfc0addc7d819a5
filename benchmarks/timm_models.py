"""Which of timm's networks do as a backbone: each family's smallest ones at tiny size in each use; writes docs/timm.md.

    python benchmarks/timm_models.py [millions of parameters] [lines.jsonl]

A family is a module of timm's. Of each, the smallest network and all others below so many parameters (10 million) are
built by name with random weights, for 8 drawn images of the first of SIZES that they take, else of timm's own. A use is
`ok`, `refused` in one line before anything is trained, or `failed` in another way, which is a bug. A family is a
process with limits of memory and of time for each network. What the lines have is not tried again.
"""

import json
import re
import resource
import signal
import sys
from collections import defaultdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F

from ssbench.check import refusal
from ssbench.data import Split
from ssbench.data.sources.shapes import draw
from ssbench.encoders.build import build, unfit
from ssbench.encoders.copies import trainable
from ssbench.encoders.encoder import Encoder
from ssbench.errors import NotApplicable, UserError, one_line
from ssbench.features import LAST, represent
from ssbench.methods.contrastive.simclr import SimCLR
from ssbench.methods.mim.model import MIM
from ssbench.settings import make
from ssbench.spec import Train
from ssbench.tasks.segmentation import patch_modes
from ssbench.tasks.training import Network
from ssbench.training.loop import loop, total

METHODS: dict[str, Any] = {"simclr": SimCLR, "mim": MIM}
USES = ("knn and linear-probe", "finetune", "segmentation", "simclr", "mim")
SIZES = (32, 28, 64, 96, 128)  # px: a patch of 14 divides 28
IMAGES, BATCH = 8, 4  # a step of a method sees BATCH
SECONDS, MEMORY = 120, 10 * 2**30  # of a network, of a family
MASKED = dict.fromkeys(("deit", "eva", "vision_transformer"), 30.0)  # where masked methods work, all below these
PAGE = Path(__file__).parent.parent / "docs" / "timm.md"
Line = dict[str, Any]  # family, name, parameters; size and uses of a network that was tried


def families() -> dict[str, list[str]]:
    found = defaultdict(list)
    for name in timm.list_models():
        found[timm.model_entrypoint(name).__module__.rpartition(".")[2]].append(name)
    return dict(sorted(found.items()))


TEXT = """# What timm has

`--backbone` knows every name of timm's list: {listed} networks in {families} modules of timm {version}, here called
families. This page says how many of them do, use by use. `benchmarks/timm_models.py` wrote it.

Tried were {networks}: of each family the smallest network and all others below {most} million parameters; below
{masked} in {vits}, where masked methods work. Each was built by name as
`ssbench run` builds it, with random weights, for {images} drawn images in colour of the first of {sizes} px
that it takes with two patches a side, else of timm's own size. The latter were:
{larger}. It works where

- knn and linear-probe: every vector is finite, of the width that was said, and not the same for all images;
- finetune: a step with layer decay and drop path has a gradient in the trunk and leaves finite weights;
- segmentation: the map is finite, of that width, and masks can be brought to its places;
- simclr, mim: a step of the method has a finite loss and a gradient in the trunk.

Whether a network learns well is not asked here.

{table}

What does not work is refused in one line before anything is trained:

{why}

Two more are refused in words of their own. A method with smaller views, such as `swav`, needs a network that takes
them beside whole images; mixers, LeViT and others have one size for good. `csatv2` takes three channels and no others,
so grey images such as `digits` are none for it.
"""


class OutOfTime(BaseException):
    """Not an error that a network's own handlers would take for one of theirs."""


def said(error: BaseException) -> str:
    if isinstance(error, UserError | NotApplicable):
        return f"refused: {error}"
    if isinstance(error, OutOfTime | MemoryError) or re.search("allocate memory|map segment", str(error)):
        return "over: more time or memory than a network is given here"
    return f"failed: {type(error).__name__}: {one_line(error)}"  # type: ignore[arg-type]


def drawn(size: int) -> Split:
    scenes = draw("train", IMAGES, size)
    targets = {"label": torch.from_numpy(scenes.label), "mask": torch.from_numpy(scenes.mask)}
    return Split(torch.from_numpy(scenes.images), tuple(map(str, range(IMAGES))), targets)


def tried(name: str) -> Line:
    """What came of each use of a network, at the first size that it takes."""
    own = timm.get_pretrained_cfg(name)
    refused = ""
    for size in (*SIZES, own.input_size[-1] if own else 224):
        torch.manual_seed(0)
        try:
            encoder = build(name, size=size, channels=3, mean=torch.full((3,), 0.5), std=torch.full((3,), 0.25))
            if why := refusal(encoder, size):
                raise unfit(name, size, RuntimeError(why))
        except Exception as error:
            refused = said(error)
            continue
        if encoder.patch and encoder.patch * 2 > size:
            continue  # one patch, of which nothing can be hidden
        return {"size": size, "uses": {use: outcome(use, encoder, drawn(size)) for use in USES}}
    return {"size": 0, "uses": dict.fromkeys(USES, refused)}


def outcome(use: str, encoder: Encoder, split: Split) -> str:
    signal.alarm(SECONDS)
    try:
        if use in METHODS:
            pretrains(use, encoder, split)
        else:
            {"finetune": learns, "segmentation": maps}.get(use, reads)(encoder, split)
    except (Exception, OutOfTime) as error:
        return said(error)
    finally:
        signal.alarm(0)
    return "ok"


def reads(encoder: Encoder, split: Split) -> None:
    """Every vector that k-NN and the linear probe read is of the width that was said, finite, and of its image."""
    found = represent(encoder, split.images, lambda images: encoder.readings(images, LAST))
    assert set(encoder.poolings) <= set(found), f"{encoder.poolings} are not in {tuple(found)}"
    for name, vector in found.items():
        assert vector.shape == (IMAGES, encoder.dim), f"{name} is {tuple(vector.shape)}, not (8, {encoder.dim})"
        assert vector.isfinite().all(), f"{name} is not finite"
        assert (vector != vector[:1]).any(), f"{name} is the same for all images"


def maps(encoder: Encoder, split: Split) -> None:
    found = represent(encoder, split.images, lambda images: {"map": encoder.map(images)})["map"]
    assert found.ndim == 4 and found.shape[:2] == (IMAGES, encoder.dim), f"the map is {tuple(found.shape)}"
    assert found.isfinite().all(), "the map is not finite"
    patch_modes(split.targets["mask"].long(), found.shape[-2:], 9, 255)


def learns(encoder: Encoder, split: Split) -> None:
    """A step of fine-tuning, whose gradient reaches the trunk and leaves numbers."""
    network = Network(trainable(encoder, 0.1), 8).train()
    optimiser = torch.optim.AdamW(network.groups(1e-3, 0.75, 0.05), lr=1e-3)
    loss = F.cross_entropy(network(network.encoder.normalise(split.images)), split.targets["label"])
    assert loss.isfinite(), "the loss is not finite"
    loss.backward()
    weights = list(network.encoder.parameters())
    assert any(weight.grad is not None and weight.grad.any() for weight in weights), "no gradient reaches the trunk"
    optimiser.step()
    assert all(weight.isfinite().all() for weight in weights), "weights are not finite after a step"


def pretrains(use: str, encoder: Encoder, split: Split) -> None:
    """A step of a method, whose terms are finite and whose gradient reaches the trunk."""
    kind = METHODS[use]
    torch.manual_seed(0)
    method = kind(trainable(encoder), make(kind.Settings, {}, use), 8)
    run = loop(method.train(), split, Train(batch=BATCH), 0, "float32", torch.device("cpu"))
    loss = total(run.terms(0, 0.5))
    assert loss.isfinite(), "the loss is not finite"
    loss.backward()
    weights = list(method.encoder.parameters())
    assert any(weight.grad is not None and weight.grad.any() for weight in weights), "no gradient reaches the trunk"


def sized(names: list[str]) -> dict[str, float]:
    """Millions of parameters, without a weight in memory."""
    found = {}
    for name in names:
        with torch.device("meta"):
            found[name] = sum(weight.numel() for weight in timm.create_model(name, num_classes=0).parameters()) / 1e6
    return dict(sorted(found.items(), key=lambda item: (item[1], item[0])))


def family(module: str, most: float, file: Path) -> None:
    """Try what the file does not have. A line is written before a network, in case it ends the process, and after."""

    def stop(*_: Any) -> None:
        raise OutOfTime

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, stop)
    known = read(file)
    sizes = {name: line["parameters"] for name, line in known.items() if line["family"] == module}
    if not sizes:
        sizes = sized(families()[module])
        write(file, *({"family": module, "name": name, "parameters": size} for name, size in sizes.items()))
    for place, (name, size) in enumerate(sizes.items()):
        if "uses" in known.get(name, {}) or (place and size > max(most, MASKED.get(module, 0))):
            continue
        line = {"family": module, "name": name, "parameters": size}
        write(file, line | {"size": 0, "uses": dict.fromkeys(USES, "failed: it ended the process")})
        signal.alarm(SECONDS)
        try:
            found = tried(name)
        except (Exception, OutOfTime) as error:
            found = {"size": 0, "uses": dict.fromkeys(USES, said(error))}
        write(file, line | found)


def read(file: Path) -> dict[str, Line]:
    """The last line of each network."""
    lines = map(json.loads, file.read_text().splitlines()) if file.exists() else ()
    return {line["name"]: line for line in lines}


def write(file: Path, *lines: Line) -> None:
    with file.open("a") as out:
        out.writelines(json.dumps(line) + "\n" for line in lines)


def main(most: float, file: Path) -> None:
    for module in families():
        before = -1
        while len(known := tried_of(module, file)) > before:  # a network that ends the process is not tried again
            before = len(known)
            child = get_context("fork").Process(target=family, args=(module, most, file))
            child.start()
            child.join()
            if child.exitcode == 0:
                break
        counts = {use: sum(line["uses"][use] == "ok" for line in tried_of(module, file)) for use in USES}
        print(f"{module:<28} {len(tried_of(module, file)):>4} tried  {counts}", flush=True)
    PAGE.write_text(page(list(read(file).values()), most))


def tried_of(module: str, file: Path) -> list[Line]:
    return [line for line in read(file).values() if line["family"] == module and "uses" in line]


def page(lines: list[Line], most: float) -> str:
    """The table and the reasons, in Markdown."""
    done = [line for line in lines if "uses" in line and not any(came[:4] == "over" for came in line["uses"].values())]
    rows = []
    for module in sorted({line["family"] for line in lines}):
        listed, those = (sum(line["family"] == module for line in lines), [x for x in done if x["family"] == module])
        rows.append([module, listed, len(those), *(sum(x["uses"][use] == "ok" for x in those) for use in USES)])
    whole = ["**all**", *(sum(column) for column in list(zip(*rows))[1:])]
    where: dict[tuple[str, str], list[str]] = defaultdict(list)
    for line in done:
        for use, came in line["uses"].items():
            if came != "ok":
                where[use, came].append(line["family"])
    why = [
        f"- {use}, {len(found)} networks of {len(set(found))} families: {came.removeprefix('refused: ')}"
        for (use, came), found in sorted(where.items(), key=lambda item: (USES.index(item[0][0]), -len(item[1])))
    ]
    larger = [f"{line['name']} ({line['size']} px)" for line in done if line["size"] > max(SIZES)]
    about = {"version": timm.__version__, "most": f"{most:g}", "networks": len(done), "families": len(rows)}
    about |= {"sizes": ", ".join(map(str, SIZES)), "larger": ", ".join(sorted(larger)) or "none", "images": IMAGES}
    about |= {"masked": f"{min(MASKED.values()):g}", "vits": ", ".join(MASKED), "listed": len(lines)}
    table = [["family", "in timm", "tried", *USES], ["---", *["--:"] * (len(USES) + 2)], whole, *rows]
    text = "\n".join(f"| {' | '.join(map(str, row))} |" for row in table)
    return TEXT.format(table=text, why="\n".join(why) or "- none", **about)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(float(given[0]) if given else 10.0, Path(given[1] if len(given) > 1 else "timm_models.jsonl"))
