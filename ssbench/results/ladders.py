"""Tables that differ in budget and trunk alone, in the order of what they cost. No torch."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ssbench.results.groups import Group, Place, Recipe, bare, digest, labels
from ssbench.results.standing import judging
from ssbench.results.stats import SEEDS
from ssbench.results.table import Column, Row, Table
from ssbench.results.trunks import trained


@dataclass(frozen=True)
class Rung:
    """One table's column of a task."""

    table: Table
    at: int
    trunk: str
    unit: str  # of the budget
    amount: float

    @property
    def column(self) -> Column:
        return self.table.columns[self.at]

    @cached_property
    def rows(self) -> dict[str, Row]:
        """What was trained, with enough seeds, by name; what sees labels last."""
        found = [row for row in self.table.rows if row.gflops and not row.given]
        found = [row for row in found if len(row.cells[self.at].runs) >= SEEDS]
        return {row.name: row for row in sorted(found, key=lambda row: row.control or row.labels)}

    @property
    def rivals(self) -> dict[str, Row]:
        """Those without labels."""
        return {name: row for name, row in self.rows.items() if not (row.control or row.labels)}


@dataclass(frozen=True)
class Ladder:
    """A task's columns of tables with the same data, recipe and precision, the smallest budget first."""

    title: str  # what they share
    key: str
    rungs: tuple[Rung, ...]

    @property
    def column(self) -> Column:
        return self.rungs[0].column


def ladders(found: Sequence[Group], built: Sequence[Table]) -> list[Ladder]:
    """Of groups and their tables, in the same order: those with two rungs or more."""
    alike: dict[str, list[tuple[Group, Table]]] = defaultdict(list)
    for group, table in zip(found, built):
        if (spec := trained(group)) is not None and spec.pretraining.budget:
            shared = Place.of(spec).model_copy(update={"backbone": "", "backbone_settings": {}, "preset": {}})
            recipe = Recipe.of(spec).model_copy(update={"budget": None})
            alike[shared.canonical() + recipe.canonical() + spec.pretraining.budget.unit].append((group, table))
    return [one for key, pairs in sorted(alike.items()) if len(pairs) > 1 for one in _by_task(digest(key), pairs)]


def _by_task(key: str, pairs: Sequence[tuple[Group, Table]]) -> list[Ladder]:
    specs = [spec for group, _ in pairs if (spec := trained(group)) is not None]
    trunks = [{"backbone": bare(s.pretraining.backbone), **s.pretraining.backbone_settings} for s in specs]
    names = [trunk["backbone"] for trunk in trunks]
    if len({*names}) < len({str(trunk) for trunk in trunks}):
        names = [name + label for name, label in zip(names, labels(trunks))]
    found: dict[tuple[str, int, str], list[Rung]] = defaultdict(list)
    for (_, table), spec, name in zip(pairs, specs, names):
        for at in judging(table):
            one, budget = table.columns[at], spec.pretraining.budget
            assert budget is not None
            found[one.task, one.protocol, one.metric].append(Rung(table, at, name, budget.unit, budget.amount))
    recipe = Recipe.of(specs[0]).recipe
    title = ", ".join(part for part in (specs[0].data.name, f"recipe {recipe}" if recipe else "") if part)
    return [
        Ladder(title, key, tuple(sorted(rungs, key=lambda rung: (rung.amount, rung.trunk))))
        for _, rungs in sorted(found.items())
        if len(rungs) > 1
    ]
