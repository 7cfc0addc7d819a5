"""`ssbench list`: what there is, without importing any of it."""

from enum import StrEnum
from typing import Annotated

from typer import Argument, Option


class What(StrEnum):
    methods = "methods"
    tasks = "tasks"
    datasets = "datasets"
    backbones = "backbones"
    suites = "suites"
    departures = "departures"


def listing(
    what: Annotated[What, Argument(help="What to list.")],
    plugin: Annotated[list[str] | None, Option(help="A Python file with METHODS or TASKS.")] = None,
) -> None:
    """List methods, tasks, datasets, backbones or suites, or in what methods depart from their published code."""
    if what is What.departures:
        from ssbench.departures import page
        from ssbench.registry import entries

        print(page({name: entry.compared for name, entry in entries("methods", tuple(plugin or ())).items()}))
        return
    rows = _rows(what, tuple(plugin or ()))
    width = max(len(row[0]) for row in rows)
    for name, text in rows:
        print(f"{name:<{width}}  {text}")


def _rows(what: What, plugins: tuple[str, ...]) -> list[tuple[str, str]]:
    if what is What.datasets:
        from ssbench.data import SOURCES

        return list(SOURCES.items())
    if what is What.backbones:
        from ssbench.encoders.presets import PRESETS

        more = ("any timm model", "such as resnet18, convnext_atto or vit_small_patch16_224")
        return [*((name, preset.summary) for name, preset in PRESETS.items()), more]
    if what is What.suites:
        from ssbench.plan import shipped, suite

        return [(name, ", ".join(f"{key} {value}" for key, value in suite(name).items())) for name in shipped()]
    from ssbench.registry import entries

    found = entries("methods" if what is What.methods else "tasks", plugins).values()
    return [(e.name, f"{e.family}: {e.summary}" + ("" if e.owner == "ssbench" else f" [{e.owner}]")) for e in found]
