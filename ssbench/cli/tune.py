"""`ssbench tune`: as many trials for every method, then own and tuned rows in one table."""

import sys
from pathlib import Path
from typing import Annotated

from typer import Exit, Option


def tune(
    method: Annotated[str, Option(help="Pretraining methods, comma-separated; the controls come along.")] = "",
    trials: Annotated[int, Option(help="For every method that is trained.")] = 16,
    task: Annotated[
        str, Option(help="Tasks; the first one's headline on select chooses.  \\[default: linear-probe]")
    ] = "",
    dataset: Annotated[str, Option(help="Data that is evaluated, and pretrained on.  \\[default: shapes]")] = "",
    pretrain_on: Annotated[str, Option(help="Other data to pretrain on.")] = "",
    backbone: Annotated[str, Option(help="A preset or timm model.  \\[default: vit-nano]")] = "",
    seeds: Annotated[str, Option(help="Of the final rows; trials have the first.  \\[default: 0,1,2]")] = "",
    budget: Annotated[
        str, Option(help="epochs=, samples=, steps=, flops= or seconds=.  \\[default: samples=64000]")
    ] = "",
    set_: Annotated[list[str] | None, Option("--set", help="A setting, scope.key=value; may be repeated.")] = None,
    suite: Annotated[str, Option(help="A shipped suite or a YAML file; other options override its keys.")] = "",
    plugin: Annotated[list[str] | None, Option(help="A Python file with METHODS or TASKS.")] = None,
    device: Annotated[str, Option(help="auto, cpu, cuda, mps.")] = "auto",
    results: Annotated[Path, Option(help="Folder of records, tables and caches.")] = Path("results"),
) -> None:
    """Tune every method alike: random rates and weight decays, chosen on select; the best is run on all seeds."""
    from ssbench import api
    from ssbench.cli.run import print_results
    from ssbench.results.render import markdown
    from ssbench.results.tuned import tunings
    from ssbench.tuning import tune as tune_all

    asked = api.request(
        suite,
        set=set_ or [],
        plugin=plugin or [],
        method=method,
        task=task,
        dataset=dataset,
        pretrain_on=pretrain_on,
        backbone=backbone,
        seeds=seeds,
        budget=budget,
    )
    try:
        found = tune_all(asked, trials, results, device)
    except KeyboardInterrupt:
        print("ssbench: interrupted; the same command goes on from here", file=sys.stderr)
        raise Exit(130) from None
    for frame in tunings(found.trials.settled(), found.trials.controls):
        print(f"\n{markdown(frame)}")
    for name in found.lost:
        print(f"{name} has no tuned row: none of its trials was done")
    print_results(found.rows, found.new)
