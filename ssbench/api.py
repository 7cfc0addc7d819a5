"""`ssbench.run`, and what it shares with the command line: words -> suite -> cells -> records -> results.

What needs torch is imported inside the functions, so that a wrong word is said at once.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssbench import plan
from ssbench.errors import UserError
from ssbench.progress import Progress
from ssbench.registry import controls, load
from ssbench.results import codes
from ssbench.results.frame import framed
from ssbench.results.groups import Line, named, tuned
from ssbench.results.record import Record
from ssbench.results.render import html, screen
from ssbench.results.store import Store
from ssbench.results.table import Table, build

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from ssbench.workshop import Workshop

Words = str | int | Iterable[str | int]  # `a,b` or a list of them, or one
Assigned = str | Mapping[str, Any] | Iterable[str]  # {"scope.key": value}, or the command line's scope.key=value
Paths = str | Path | Iterable[str | Path]
STATUSES = "done", "failed", "not-applicable"  # in the order of a summary


def run(
    methods: Words = "",
    tasks: Words = "",
    dataset: Words = "",
    *,
    encoders: Words = "",
    init: str = "",
    pretrain_on: str = "",
    backbone: Words = "",
    labels: Words = "",
    test_on: Words = "",
    seeds: Words = "",
    untrained_seeds: Words = "",
    probe_seeds: Words = "",
    budget: Words = "",
    share: Words = "",
    match: str = "",
    set: Assigned = (),
    vary: Assigned = (),
    suite: str | Path = "",
    plugins: Paths = (),
    recipe: str = "",
    precision: str = "",
    device: str = "auto",
    results: str | Path = "results",
    on_collapse: str = "go-on",
    judge_every: int = 0,
    rerun: bool = False,
) -> "Results":
    """`ssbench run` from Python: the cross product of what is named, with the controls; the same words and records.

    Lists may be lists, comma lists or one value; what is left empty is the suite's, else the command line's default
    (see `ssbench run --help`). `set={"train.lr": 1e-3}` sets, `vary={"mim.mask": ["random", "block"]}` compares.
    Cells that are in `results` already are not run again, unless with `rerun`. A line a cell goes to standard error,
    since a run takes minutes. A cell that fails is a record that says why. Raises UserError where the words or the
    data are wrong, with the command line's text.
    """
    asked = request(
        suite,
        set=set,
        vary=vary,
        plugin=plugins,
        method=methods,
        encoder=encoders,
        init=init,
        task=tasks,
        dataset=dataset,
        pretrain_on=pretrain_on,
        backbone=backbone,
        labels=labels,
        test_on=test_on,
        seeds=seeds,
        untrained_seeds=untrained_seeds,
        probe_seeds=probe_seeds,
        budget=budget,
        share=share,
        recipe=recipe,
        precision=precision,
    )
    asked = matched(asked, match, results, device)
    return carry_out(ready(plan.cells(asked), asked.plugin, results, rerun), device, on_collapse, judge_every)


def evaluate(
    module: "nn.Module",
    tasks: Words = "",
    dataset: Words = "",
    *,
    name: str = "",
    labels: Words = "",
    test_on: Words = "",
    seeds: Words = "",
    set: Assigned = (),
    plugins: Paths = (),
    device: str = "auto",
    results: str | Path = "results",
    rerun: bool = False,
) -> "Results":
    """Judge a module in hand as `ssbench eval` judges an encoder by name, beside the controls that need no training.

    It gives vectors (B, D), tokens (B, T, D) or a map (B, D, h, w) for normalised images (B, C, H, W); `mean`, `std`
    and `size` are its own where it has such attributes, else ImageNet's and 224 px. It is copied, not changed. In
    tables it is called `name`, or by its class. Raises UserError.
    """
    from ssbench.encoders.given import of_module

    asked = request(
        set=set,
        plugin=plugins,
        task=tasks or plan.EVALUATED,
        dataset=dataset,
        labels=labels,
        test_on=test_on,
        seeds=seeds,
    )
    given = of_module(module, f"module:{name or type(module).__name__}")
    return carry_out(ready(plan.cells(asked, [given]), asked.plugin, results, rerun), device)


@dataclass(frozen=True, repr=False)
class Results:
    """What a run gives: the records of the cells that were asked for, in the plan's order, and where they stand."""

    records: tuple[Record, ...]
    store: Store
    controls: Mapping[str, str]  # and what each is, a floor or a ceiling

    def settled(self) -> list[Record]:
        """The records, with today's code where others of the folder show that theirs gives the same."""
        older = any(map(codes.changed, self.records))
        known = [*self.store.all(), *codes.witnesses(self.store)] if older else ()
        return codes.settled(self.records, known)

    def frame(self) -> "pd.DataFrame":
        """A row for each record and metric, with the columns of `ssbench.frame`."""
        return framed(self.records)

    def tables(self) -> list[Table]:
        """Mean ± deviation over seeds, tested against the controls. Raises UserError on predictions that are gone."""
        return build(self.store, self.controls, self.settled())

    def __repr__(self) -> str:
        return "\n\n".join([self._summary(), *map(screen, self.tables())])

    def _repr_html_(self) -> str:
        return f"<div><p>{escape(self._summary())}</p>\n{''.join(map(html, self.tables()))}</div>"

    def _summary(self) -> str:
        """`8 cells: 7 done, 1 failed; records in results/records`."""
        counts = Counter[str](record.status for record in self.records)
        parts = [f"{counts[status]} {status.replace('-', ' ')}" for status in STATUSES if counts[status]]
        cells = f"{len(self.records)} cell{'s' * (len(self.records) != 1)}"
        return f"{cells}: {', '.join(parts)}; records in {self.store.records}"


