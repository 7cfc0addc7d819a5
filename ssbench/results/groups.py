"""What may share a table, and how it is called: values with named fields, compared by what is in them. No torch.

A table has one evaluation data set, pretraining data, backbone, budget, recipe and precision; its rows are methods and
then controls, its columns the headlines of tasks. What still differs is shown in brackets, never averaged away.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from pydantic import SerializerFunctionWrapHandler, model_serializer

from ssbench.results.codes import for_a_mean, of_one_code
from ssbench.results.naming import digest, labels, slugged
from ssbench.results.record import Record
from ssbench.spec import Budget, DataRef, Frozen, Pretraining, Space, Spec

DIAGNOSTICS = "diagnostics"  # the task whose scores are predictors, and judge nothing
SIZES = ("image_size", "store_size")  # settings of data that say at how many px it is read
TUNED = re.compile(r"^tuned \(\d+ trials?\)")  # of the methods' own recipes
K = TypeVar("K", bound="Key")


class Key(Frozen):
    """A value that may hold settings and yet be a key: two are one where their JSON is, and it orders them."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and type(self) is type(other) and self.canonical() == other.canonical()

    def __hash__(self) -> int:
        return hash(self.canonical())

    def __lt__(self, other: "Key") -> bool:
        return self.canonical() < other.canonical()

    def shown(self) -> dict[str, Any]:
        """Name -> value, flat, for labels."""
        raise NotImplementedError


class Place(Key):
    """The conditions that every row of a table shares, whether it was trained or not."""

    data: DataRef
    pretraining: DataRef
    backbone: str
    backbone_settings: dict[str, Any]
    preset: dict[str, Any]
    precision: str

    @classmethod
    def of(cls, spec: Spec) -> "Place":
        p = spec.pretraining
        return cls(
            data=spec.data,
            pretraining=p.data,
            backbone=p.backbone,
            backbone_settings=p.backbone_settings,
            preset=p.preset,
            precision=p.precision,
        )

    def shown(self) -> dict[str, Any]:
        scopes = {"data": self.data.settings, "pretraining": self.pretraining.settings}
        return {
            "data": self.data.name,
            "data.fingerprint": self.data.fingerprint,
            "data.version": self.data.version,
            "pretraining": self.pretraining.name,
            "pretraining.fingerprint": self.pretraining.fingerprint,
            "pretraining.version": self.pretraining.version,
            "backbone": self.backbone,
            "precision": self.precision,
            **_scoped(scopes | {"backbone": {**self.backbone_settings, **self.preset}}),
        }


