"""`ssbench run`: the cross product of comma lists, then the table."""

import sys
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

from typer import Exit, Option

if TYPE_CHECKING:
    from ssbench.api import Results, Work
    from ssbench.plan import Cell

Encoder = Annotated[
    str, Option(help="Encoders with weights, beside them: timm:NAME, file:PATH, python:module:function.")
]
Labels = Annotated[
    str, Option(help="How much labelled data tasks see: shares or numbers a class, 1%,10%,4.  \\[default: 100%]")
]
Budget = Annotated[
    str, Option(help="epochs=, samples=, steps=, flops= or seconds=; several with commas.  \\[default: samples=64000]")
]
Share = Annotated[
    str, Option(help="How much of the images is pretrained on, such as 10%; several with commas.  \\[default: 100%]")
]
Match = Annotated[
    str, Option(help="samples, or flops: all get what the first method takes for the budget.  \\[default: samples]")
]
Recipe = Annotated[str, Option(help="own, shared, cifar or imagenet: whose rates and schedules.  \\[default: own]")]
Collapse = Annotated[str, Option(help="stop or go-on, where a pretraining looks collapsed.")]
Judged = Annotated[
    int, Option(min=0, help="Steps between looks at each training, such as what neighbours tell; 0: at its quarters.")
]
Vary = Annotated[
    list[str] | None, Option(help="A setting's values to compare, scope.key=value,value; may be repeated.")
]
Probes = Annotated[
    str, Option(help="How often each encoder is judged, with other draws of the task's.  \\[default: 1]")
]
Untrained = Annotated[
    str,
    Option(help="Seeds of the untrained network, for a band of them behind each task.  \\[default: those of --seeds]"),
]
TestOn = Annotated[str, Option(help="Other data whose test splits judge too, comma-separated.")]