@dataclass(frozen=True)
class Work:
    """The cells that are asked for, those of them that have no record yet, and where records stand."""

    cells: list[plan.Cell]
    todo: list[plan.Cell]
    names: Mapping[str, str]  # what the pretraining with a digest is called
    controls: Mapping[str, str]
    store: Store
    rerun: bool


def request(
    suite: str | Path = "", *, set: Assigned = (), vary: Assigned = (), plugin: Paths = (), **given: Words
) -> plan.Suite:
    """What is asked, checked: a suite's keys, overridden by what is `given` and not empty.

    What is set, varied and plugged in is added to the suite's. Raises UserError.
    """
    base = plan.suite(str(suite)) if suite else {}
    own = {key: _listed(value) if key in plan.LISTS else value for key, value in given.items() if not _empty(value)}
    merged = {
        **base,
        **own,
        "set": [*base.get("set", []), *_assigned(set)],
        "vary": {**base.get("vary", {}), **_varied(vary)},
        "plugin": [*base.get("plugin", []), *map(str, _each(plugin))],
    }
    return plan.request(merged, f"--suite {suite}" if suite else "run")


def matched(asked: plan.Suite, match: str, results: str | Path, device: str) -> plan.Suite:
    """What is asked, with a budget that makes methods equal in `match`, `samples` or `flops`; raises UserError."""
    if match not in ("", "samples", "flops"):
        raise UserError(f"--match {match}: choose samples or flops; for equal time, --budget seconds=600")
    if match != "flops":
        return asked
    from ssbench import matching

    with Progress(1) as progress:
        return matching.matched(asked, Store(Path(results)), device, progress.say)


def ready(cells: list[plan.Cell], plugins: tuple[str, ...], results: str | Path, rerun: bool) -> Work:
    """Which cells are to run: those without a record or with a failed one, or all again. Raises UserError.

    A trial that has failed is not tried again: every method has as many.
    """
    store = Store(Path(results))
    store.check_writable()
    store.check_current()
    found = {} if rerun else {cell.spec.id: store.find(cell.spec) for cell in cells}
    done = {id for id, r in found.items() if r is not None and (r.status != "failed" or r.spec.trial)}
    todo = [cell for cell in cells if cell.spec.id not in done]
    return Work(cells, todo, _names(cells), controls(plugins), store, rerun)


