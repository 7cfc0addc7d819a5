"""Where the rates of `own` recipes come from: the same four for every method, from the shared recipe, on `select`.

    python benchmarks/rates.py RESULTS SOURCE BACKBONE [METHOD ...]

Each method of suite `families` at each rate is a trial as those of `ssbench tune` are: seed 0, the suite's budget,
linear probe, judged on `select`, the test unopened. Prints a table in Markdown; what has a record is not run again.
"""

import sys
from dataclasses import replace

from ssbench import api
from ssbench.plan import Cell, cells

RATES = ("0.0015", "0.0003", "0.0007", "0.003")  # the shared one first: what is interrupted compares all there
VERSION = 1  # of the rates


def main(results: str, source: str, backbone: str, *methods: str) -> None:
    """Run the trials and print."""
    scores: dict[str, dict[str, str]] = {}
    for rate in RATES:
        asked = api.request(
            "families", dataset=source, backbone=backbone, seeds="0", task="linear-probe", recipe="shared"
        )
        asked = asked.model_copy(update={"set": (*asked.set, f"train.lr={rate}")})
        own = [cell for cell in cells(asked) if cell.spec.pretraining.train]
        tried = [trial(cell, rate) for cell in own if not methods or cell.method.name in methods]
        for record in api.carry_out(api.ready(tried, (), results, False), "cpu").records:
            said = f"{record.scores[record.headline].value:.1f}" if record.status == "done" else record.status
            scores.setdefault(record.spec.pretraining.method, {})[rate] = said
    for line in table(scores):
        print(line)


def trial(cell: Cell, rate: str) -> Cell:
    """The cell judged on `select`."""
    name = f"rates {VERSION}, point {RATES.index(rate) + 1}"
    return replace(cell, spec=cell.spec.model_copy(update={"trial": name}))


def table(scores: dict[str, dict[str, str]]) -> list[str]:
    """A row a method, a column a rate."""
    rates = sorted(RATES, key=float)
    head = [f"| method | {' | '.join(rates)} |", "| :--- |" + " ---: |" * len(rates)]
    return head + [f"| {name} | {' | '.join(found.get(r, '-') for r in rates)} |" for name, found in scores.items()]


if __name__ == "__main__":
    main(*sys.argv[1:])
