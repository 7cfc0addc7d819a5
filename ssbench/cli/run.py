"""`ssbench run`: the cross product of comma lists, then the table."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Exit, Option

from ssbench.errors import UserError

if TYPE_CHECKING:
    from ssbench.plan import Cell, Suite
    from ssbench.workshop import Workshop


def run(
    method: Annotated[str, Option(help="Pretraining methods, comma-separated; the controls come along.")] = "",
    encoder: Annotated[
        str, Option(help="Encoders with weights to judge beside them: timm:NAME, file:PATH, python:module:function.")
    ] = "",
    init: Annotated[str, Option(help="An encoder whose weights every method starts from.")] = "",
    task: Annotated[str, Option(help="Tasks that judge them.  [default: linear-probe]")] = "",
    dataset: Annotated[str, Option(help="Data that is evaluated, and pretrained on.  [default: shapes]")] = "",
    pretrain_on: Annotated[str, Option(help="Other data to pretrain on.")] = "",
    backbone: Annotated[str, Option(help="Presets or timm models.  [default: vit-nano]")] = "",
    seeds: Annotated[str, Option(help="Seeds and ranges of them, such as 0-4 or 0,1,7.  [default: 0,1,2]")] = "",
    budget: Annotated[
        str, Option(help="epochs=, samples=, steps=, flops= or seconds=.  [default: samples=64000]")
    ] = "",
    set_: Annotated[list[str] | None, Option("--set", help="A setting, scope.key=value; may be repeated.")] = None,
    vary: Annotated[
        list[str] | None, Option(help="A setting's values to compare, scope.key=value,value; may be repeated.")
    ] = None,
    suite: Annotated[str, Option(help="A shipped suite or a YAML file; other options override its keys.")] = "",
    plugin: Annotated[list[str] | None, Option(help="A Python file with METHODS or TASKS.")] = None,
    on_bad_image: Annotated[str, Option(help="error or skip.")] = "",
    precision: Annotated[str, Option(help="float32 or bf16.  [default: float32]")] = "",
    device: Annotated[str, Option(help="auto, cpu, cuda, mps.")] = "auto",
    results: Annotated[Path, Option(help="Folder of records, tables and caches.")] = Path("results"),
    rerun: Annotated[bool, Option("--rerun", help="Run cells again that have a record.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Print the plan and what it will cost.")] = False,
) -> None:
    """Pretrain, evaluate, record, compare. Cells that are already in the results are not run again."""
    from ssbench import plan

    lists = {
        "method": method,
        "encoder": encoder,
        "task": task,
        "dataset": dataset,
        "backbone": backbone,
        "seeds": seeds,
    }
    given: dict[str, Any] = {key: [part.strip() for part in text.split(",")] for key, text in lists.items() if text}
    given |= {
        key: value
        for key, value in {"budget": budget, "precision": precision, "pretrain_on": pretrain_on, "init": init}.items()
        if value
    }
    base = plan.suite(suite) if suite else {}
    sets = [*(set_ or []), *([f"data.on_bad_image={on_bad_image}"] if on_bad_image else [])]
    merged = {
        **base,
        **given,
        "set": [*base.get("set", []), *sets],
        "vary": {**base.get("vary", {}), **plan.parse_vary(vary or [])},
        "plugin": [*base.get("plugin", []), *(plugin or [])],
    }
    asked = plan.request(merged, f"--suite {suite}" if suite else "run")
    cells = plan.cells(asked)
    _run(asked, cells, results, device, rerun, dry_run)


def _run(asked: "Suite", cells: "list[Cell]", results: Path, device: str, rerun: bool, dry_run: bool) -> None:
    from ssbench.check import check
    from ssbench.cli.progress import Progress
    from ssbench.results.store import Store
    from ssbench.run import execute
    from ssbench.training.trained import forget
    from ssbench.workshop import Workshop
    from ssbench.workshop import device as find_device

    store = Store(results)
    store.check_writable()
    found = {} if rerun else {cell.spec.id: store.find(cell.spec) for cell in cells}
    done = {id for id, record in found.items() if record is not None and record.status != "failed"}
    todo = [cell for cell in cells if cell.spec.id not in done]
    names = _names(cells)
    failed, interrupted = 0, False
    with Progress(len(todo)) as progress:
        shop = Workshop(store, find_device(device), progress.tell)
        check(todo, shop)
        if dry_run:
            progress.close()
            _print_plan(todo, names, len(done), shop)
            return
        if rerun:
            forget(store.cache, [cell.spec.pretraining for cell in todo])
        try:
            for record in execute(todo, shop, lambda cell: progress.cell(_called(cell, names))):
                failed += record.status == "failed"
                progress.ended(record)
        except KeyboardInterrupt:
            interrupted = True
    if interrupted:
        print("ssbench: interrupted; the same command goes on from here", file=sys.stderr)
        raise Exit(130)
    _print_tables(cells, asked, store, len(done))
    if failed:
        print(f"{failed} of {len(todo)} cells failed; the same command runs them again")
        raise Exit(1)


def _called(cell: "Cell", names: dict[str, str]) -> str:
    p = cell.spec.pretraining
    return f"{names[p.digest()]} / {cell.task.name} / {cell.spec.data.name} / seed {p.seed}"


def _names(cells: "list[Cell]") -> dict[str, str]:
    """What the pretraining with a digest is called: its method, with the settings that tell it from others here."""
    from ssbench.results.groups import Line, named

    variants: dict[str, set[Line]] = {}
    for cell in cells:
        variants.setdefault(cell.method.name, set()).add(Line.of(cell.spec.pretraining))
    labels = {line: label for found in variants.values() for line, label in named(found).items()}
    each = (cell.spec.pretraining for cell in cells)
    return {p.digest(): p.method + labels[Line.of(p)] for p in each}


def _print_plan(todo: "list[Cell]", names: dict[str, str], done: int, shop: "Workshop") -> None:
    from ssbench.check import estimate
    from ssbench.registry import blame

    first = {cell.spec.pretraining.digest(): cell for cell in reversed(todo)}
    kinds: dict[str, list[Cell]] = {}
    for cell in reversed(first.values()):
        kinds.setdefault(cell.spec.pretraining.model_copy(update={"seed": 0}).digest(), []).append(cell)
    print(f"{len(todo)} cells to run, {done} already recorded; {len(first)} pretrainings")
    seconds = 0.0
    for cells in kinds.values():
        p = cells[0].spec.pretraining
        try:
            each = estimate(shop.open(cells[0]))
            seconds += each * len(cells)
            cost = f"{len(cells)} x {each:.0f} s" if each else "no training"
        except UserError:
            raise
        except Exception as error:  # a plugin may fail in any way, and its cells alone would
            cost = f"would fail: {blame(error, [cells[0].method])}"
        print(f"  {names[p.digest()]} on {p.data.name}, {p.backbone}, {p.budget or 'untrained'}: {cost}")
    print(f"pretraining about {seconds / 60:.1f} min on {shop.device}, from three timed steps each; tasks come on top")


def _print_tables(cells: "list[Cell]", asked: "Suite", store: Any, done: int) -> None:
    """What fits the terminal, or 120 characters elsewhere; the rest is in files, which `ssbench tables` writes."""
    from shutil import get_terminal_size

    from ssbench.registry import controls
    from ssbench.results.grid import grids, measures, pivots
    from ssbench.results.render import Shown, screen
    from ssbench.results.table import build

    records = [record for cell in cells if (record := store.find(cell.spec)) is not None]
    known = controls(asked.plugin)
    width = get_terminal_size().columns if sys.stdout.isatty() else 120
    for table in build(store, known, records):
        print(f"\n{screen(table, width)}")
    more: list[Shown] = [*grids(pivots(store, records)), *measures(records, known)]
    print(f"Records: {store.records} ({len(cells) - done} new). Next: ssbench tables --results {store.folder}")
    if more:
        print(f"It writes these in full, and as files in {store.tables}, with:")
    for one in more:
        print(f"  {one.slug}.md: {one.title}")
