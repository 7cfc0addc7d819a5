"""Tables that differ in trunk and budget, or share of the images, alone: which columns and rows belong together.

No torch.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ssbench.results.grid import largest
from ssbench.results.groups import Cells, Group, Head, Line, Place, Recipe
from ssbench.results.naming import digest, labels
from ssbench.results.standing import judging
from ssbench.results.stats import SEEDS
from ssbench.results.table import Column, Row, Table, columns_of, lines_of, rows_of
from ssbench.results.trunks import networks, trained
from ssbench.spec import Spec

LISTED = 8  # rows in a note
SHARE = "% of the images"


@dataclass(frozen=True)
class Rung:
    """One table's column of a task, and its rows that were trained and have enough seeds, by the ladder's names."""

    table: Table
    at: int
    trunk: str
    unit: str  # of the budget, or SHARE
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
    """A task's columns of tables with the same data, recipe and precision, the smallest budget or share first."""

    title: str  # what they have in common
    key: str
    column: Column
    rungs: tuple[Rung, ...]

    @property
    def by(self) -> str:
        """In what its rungs differ, `share` or `budget`."""
        return "share" if self.rungs[0].unit == SHARE else "budget"


class Step(NamedTuple):
    """Where a table stands on a ladder, and which that is."""

    unit: str
    amount: float
    alike: tuple[Place, Recipe]  # of all its rungs
    same: str  # what the title says of these

    @property
    def key(self) -> str:
        place, recipe = self.alike
        return place.canonical() + recipe.canonical() + self.unit


Kin = Sequence[tuple[Spec, Step, Group, Table]]  # with a spec that was trained on the table's backbone


def ladders(found: Sequence[Group], built: Sequence[Table], controls: Mapping[str, str]) -> list[Ladder]:
    """Of groups and their tables, in the same order: those by budget, then those by share, with two rungs or more."""
    made = []
    for step_of in (_budget, _share):
        alike: dict[str, list[tuple[Spec, Step, Group, Table]]] = defaultdict(list)
        for group, table in zip(found, built):
            if (spec := trained(group)) is not None and (step := step_of(spec)) is not None:
                alike[step.key].append((spec, step, group, table))
        several = {key: kin for key, kin in sorted(alike.items()) if len(kin) > 1}
        titles = _titles([kin[0][:2] for kin in several.values()])
        for (key, kin), title in zip(several.items(), titles):
            made += _by_task(title, key, kin, controls)
    return made


def common(rungs: Sequence[Rung]) -> tuple[list[Rung], list[str], list[str]]:
    """The rungs that the most methods have in common, these methods, and notes on what is left out."""
    has = {str(at): frozenset(rung.rivals) for at, rung in enumerate(rungs)}
    names = largest(has) if has else frozenset()
    kept = [rung for rung in rungs if names and names <= rung.rivals.keys()]
    left = sorted({name for rung in rungs for name in rung.rivals} - names)
    shown = ", ".join(left) if len(left) <= LISTED else f"{len(left)} methods"
    notes = [f"left out, since they have fewer than {SEEDS} seeds in a row or column: {shown}"] if left else []
    several = len({rung.trunk for rung in rungs}) > 1
    gone = ", ".join(rung.said + f" on {rung.trunk}" * several for rung in rungs if rung not in kept)
    notes += [f"without {gone}, which not all of these methods have"] * bool(gone)
    return kept, [name for name in (kept[0].rivals if kept else ()) if name in names], notes


def _budget(spec: Spec) -> Step | None:
    p, recipe = spec.pretraining, Recipe.of(spec).model_copy(update={"budget": None})
    same = p.part.removeprefix(" of ")
    return Step(p.budget.unit, p.budget.amount, (_place(spec), recipe), same) if p.budget else None


def _share(spec: Spec) -> Step | None:
    p, recipe = spec.pretraining, Recipe.of(spec).model_copy(update={"share": ""})
    amount = float((p.share or "100%").rstrip("%"))
    return Step(SHARE, amount, (_place(spec), recipe), str(p.budget)) if p.budget else None


def _place(spec: Spec) -> Place:
    return Place.of(spec).model_copy(update={"backbone": "", "backbone_settings": {}, "preset": {}})


def _titles(first: Sequence[tuple[Spec, Step]]) -> list[str]:
    """`shapes, recipe own`, and what else tells one from another."""
    made = []
    for spec, step in first:
        source = f"pretrained on {spec.pretraining.data.name}" if spec.pretraining.data != spec.data else ""
        recipe = Recipe.of(spec).recipe
        parts = spec.data.name, source, f"recipe {recipe}" * bool(recipe), step.same
        made.append(", ".join(part for part in parts if part))
    counts = Counter(made)
    conditions = [place.shown() | recipe.shown() for place, recipe in (step.alike for _, step in first)]
    for title in (title for title in counts if counts[title] > 1):
        places = [at for at, one in enumerate(made) if one == title]
        for at, label in zip(places, labels([conditions[at] for at in places])):
            made[at] += label
    return made


def _by_task(title: str, key: str, kin: Kin, controls: Mapping[str, str]) -> list[Ladder]:
    merged: Cells = defaultdict(list)
    for *_, group, _ in kin:
        for place, runs in group.cells.items():
            merged[place] += runs
    names = dict(lines_of({line for line, _ in merged}, controls))
    found: dict[Head, list[Rung]] = defaultdict(list)
    for (_, step, group, table), trunk in zip(kin, networks([spec for spec, *_ in kin])):
        heads = [*columns_of(group.cells)]
        lines = rows_of(group, controls)
        for at in judging(table):
            rows = _trained(names, lines, table, at)
            found[heads[at]].append(Rung(table, at, trunk, step.unit, step.amount, rows))
    return [
        Ladder(title, digest(key + head.canonical()), column, tuple(sorted(rungs, key=lambda r: (r.amount, r.trunk))))
        for head, column in columns_of(merged).items()
        if _compare(rungs := found[head])
    ]


def _compare(rungs: Sequence[Rung]) -> bool:
    """Whether there is something to compare: trunks at one share are compared by budget already."""
    alone = rungs and rungs[0].unit == SHARE and len({rung.trunk for rung in rungs}) == len(rungs)
    return len(rungs) > 1 and not alone


def _trained(names: Mapping[Line, str], lines: Sequence[Line], table: Table, at: int) -> dict[str, Row]:
    """What sees labels stands last."""
    found = [(names[line], row) for line, row in zip(lines, table.rows) if line in names and row.gflops]
    found = [(name, row) for name, row in found if not row.given and len(row.cells[at].runs) >= SEEDS]
    return dict(sorted(found, key=lambda one: one[1].control or one[1].labels))
