"""Where the rates of `own` recipes come from: the same four for every method, from the shared recipe, on `select`.

    python benchmarks/rates.py RESULTS SOURCE BACKBONE [METHOD ...]

Each method of suite `families` at each rate is a trial as those of `ssbench tune` are: seed 0, the suite's budget,
linear probe, judged on `select`, the test unopened. Where the best rate is at an end, one beyond it is tried. Prints
a table in Markdown; what has a record is not run again. A method's own rate is the best, where it is CLEAR points ahead
of the shared one.
"""

import sys
from dataclasses import replace

from ssbench import api
from ssbench.plan import Cell, cells

SHARED, CLEAR = "0.0015", 1.5  # points: one standard error of a score on the 1,055 images of select of shapes
RATES = (SHARED, "0.0003", "0.0007", "0.003")  # the shared one first: what is interrupted compares all there
BEYOND = {"0.0003": "0.00015", "0.003": "0.006"}
VERSION = 1  # of the rates


def main(results: str, source: str, backbone: str, *methods: str) -> None:
    """Run the trials and print."""
    scores: dict[str, dict[str, float]] = {}
    for rate in RATES:
        run(results, source, backbone, rate, methods, scores)
    for end, rate in BEYOND.items():
        more = tuple(name for name, found in scores.items() if max(found, key=lambda one: found[one]) == end)
        if more:
            run(results, source, backbone, rate, more, scores)
    print("\n".join(table(scores)))


def run(
    results: str, source: str, backbone: str, rate: str, methods: tuple[str, ...], scores: dict[str, dict[str, float]]
) -> None:
    """Every method, or those named, at one rate; what failed has no score."""
    asked = api.request("families", dataset=source, backbone=backbone, seeds="0", task="linear-probe", recipe="shared")
    asked = asked.model_copy(update={"set": (*asked.set, f"train.lr={rate}")})
    own = [cell for cell in cells(asked) if cell.spec.pretraining.train]
    tried = [trial(cell, rate) for cell in own if not methods or cell.method.name in methods]
    for record in api.carry_out(api.ready(tried, (), results, False), "cpu").records:
        if record.status == "done":
            found = scores.setdefault(record.spec.pretraining.method, {})
            found[rate] = record.scores[record.headline].value


def trial(cell: Cell, rate: str) -> Cell:
    """The cell judged on `select`."""
    name = f"rates {VERSION}, point {[*RATES, *BEYOND.values()].index(rate) + 1}"
    return replace(cell, spec=cell.spec.model_copy(update={"trial": name}))


def table(scores: dict[str, dict[str, float]]) -> list[str]:
    """A row a method, the best first, a column a rate, and what its own recipe says."""
    rates = sorted((*RATES, *BEYOND.values()), key=float)
    lines = [f"| method | {' | '.join(rates)} | own |", "| :--- |" + " ---: |" * (len(rates) + 1)]
    for name, found in sorted(scores.items(), key=lambda one: -max(one[1].values())):
        best = max(found, key=lambda one: found[one])
        own = best if found[best] - found.get(SHARED, 0.0) >= CLEAR else "shared"
        cells_ = " | ".join(f"{found[rate]:.1f}" if rate in found else "–" for rate in rates)
        lines.append(f"| {name} | {cells_} | {own} |")
    return lines


if __name__ == "__main__":
    main(*sys.argv[1:])
