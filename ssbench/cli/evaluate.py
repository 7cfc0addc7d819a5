"""`ssbench eval`: judge encoders that people already have."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from ssbench.cli.run import Labels, TestOn


def evaluate(
    encoder: Annotated[str, Argument(help="timm:NAME, file:PATH or python:module:function, comma-separated.")],
    task: Annotated[str, Option(help="Tasks that judge them.  \\[default: knn,linear-probe]")] = "",
    dataset: Annotated[str, Option(help="Data that they are judged on.  \\[default: shapes]")] = "",
    backbone: Annotated[str, Option(help="The timm network of a file; its keys tell it as a rule.")] = "",
    labels: Labels = "",
    test_on: TestOn = "",
    seeds: Annotated[str, Option(help="Seeds and ranges of them, such as 0-4 or 0,1,7.  \\[default: 0,1,2]")] = "",
    set_: Annotated[list[str] | None, Option("--set", help="A setting, scope.key=value; may be repeated.")] = None,
    plugin: Annotated[list[str] | None, Option(help="A Python file with METHODS or TASKS.")] = None,
    device: Annotated[str, Option(help="auto, cpu, cuda, mps.")] = "auto",
    results: Annotated[Path, Option(help="Folder of records, tables and caches.")] = Path("results"),
    rerun: Annotated[bool, Option("--rerun", help="Run cells again that have a record.")] = False,
) -> None:
    """The short form of `ssbench run --encoder`: nothing is trained but probes, and controls come along."""
    from ssbench.cli.run import run
    from ssbench.plan import EVALUATED

    run(
        encoder=encoder,
        task=task or ",".join(EVALUATED),
        dataset=dataset,
        backbone=backbone,
        labels=labels,
        test_on=test_on,
        seeds=seeds,
        set_=set_,
        plugin=plugin,
        device=device,
        results=results,
        rerun=rerun,
    )
