"""Where the rates of `own` recipes come from: the same four for every method, from the shared recipe, on `select`.

    python benchmarks/rates.py RESULTS SOURCE BACKBONE [METHOD ...]

Each method of suite `families` at each rate is a trial as those of `ssbench tune` are: seed 0, the suite's budget,
linear probe, judged on `select`, the test unopened. Where the best rate is at an end, one beyond it is tried, and one
beyond that. Prints a table in Markdown; what has a record is not run again. A method's own rate is the best, where it
is CLEAR points ahead of the shared one; methods of one class, which has one recipe, are judged by their mean.
"""

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from ssbench import api
from ssbench.plan import Cell, cells
from ssbench.registry import find
from ssbench.results.record import Record
from ssbench.results.store import Store

SHARED, CLEAR = "0.0015", 1.5  # points: one standard error of a score on the 1,055 images of select of shapes
RATES = (SHARED, "0.0003", "0.0007", "0.003")  # the shared one first: what is interrupted compares all there
BEYOND = {"0.0003": "0.00015", "0.003": "0.006", "0.006": "0.012", "0.012": "0.024"}
ALL = (*RATES, *BEYOND.values())
VERSION = 1  # of the rates


def main(results: str, source: str, backbone: str, *methods: str) -> None:
    """Run the trials and print."""
    for rate in RATES:
        run(results, source, backbone, rate, methods)
    for end, rate in BEYOND.items():
        found = together(scores(Store(Path(results)).all(), backbone))
        more = tuple(name for name, of in found.items() if best(of) == end and name in (methods or found))
        if more:
            run(results, source, backbone, rate, more)
    print(table(Store(Path(results)).all(), backbone))


def run(results: str, source: str, backbone: str, rate: str, methods: tuple[str, ...]) -> None:
    """Every method, or those named, at one rate."""
    asked = api.request("families", dataset=source, backbone=backbone, seeds="0", task="linear-probe", recipe="shared")
    asked = asked.model_copy(update={"set": (*asked.set, f"train.lr={rate}")})
    own = [cell for cell in cells(asked) if cell.spec.pretraining.train]
    tried = [trial(cell, rate) for cell in own if not methods or cell.method.name in methods]
    api.carry_out(api.ready(tried, (), results, False), "auto")


def trial(cell: Cell, rate: str) -> Cell:
    """The cell judged on `select`."""
    name = f"rates {VERSION}, point {ALL.index(rate) + 1}"
    return replace(cell, spec=cell.spec.model_copy(update={"trial": name}))


def scores(records: Iterable[Record], backbone: str) -> dict[str, dict[str, float]]:
    """What each method has at each rate on a backbone, in the order of ALL; what failed has none."""
    found: dict[str, dict[str, float]] = {}
    done = (one for one in records if one.status == "done" and one.spec.pretraining.backbone == backbone)
    for record in sorted(done, key=lambda one: one.spec.trial):
        rate = ALL[int(record.spec.trial.rpartition(" ")[2]) - 1]
        found.setdefault(record.spec.pretraining.method, {})[rate] = record.scores[record.headline].value
    return found


def together(found: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The same, of methods of one class the mean, at the rates that all of them have."""
    classes = {name: find("methods", name).target for name in found}
    kin = {name: [found[other] for other in found if classes[other] == classes[name]] for name in found}
    return {
        name: {
            rate: fmean(one[rate] for one in kin[name]) for rate in found[name] if all(rate in one for one in kin[name])
        }
        for name in found
    }


def best(found: dict[str, float]) -> str:
    """The rate, of equals the first of ALL."""
    return max(found, key=lambda rate: found[rate])


def own(found: dict[str, float]) -> str:
    """The rate that stands in a method's file, or SHARED."""
    return best(found) if max(found.values()) - found[SHARED] >= CLEAR else SHARED


def table(records: Iterable[Record], backbone: str) -> str:
    """A row a method, the best first, a column a rate, and what its own recipe says."""
    tried = scores(records, backbone)
    chosen = {name: own(found) for name, found in together(tried).items()}
    rates = sorted({rate for found in tried.values() for rate in found}, key=float)
    lines = [f"| method | {' | '.join(rates)} | own |", "|---" * (len(rates) + 2) + "|"]
    for name, found in sorted(tried.items(), key=lambda one: -max(one[1].values())):
        told = " | ".join(f"{found[rate]:.1f}" if rate in found else "–" for rate in rates)
        lines.append(f"| `{name}` | {told} | {chosen[name].replace(SHARED, 'shared')} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
