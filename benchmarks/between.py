"""How far the rows that two tables share are apart, by the tables' own test: `between.py RESULTS TABLE OTHER`.

TABLE and OTHER are slugs; the difference is OTHER's score less TABLE's, Holm over rows and columns.
"""

import sys
from pathlib import Path

from ssbench.registry import controls
from ssbench.results.stats import difference, holm
from ssbench.results.store import Store
from ssbench.results.table import Table, build


def main(results: str, first: str, second: str) -> None:
    tables: dict[str, Table] = {one.slug: one for one in build(Store.of_records(Path(results)), controls(()))}
    one, other = tables[first], tables[second]
    found = {}
    for at, column in enumerate(one.columns):
        place = next((at for at, beside in enumerate(other.columns) if beside.header == column.header), None)
        for row in one.rows if place is not None else ():
            beside = next((each for each in other.rows if each.name == row.name), None)
            gap = beside and difference(beside.cells[place].runs, row.cells[at].runs)
            if gap:
                found[f"{column.task} {row.name}"] = gap
    adjusted = holm([min(2 * min(gap.above(), 1 - gap.above()), 1.0) for gap in found.values()])
    for (name, gap), p in zip(found.items(), adjusted):
        low, high = gap.interval()
        print(f"{name}: {gap.mean:+.1f} ({low:.1f} to {high:.1f}), p {p:.2g}")


if __name__ == "__main__":
    main(*sys.argv[1:])
