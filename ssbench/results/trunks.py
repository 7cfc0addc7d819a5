"""Records -> what the backbone does to the order of methods: a task's scores, methods by backbones. No torch."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations
from statistics import fmean

from ssbench.results.grid import Frame, Value, scored
from ssbench.results.groups import Cells, Group, Head, Place, Recipe, bare
from ssbench.results.naming import canonical, digest, labels, slugged
from ssbench.results.ranks import paired
from ssbench.results.table import Column, columns_of, lines_of
from ssbench.spec import Spec

NOTE = (
    "Kendall's tau-b of methods' means over seeds, without controls, with the 95 % interval of resampled rows, where "
    "these differ"
)


def trunks(found: Iterable[Group], controls: Mapping[str, str]) -> list[Frame]:
    """A frame for each task by which two backbones or more were judged, all else alike: rows by backbones."""
    alike: dict[str, list[Group]] = defaultdict(list)
    for group in found:
        if (spec := trained(group)) is not None:
            place = Place.of(spec).model_copy(update={"backbone": "", "backbone_settings": {}, "preset": {}})
            alike[place.canonical() + Recipe.of(spec).canonical()].append(group)
    return [
        frame
        for key, kin in sorted(alike.items())
        for frame in (_frames(kin, digest(key), controls) if len(kin) > 1 else [])
    ]


def networks(specs: Iterable[Spec]) -> list[str]:
    """What the backbone of each spec is called, with what tells it from another of that name."""
    each = [spec.pretraining for spec in specs]
    whole = [{"backbone": p.backbone, **p.backbone_settings, **p.preset} for p in each]
    names = [bare(p.backbone) for p in each]
    if len({*names}) == len({*map(canonical, whole)}):
        return names
    known = [*{canonical(one): one for one in whole}.values()]
    told = dict(zip(map(canonical, known), labels(known)))
    return [name + told[canonical(one)] for name, one in zip(names, whole)]


def trained(group: Group) -> Spec | None:
    """The spec of a row that was trained on the table's backbone."""
    specs = (record.spec for record in group.records)
    return next((one for one in specs if one.pretraining.budget is not None and Place.of(one) == group.place), None)


def _frames(found: list[Group], key: str, controls: Mapping[str, str]) -> Iterable[Frame]:
    names = networks([spec for group in found if (spec := trained(group)) is not None])
    by_trunk = [_own(group) for group in found]
    merged: Cells = defaultdict(list)
    for cells in by_trunk:
        for at, runs in cells.items():
            merged[at] += runs
    for head, column in columns_of(merged).items():
        there = [(name, cells) for name, cells in zip(names, by_trunk) if any(at == head for _, at in cells)]
        if len(there) > 1:
            yield _frame(found[0], key, head, column, dict(there), controls)


def _own(group: Group) -> Cells:
    """What was done by the table's own rows: guests have a network of their own."""
    cells = {at: [one for one in runs if one.status == "done"] for at, runs in group.cells.items()}
    return {(line, head): runs for (line, head), runs in cells.items() if runs and not (line.given or line.encoder)}


def _frame(
    group: Group, key: str, head: Head, column: Column, by_trunk: Mapping[str, Cells], controls: Mapping[str, str]
) -> Frame:
    lines = {line for cells in by_trunk.values() for line, at in cells if at == head}
    rows = []
    for line, label in lines_of(lines, controls):
        if line in lines:
            runs = [cells.get((line, head), []) for cells in by_trunk.values()]
            rows.append((Value(label), *(scored(column, one) for one in runs)))
    sign = -1 if column.score and column.score.better == "lower" else 1
    means = {
        name: {
            line: sign * fmean(run.scores[column.metric].value for run in runs)
            for (line, at), runs in cells.items()
            if at == head and line.method not in controls
        }
        for name, cells in by_trunk.items()
    }
    orders = [
        f"the order by {one} and by {other}: {paired(means[one], means[other], key).text}"
        for one, other in combinations(means, 2)
    ]
    conditions = _conditions(group)
    slug = slugged(f"{conditions} {column.task} {column.protocol} by backbone {key}")
    title = f"{conditions}: {column.header} by backbone"
    return Frame(slug, title, ("method", *by_trunk), tuple(rows), (*orders, NOTE))


def _conditions(group: Group) -> str:
    """`shapes, samples=64000, recipe own`: what its rows share beside the backbone."""
    spec = trained(group) or group.records[0].spec
    p = spec.pretraining
    source = f"pretrained on {p.data.name}" if p.data != spec.data else ""
    own = Recipe.of(spec).recipe  # of tuned rows, the one that they started from
    recipe = f"recipe {own}" if own else ""
    return ", ".join(part for part in (spec.data.name, source, p.effort, recipe) if part)
