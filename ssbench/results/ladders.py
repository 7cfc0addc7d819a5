"""Tables that differ in budget and trunk alone: which of their columns and rows belong together. No torch."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ssbench.results.grid import largest
from ssbench.results.groups import Cells, Group, Head, Line, Place, Recipe, digest, labels
from ssbench.results.standing import judging
from ssbench.results.stats import SEEDS
from ssbench.results.table import Column, Row, Table, columns_of, lines_of
from ssbench.results.trunks import networks, trained
from ssbench.spec import Spec

LISTED = 8  # rows in a note


@dataclass(frozen=True)
class Rung:
    """One table's column of a task, and its rows that were trained and have enough seeds, by the ladder's names."""

    table: Table
    at: int
    trunk: str
    unit: str  # of the budget
    amount: float
    rows: Mapping[str, Row] = field(repr=False)

    @property
    def rivals(self) -> dict[str, Row]:
        """Those without labels."""
        return {name: row for name, row in self.rows.items() if not (row.control or row.labels)}

    @property
    def said(self) -> str:
        """`16,000 samples`."""
        return f"{self.amount:,.15g} {self.unit}"

    def cost(self, names: Iterable[str]) -> float:
        """TFLOPs of one training, mean over rows."""
        rows = [self.rows[name] for name in names]
        return sum((row.gflops or 0.0) * (row.images or 0.0) / 1e3 for row in rows) / max(len(rows), 1)


@dataclass(frozen=True)
class Ladder:
    """A task's columns of tables with the same data, recipe and precision, the smallest budget first."""

    title: str  # what they share
    key: str
    column: Column
    rungs: tuple[Rung, ...]


Kin = Sequence[tuple[Spec, Group, Table]]  # with a spec that was trained on the table's backbone


def ladders(found: Sequence[Group], built: Sequence[Table], controls: Mapping[str, str]) -> list[Ladder]:
    """Of groups and their tables, in the same order: those with two rungs or more."""
    alike: dict[str, list[tuple[Spec, Group, Table]]] = defaultdict(list)
    for group, table in zip(found, built):
        if (spec := trained(group)) is not None and spec.pretraining.budget:
            place, recipe = _shared(spec)
            alike[place.canonical() + recipe.canonical() + spec.pretraining.budget.unit].append((spec, group, table))
    several = {key: kin for key, kin in sorted(alike.items()) if len(kin) > 1}
    titles = _titles([kin[0][0] for kin in several.values()])
    return [one for (key, kin), title in zip(several.items(), titles) for one in _by_task(title, key, kin, controls)]


def common(rungs: Sequence[Rung]) -> tuple[list[Rung], list[str], list[str]]:
    """The rungs that the most methods have in common, these methods, and notes on what is left out."""
    has = {str(at): frozenset(rung.rivals) for at, rung in enumerate(rungs)}
    names = largest(has) if has else frozenset()
    kept = [rung for rung in rungs if names and names <= rung.rivals.keys()]
    left = sorted({name for rung in rungs for name in rung.rivals} - names)
    shown = ", ".join(left) if len(left) <= LISTED else f"{len(left)} methods"
    notes = [f"left out, since they have fewer than {SEEDS} seeds in a row or column: {shown}"] if left else []
    gone = ", ".join(rung.said for rung in rungs if rung not in kept)
    notes += [f"without {gone}, which not all of these methods have"] * bool(gone)
    return kept, [name for name in (kept[0].rivals if kept else ()) if name in names], notes


def _shared(spec: Spec) -> tuple[Place, Recipe]:
    place = Place.of(spec).model_copy(update={"backbone": "", "backbone_settings": {}, "preset": {}})
    return place, Recipe.of(spec).model_copy(update={"budget": None})


def _titles(specs: Sequence[Spec]) -> list[str]:
    """`shapes, recipe own`, and what else tells one from another."""
    made = []
    for spec in specs:
        source = f"pretrained on {spec.pretraining.data.name}" if spec.pretraining.data != spec.data else ""
        recipe = Recipe.of(spec).recipe
        made.append(", ".join(part for part in (spec.data.name, source, f"recipe {recipe}" * bool(recipe)) if part))
    counts = Counter(made)
    conditions = [place.shown() | recipe.shown() for place, recipe in map(_shared, specs)]
    for title in (title for title in counts if counts[title] > 1):
        places = [at for at, one in enumerate(made) if one == title]
        for at, label in zip(places, labels([conditions[at] for at in places])):
            made[at] += label
    return made


def _by_task(title: str, key: str, kin: Kin, controls: Mapping[str, str]) -> list[Ladder]:
    merged: Cells = defaultdict(list)
    for _, group, _ in kin:
        for place, runs in group.cells.items():
            merged[place] += runs
    names = dict(lines_of({line for line, _ in merged}, controls))
    found: dict[Head, list[Rung]] = defaultdict(list)
    for (spec, group, table), trunk in zip(kin, networks([spec for spec, *_ in kin])):
        heads, budget = [*columns_of(group.cells)], spec.pretraining.budget
        assert budget is not None
        lines = [line for line, _ in lines_of({line for line, _ in group.cells}, controls)]
        for at in judging(table):
            rows = _trained(names, lines, table, at)
            found[heads[at]].append(Rung(table, at, trunk, budget.unit, budget.amount, rows))
    return [
        Ladder(title, digest(key + head.canonical()), column, tuple(sorted(rungs, key=lambda r: (r.amount, r.trunk))))
        for head, column in columns_of(merged).items()
        if len(rungs := found[head]) > 1
    ]


def _trained(names: Mapping[Line, str], lines: Sequence[Line], table: Table, at: int) -> dict[str, Row]:
    """What sees labels stands last."""
    found = [(names[line], row) for line, row in zip(lines, table.rows) if line in names and row.gflops]
    found = [(name, row) for name, row in found if not row.given and len(row.cells[at].runs) >= SEEDS]
    return dict(sorted(found, key=lambda one: one[1].control or one[1].labels))