class Recipe(Key):
    """The conditions of those that were trained; both are None for those that were not.

    What was tuned from a recipe stands beside what has it.
    """

    budget: Budget | None
    train: dict[str, Any] | None  # empty where each method has its own
    recipe: str = ""
    share: str = ""  # of the images

    @classmethod
    def of(cls, spec: Spec) -> "Recipe":
        p = spec.pretraining
        train = {} if spec.recipe else p.train
        return cls(budget=p.budget, train=train, recipe=_untuned(spec.recipe), share=p.share)

    def shown(self) -> dict[str, Any]:
        budget = self.budget and f"{self.budget.unit}={self.budget.amount!r}"
        own = {key: value for key, value in (("recipe", self.recipe), ("share", self.share)) if value}
        return {"budget": budget, **own, **_scoped({"train": self.train or {}})}

    @model_serializer(mode="wrap")
    def _lean(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a `share` that is empty: names of files are older than it."""
        return {key: value for key, value in whole(self).items() if key != "share" or value}


class Line(Key):
    """A row: a method and what tells it from another row of the same method."""

    method: str
    settings: dict[str, Any] = {}
    version: int = 1
    owner: str = ""
    given: bool = False  # an encoder that came with its weights
    encoder: str = ""  # the network, where it is another one than the table's
    size: int = 0  # px of the images, where it is another one than the table's
    patch: int | None = None  # px that were asked for, where the table's own rows were fitted in another way
    tuned: str = ""  # `tuned (16 trials)`, where the table's recipe is another one
    values: dict[str, Any] = {}  # that were chosen then

    @classmethod
    def of(
        cls, p: Pretraining, *, given: bool = False, size: int = 0, patch: int | None = None, recipe: str = ""
    ) -> "Line":
        """`given`: its network is not the table's."""
        own = p.budget is None and bool(p.init)
        chosen = {key: (p.train or {}).get(key) for key in Space.model_fields} if tuned(recipe) else {}
        return cls(
            method=p.method,
            settings=p.settings,
            version=p.version,
            owner=p.owner,
            given=own,
            encoder=p.backbone if given and _brought(p) else "",
            size=size,
            patch=patch,
            tuned=tuned(recipe),
            values=chosen,
        )

    @property
    def title(self) -> str:
        """What it is called: a given encoder by its source's name, its untrained twin as such."""
        px = f" ({self.size} px)" if self.size else ""
        if self.given:
            return (bare(self.encoder) or "as given") + px
        how = f", {self.tuned}" if self.tuned else ""
        return self.method + (f" of {bare(self.encoder)}" if self.encoder else "") + px + how

    def shown(self) -> dict[str, Any]:
        patch = {} if self.patch is None else {"backbone.patch": self.patch}
        known = {"loss version": self.version, "owner": self.owner, "encoder": self.encoder}
        return {**self.settings, **known, **patch, **_scoped({"train": self.values})}


class Head(Key):
    """A column: a task under one protocol, and what tells it from another column of the same task."""

    task: str
    protocol: int
    settings: dict[str, Any]
    owner: str

    @classmethod
    def of(cls, spec: Spec) -> "Head":
        read: dict[str, Any] = {f"encoder.{key}": value for key, value in spec.reading.items()}
        read |= {"labels": spec.labels} if spec.labels else {}
        read |= {"tested on": spec.test_on.name, "tested on data": spec.test_on.digest()} if spec.test_on else {}
        return cls(task=spec.task, protocol=spec.protocol, settings=spec.task_settings | read, owner=spec.task_owner)

    def __lt__(self, other: Key) -> bool:
        assert isinstance(other, Head)
        return self._order < other._order

    @property
    def _order(self) -> tuple[str, int, bool, float, str]:
        """Numbers of labels a class, then shares, the fewest first, all of them last."""
        labels = str(self.settings.get("labels", "100%"))
        return self.task, self.protocol, labels.endswith("%"), float(labels.rstrip("%")), self.canonical()

    def shown(self) -> dict[str, Any]:
        known = {key: value for key, value in self.settings.items() if key != "tested on data"}
        return {"labels": "100%", "tested on": "its own test", **known, "owner": self.owner}


@dataclass(frozen=True)
class Group:
    """Records that were made under the same conditions: one table's. `label` tells its title from that of another.

    Encoders that came with their weights, and their twins, stand in every table of the data they were judged on, at a
    size of their own. `place` is what the other rows share; None: there are no others.
    """

    slug: str
    label: str
    records: tuple[Record, ...]
    place: Place | None

    def line(self, record: Record) -> Line:
        """The row of a record."""
        p, place = record.spec.pretraining, self.place
        away = place is None or p.backbone != place.backbone
        sized = place is None or record.spec.data != place.data
        size = int(record.data.get("size", 0)) if sized and (place is None or _guest(record)) else 0
        network = bool(record.costs.parameters or p.init)  # a failed run has no costs
        fitted = _guest(record) and network and (place is None or p.backbone_settings != place.backbone_settings)
        patch = p.backbone_settings.get("patch") if fitted else None
        return Line.of(p, given=away and network, size=size, patch=patch, recipe=record.spec.recipe)

    @cached_property
    def cells(self) -> "Cells":
        """The records by row and column.

        A seed stands once: pixels without a network come with every table's backbone, and are the same. So does a code.
        """
        cells: Cells = defaultdict(list)
        for record in sorted(self.records, key=lambda r: (r.spec.pretraining.seed, _visits(r, self.place), r.spec.id)):
            if not record.spec.probe:
                cells[self.line(record), Head.of(record.spec)].append(record)
        return {key: for_a_mean(found) for key, found in cells.items()}

    @property
    def shown(self) -> list[Record]:
        """The records that its cells have: one a seed, of one code."""
        return [record for runs in self.cells.values() for record in runs]

    def probed(self) -> "dict[Head, list[list[Record]]]":
        """By column, the records of one encoder each that was judged several times, with other draws of the task's."""
        again = {record.spec.pretraining.digest() for record in self.records if record.spec.probe}
        found: dict[Head, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
        for record in self.records:
            if record.status == "done" and (pretraining := record.spec.pretraining.digest()) in again:
                found[Head.of(record.spec)][pretraining].append(record)
        return {head: [of_one_code(runs) for runs in several.values()] for head, several in found.items()}


Cells = dict[tuple[Line, Head], list[Record]]  # in the order of seeds


def tuned(recipe: str) -> str:
    """`tuned (16 trials)` of a recipe that starts so; empty of others."""
    found = TUNED.match(recipe)
    return found[0] if found else ""


def _untuned(recipe: str) -> str:
    return TUNED.sub("own", recipe)


def bare(encoder: str) -> str:
    """`file:vit.pth` of `file:vit.pth@0123456789abcdef`."""
    return re.sub(r"@[0-9a-f]{16}", "", encoder)


def _brought(p: Pretraining) -> bool:
    """Whether its network is named by weights that somebody has, not by a name of timm's or a preset's."""
    return ":" in p.backbone


def _guest(record: Record) -> bool:
    """Whether it stands in tables of other networks too: what came with its weights, and what they are measured by."""
    return record.spec.pretraining.budget is None and _brought(record.spec.pretraining)


def groups(records: Iterable[Record], trials: bool = False) -> list[Group]:
    """The records of each table, by slug; of two with the same spec the last one counts.

    Trials of tuning stand in no table beside others: there are these alone, or the others.
    """
    by_slug = defaultdict(list)
    for place, group in _groups({one.spec.id: one for one in records if bool(one.spec.trial) == trials}.values()):
        by_slug[_slug(place, group[0].spec)].append((place, group))
    made = []
    for slug, found in by_slug.items():
        specs = [group[0].spec for _, group in found]
        conditions = [Place.of(spec).shown() | Recipe.of(spec).shown() for spec in specs]
        for (place, group), condition, label in zip(found, conditions, labels(conditions)):
            suffix = f"-{digest(condition)}" if len(found) > 1 else ""
            made.append(Group(slug + suffix, label, tuple(group), place))
    return sorted(made, key=lambda group: group.slug)


def _groups(records: Iterable[Record]) -> list[tuple[Place | None, list[Record]]]:
    """Records of one table each. What was not trained has no budget and stands in every table of its place.

    It stands there under the tasks and protocols of those that were trained, else in a table of its own. Guests come
    to every table of their data, and have one of their own where there is none with a network.
    """
    trained: dict[tuple[Place, Recipe], list[Record]] = defaultdict(list)
    untrained: dict[Place, list[Record]] = defaultdict(list)
    guests: dict[str, list[Record]] = defaultdict(list)  # by data, whatever its size
    for record in records:
        place, recipe = Place.of(record.spec), Recipe.of(record.spec)
        if _guest(record):
            guests[_data(record.spec)].append(record)
        else:
            (untrained[place] if recipe.budget is None else trained[place, recipe]).append(record)
    made: list[tuple[Place | None, list[Record]]] = []
    shown = set()
    for (place, _), group in trained.items():
        heads = {Head.of(record.spec) for record in group}
        beside = [r for r in untrained[place] + guests[_data(group[0].spec)] if Head.of(r.spec) in heads]
        made.append((place, group + beside))
        shown |= {record.spec.id for record in beside}
    left = {place: [r for r in group if r.spec.id not in shown] for place, group in untrained.items()}
    for place, group in left.items():
        visit = [r for r in guests[_data(group[0].spec)] if r.spec.id not in shown] if group else []
        if any(record.costs.parameters for record in group) or (group and not visit):
            made.append((place, group + visit))
            shown |= {record.spec.id for record in visit}
    for data, group in guests.items():
        alone = [r for r in group if r.spec.id not in shown]
        heads = {Head.of(record.spec) for record in alone}
        pixels = [r for found in left.values() for r in found if not r.costs.parameters and _data(r.spec) == data]
        made += [(None, alone + [r for r in pixels if Head.of(r.spec) in heads])] if alone else []
    return made


def _data(spec: Spec) -> str:
    """What is evaluated, at whatever size."""
    settings = {key: value for key, value in spec.data.settings.items() if key not in SIZES}
    return spec.data.model_copy(update={"settings": settings}).canonical()


def _visits(record: Record, place: Place | None) -> bool:
    return place is not None and Place.of(record.spec) != place


def _scoped(scopes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{scope}.{key}": value for scope, values in scopes.items() for key, value in values.items()}


def _slug(place: Place | None, spec: Spec) -> str:
    p = spec.pretraining
    if place is None:
        return slugged(f"{spec.data.name} given encoders")
    source = f" from {p.data.name}" if p.data != spec.data else ""
    return slugged(f"{spec.data.name} {bare(p.backbone)} {p.effort}{source}")


def heading(group: Group, seeds: list[int]) -> str:
    """`shapes, vit-nano (patch 8, 4 x 4, width 96), samples=64000, 3 seeds`; `seeds` are the numbers of them, by size.

    Without any, the conditions alone.
    """
    spec, p = group.records[0].spec, group.records[0].spec.pretraining
    source = f"pretrained on {p.data.name}" if p.data != spec.data else ""
    span = " to ".join(str(count) for count in sorted({*seeds[:1], *seeds[-1:]}))
    count = f"{span} seed{'s' * (seeds[-1] > 1)}" if seeds else ""
    network = ("from " * bool(p.init) + bare(p.backbone) + _built(group), p.effort)
    sizes = {record.data["size"] for record in group.records if "size" in record.data and not _guest(record)}
    pixels = f"{sizes.pop()} px" if group.place and len(sizes) == 1 else ""  # else rows have sizes of their own
    recipe = next((f"recipe {_untuned(one.spec.recipe)}" for one in group.records if one.spec.recipe), "")
    parts = (spec.data.name, pixels, source, *(network if group.place else ("given encoders",)), recipe, count)
    return ", ".join(part for part in parts if part) + group.label


def _built(group: Group) -> str:
    """` (patch 8, 4 x 4, width 96)`: what the backbone's name stood for, where records say so and networks agree."""
    backbone = group.records[0].spec.pretraining.backbone
    own = (record for record in group.records if record.spec.pretraining.backbone == backbone)
    learnt = (record for record in own if record.costs.parameters)
    found = {record.pretrained["built"] for record in learnt if "built" in record.pretrained}
    return f" ({found.pop()})" if len(found) == 1 else ""


def named(keys: Iterable[K]) -> dict[K, str]:
    """Key -> label, for the variants of one method or task, in their order."""
    order = sorted({*keys})
    return dict(zip(order, labels([key.shown() for key in order])))