def opened(work: Work, device: str, progress: Progress, on_collapse: str = "go-on", judge_every: int = 0) -> "Workshop":
    """The workshop of a work's cells, once nothing is wrong with any that is to run; raises UserError."""
    from ssbench.check import check
    from ssbench.workshop import Workshop
    from ssbench.workshop import device as find_device

    if on_collapse not in ("stop", "go-on"):
        raise UserError(f"--on-collapse {on_collapse}: choose stop or go-on")
    if judge_every < 0:
        raise UserError(f"--judge-every {judge_every}: a number of steps, or 0 for the quarters alone")
    if judge_every and not any(cell.spec.pretraining.budget for cell in work.cells):
        raise UserError(f"--judge-every {judge_every}: nothing is trained, so there is nothing to look at on the way")
    where = find_device(device)
    shop = Workshop(work.store, where, progress.tell, progress.say, on_collapse == "stop", judge_every)
    check(work.todo, shop)
    return shop


def carry_out(work: Work, device: str, on_collapse: str = "go-on", judge_every: int = 0) -> Results:
    """Run what is to run and collect the records of all cells. Raises UserError; what failed is a record."""
    from ssbench.line import execute
    from ssbench.training.trained import forget

    with Progress(len(work.todo)) as progress:
        shop = opened(work, device, progress, on_collapse, judge_every)
        if work.rerun:
            forget(work.store.cache, [cell.spec.pretraining for cell in work.todo])
        for record in execute(work.todo, shop, lambda cell: progress.cell(_called(cell, work.names))):
            progress.ended(record)
    records = (work.store.find(cell.spec) for cell in work.cells)
    return Results(tuple(record for record in records if record is not None), work.store, work.controls)


def _names(cells: list[plan.Cell]) -> dict[str, str]:
    """By the digest of a pretraining: what tables call it, with the settings that tell it from others here."""
    networks = {cell.method.name: bool(load(cell.method).network) for cell in cells}
    each = {cell.spec.pretraining.digest(): cell.spec.pretraining for cell in cells}
    lines = {digest: Line.of(p, given=networks[p.method]) for digest, p in each.items()}
    variants: dict[str, set[Line]] = {}
    for line in lines.values():
        variants.setdefault(line.title, set()).add(line)
    labels = {line: label for found in variants.values() for line, label in named(found).items()}
    return {digest: line.title + labels[line] for digest, line in lines.items()}


def _called(cell: plan.Cell, names: Mapping[str, str]) -> str:
    p = cell.spec.pretraining
    few = f" with labels of {cell.spec.labels}" if cell.spec.labels else ""
    other = f" on {cell.spec.test_on.name}" if cell.spec.test_on else ""
    how = f" ({cell.spec.trial})" if cell.spec.trial else ", tuned" * bool(tuned(cell.spec.recipe))
    again = f", probe seed {cell.spec.probe}" if cell.spec.probe else ""
    row, judged = f"{names[p.digest()]}{p.part}{how}", f"{cell.task.name}{few}{other} / {cell.spec.data.name}"
    return f"{row} / {judged} / seed {p.seed}{again}"


def _empty(value: object) -> bool:
    """Whether an option was left out: an empty list was not."""
    return value is None or (isinstance(value, str) and not value)


def _listed(value: Words) -> list[Any]:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else _each(value)


def _each(value: Any) -> list[Any]:
    """One value or several: text is one."""
    return [*value] if isinstance(value, Iterable) and not isinstance(value, str | Path) else [value]


def _varied(given: Assigned) -> dict[str, list[str]]:
    if not isinstance(given, Mapping):
        return plan.parse_vary(_each(given))
    return plan.read_vary({key: _each(values) for key, values in given.items()}, "vary")


def _assigned(given: Assigned) -> list[str]:
    """`{"knn.k": 5}` -> `["knn.k=5"]`, a list as its comma list; the command line's form stays."""
    if not isinstance(given, Mapping):
        return _each(given)
    return [f"{key}={','.join(map(str, _each(value)))}" for key, value in given.items()]