def run(
    method: Annotated[str, Option(help="Pretraining methods, comma-separated; the controls come along.")] = "",
    encoder: Encoder = "",
    init: Annotated[str, Option(help="An encoder whose weights every method starts from.")] = "",
    task: Annotated[str, Option(help="Tasks that judge them.  \\[default: linear-probe]")] = "",
    dataset: Annotated[str, Option(help="Data that is evaluated, and pretrained on.  \\[default: shapes]")] = "",
    pretrain_on: Annotated[str, Option(help="Other data to pretrain on.")] = "",
    backbone: Annotated[str, Option(help="Presets or timm models.  \\[default: vit-nano]")] = "",
    labels: Labels = "",
    test_on: TestOn = "",
    seeds: Annotated[str, Option(help="Seeds and ranges of them, such as 0-4 or 0,1,7.  \\[default: 0,1,2]")] = "",
    untrained_seeds: Untrained = "",
    probe_seeds: Probes = "",
    budget: Budget = "",
    share: Share = "",
    match: Match = "",
    recipe: Recipe = "",
    set_: Annotated[list[str] | None, Option("--set", help="A setting, scope.key=value; may be repeated.")] = None,
    vary: Vary = None,
    suite: Annotated[str, Option(help="A shipped suite or a YAML file; other options override its keys.")] = "",
    plugin: Annotated[list[str] | None, Option(help="A Python file with METHODS or TASKS.")] = None,
    on_bad_image: Annotated[str, Option(help="error or skip.")] = "",
    precision: Annotated[str, Option(help="float32 or bf16.  \\[default: float32]")] = "",
    device: Annotated[str, Option(help="auto, cpu, cuda, mps.")] = "auto",
    results: Annotated[Path, Option(help="Folder of records, tables and caches.")] = Path("results"),
    on_collapse: Collapse = "go-on",
    judge_every: Judged = 0,
    rerun: Annotated[bool, Option("--rerun", help="Run cells again that have a record.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Print the plan and what it will cost.")] = False,
) -> None:
    """Pretrain, evaluate, record, compare. Cells that are already in the results are not run again."""
    from ssbench import api, plan

    asked = api.request(
        suite,
        set=[*(set_ or []), *([f"data.on_bad_image={on_bad_image}"] if on_bad_image else [])],
        vary=vary or [],
        plugin=plugin or [],
        method=method,
        encoder=encoder,
        init=init,
        task=task,
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
    asked = api.matched(asked, match, results, device)
    work = api.ready(plan.cells(asked), asked.plugin, results, rerun)
    if dry_run:
        _print_plan(work, device, on_collapse)
    else:
        _carry_out(work, device, on_collapse, judge_every)


def _carry_out(work: "Work", device: str, on_collapse: Collapse, judge_every: int) -> None:
    """Run it and print the tables."""
    from ssbench import api

    try:
        found = api.carry_out(work, device, on_collapse, judge_every)
    except KeyboardInterrupt:
        on = "--rerun begins again, what is done is on record" if work.rerun else "the same command goes on from here"
        print(f"ssbench: interrupted; {on}", file=sys.stderr)
        raise Exit(130) from None
    print_results(found, len(work.todo))


def _print_plan(work: "Work", device: str, on_collapse: Collapse) -> None:
    from ssbench.api import opened
    from ssbench.check import estimate, task_seconds
    from ssbench.errors import UserError
    from ssbench.progress import Progress
    from ssbench.registry import blame

    with Progress(len(work.todo)) as progress:
        shop = opened(work, device, progress, on_collapse)
    first = {cell.spec.pretraining.digest(): cell for cell in reversed(work.todo)}
    kinds: dict[str, list[Cell]] = {}
    for cell in reversed(first.values()):
        kinds.setdefault(cell.spec.pretraining.model_copy(update={"seed": 0}).digest(), []).append(cell)
    recorded = len(work.cells) - len(work.todo)
    print(f"{len(work.todo)} cells to run, {recorded} already recorded; {len(first)} pretrainings")
    seconds, tasks = 0.0, 0.0
    for cells in kinds.values():
        p = cells[0].spec.pretraining
        try:
            each = estimate(shop.open(cells[0]))
            cost = f"{len(cells)} x {each:.0f} s" if each else "no training"
            costs, made = dict[str, float](), set[str]()
            for cell in (one for one in work.todo if one.spec.pretraining == p):
                costs[cell.task.name] = costs.get(cell.task.name, 0.0) + task_seconds(shop.open(cell), made)
            cost += "".join(f"; {name} {len(cells)} x {one:.0f} s" for name, one in costs.items())
            seconds, tasks = seconds + each * len(cells), tasks + sum(costs.values()) * len(cells)
        except UserError:
            raise
        except Exception as error:  # a plugin may fail in any way, and its cells alone would
            cost = f"would fail: {blame(error, [cells[0].method])}"
        print(f"  {work.names[p.digest()]} on {p.data.name}, {p.backbone}, {p.effort}: {cost}")
    print(
        f"pretraining about {seconds / 60:.1f} min on {shop.device}, from three timed steps each; "
        f"tasks about {tasks / 60:.1f} min, from what they count"
    )


def print_results(found: "Results", new: int) -> None:
    """The tables; the rest is in files, which `ssbench tables` writes. Exit status 1 where a cell failed."""
    from ssbench.results.grid import grids, measures, pivots
    from ssbench.results.groups import groups
    from ssbench.results.profiles import profiles
    from ssbench.results.render import Shown, screen, width
    from ssbench.results.verdict import verdict

    for table in found.tables():
        print(f"\n{screen(table)}")
        print(*(fill(line, width(), break_on_hyphens=False) for line in verdict(table)), "", sep="\n")
    store, known, parted = found.store, found.controls, groups(found.settled())
    more: list[Shown] = [*grids(pivots(store, parted)), *measures(parted, known), *profiles(parted, known)]
    print(f"Records: {store.records} ({new} new). Next: ssbench tables --results {store.folder}")
    if more:
        print(f"It writes these in full, and as files in {store.tables}, with:")
    for one in more:
        print(f"  {one.slug}.md: {one.title}")
    failed = sum(record.status == "failed" for record in found.records)
    if failed:
        print(f"{failed} of {new} cells failed; the same command runs them again")
        raise Exit(1)
