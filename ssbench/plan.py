"""Suites and comma lists -> cells. A cell knows its whole spec; cells that share a pretraining stand together."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import Field, ValidationError, field_validator

from ssbench import recipes
from ssbench.data import identify
from ssbench.data.labelled import parse as parse_labels
from ssbench.data.shares import parse as parse_share
from ssbench.encoders.presets import PRESETS
from ssbench.errors import UserError, near
from ssbench.registry import Entry, entries, find, load, owner_of
from ssbench.settings import Settings, make, parse_assignments
from ssbench.spec import Budget, DataRef, DataSettings, EncoderSettings, Frozen, Pretraining, Reading, Spec, Train

if TYPE_CHECKING:  # planning loads torch only for encoders that are given
    from ssbench.encoders.given import Given

FIXED_SCOPES = {"train": Train, "data": DataSettings, "backbone": EncoderSettings, "encoder": Reading}
TRAINED = "pretrain_on", "budget", "share", "recipe", "precision"  # what is asked of methods that are trained
EVALUATED = ("knn", "linear-probe")  # what encoders in hand are judged by, unless said
GIVEN = Entry("ssbench.method:Given", "given", "an encoder that came with its weights", scope="given", name="given")
Scopes = Mapping[str, Mapping[str, str]]  # what was set, by scope and key
MOST_SEEDS = 1000  # in one range: more is a slip of the finger


class Suite(Frozen):
    """What to run: the cross product of its lists. A YAML file of a shipped or a user's suite has these keys."""

    method: tuple[str, ...] = ()
    encoder: tuple[str, ...] = ()  # with weights, to be judged as they are
    init: str = ""  # an encoder whose weights every trained method starts from
    task: tuple[str, ...] = Field(default=("linear-probe",), min_length=1)
    dataset: tuple[str, ...] = Field(default=("shapes",), min_length=1)
    pretrain_on: str = ""  # other data to pretrain on; empty: the data that is evaluated
    backbone: tuple[str, ...] = Field(default=("vit-nano",), min_length=1)
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    untrained_seeds: int = Field(default=0, ge=0, le=MOST_SEEDS)  # of the untrained network, from 0, beside `seeds`
    probe_seeds: int = Field(default=1, ge=1, le=MOST_SEEDS)  # how often each encoder is judged, with other draws
    budget: tuple[str, ...] = Field(default=("samples=64000",), min_length=1)
    share: tuple[str, ...] = Field(default=("100%",), min_length=1)  # how much of the images is pretrained on
    recipe: str = "own"  # whose: each method's own for such budgets, `shared`, or published ones, `cifar`, `imagenet`
    precision: str = "float32"
    labels: tuple[str, ...] = ("100%",)  # how much of what is labelled a task may see
    test_on: tuple[str, ...] = ()  # other data whose test splits judge too
    set: tuple[str, ...] = ()
    vary: dict[str, tuple[str, ...]] = {}  # scope.key -> the values it takes; each combination is a `set` of its own
    plugin: tuple[str, ...] = ()

    @field_validator("seeds", mode="before")
    @classmethod
    def _counted(cls, seeds: Any) -> list[int]:
        """`5` is a seed, `0-4` are five of them."""
        return [seed for part in (seeds if isinstance(seeds, list | tuple) else [seeds]) for seed in _range(part)]

    @field_validator("budget", "share", mode="before")
    @classmethod
    def _one_or_more(cls, found: Any) -> Any:
        return [found] if isinstance(found, str) else found


def _range(part: Any) -> range:
    """A seed, or a range with both of its ends; raises ValueError."""
    found = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", str(part).strip())
    if not found:
        raise ValueError(f"{part} is no seed: a seed is a whole number from 0, a range has two, such as 0-4")
    first, last = int(found[1]), int(found[2] or found[1])
    if not 0 <= last - first < MOST_SEEDS:
        raise ValueError(f"{part} is no range: it goes upwards and has at most {MOST_SEEDS} seeds")
    return range(first, last + 1)


@dataclass(frozen=True)
class Cell:
    """One run: its spec, and where its parts are to be had."""

    spec: Spec
    method: Entry
    task: Entry
    data: str  # the source that is evaluated
    pretrain_on: str  # the source that is pretrained on
    data_settings: DataSettings
    given: "Given | None" = None  # what its backbone names, if it is an encoder that came with weights
    test_on: str = ""  # the source of other data that judges


@dataclass(frozen=True)
class Start:
    """A backbone and the methods that are run on it; `init`: they start from its weights where they train."""

    backbone: str
    methods: tuple[Entry, ...]
    given: "Given | None" = None
    init: bool = False

    def read(self, settings: DataSettings) -> DataSettings:
        """At a given encoder's own size, unless one is set."""
        own = self.given is not None and not settings.image_size
        return settings.model_copy(update={"image_size": self.given.size}) if own and self.given else settings


def shipped() -> list[str]:
    """The names of the suites that come with the package."""
    names = (file.name for file in files("ssbench.suites").iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def suite(name: str) -> dict[str, Any]:
    """A suite's keys by its name or file; raises UserError."""
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise UserError(f"--suite {name}: there is no such file")
        text = Path(name).read_text(errors="replace")
    elif name in shipped():
        text = files("ssbench.suites").joinpath(f"{name}.yaml").read_text()
    else:
        raise UserError(f"unknown suite {name!r}{near(name, shipped())}")
    try:
        keys = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"--suite {name}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(keys, dict):
        raise UserError(f"--suite {name}: expected keys such as method, task and seeds")
    listed = {key: [value] if key in LISTS and not isinstance(value, list) else value for key, value in keys.items()}
    return listed | ({"vary": read_vary(keys["vary"], f"--suite {name}: vary")} if "vary" in keys else {})


LISTS = [name for name, field in Suite.model_fields.items() if str(field.annotation).startswith("tuple")]


def read_vary(found: Any, where: str) -> dict[str, list[str]]:
    """What varies, one value or a list of them for each key, as strings. Raises UserError naming `where`."""
    if not isinstance(found, dict):
        raise UserError(f"{where}: expected scope.key: [value, value], such as mim.mask: [random, block]")
    varied = {}
    for key, value in found.items():
        values = value if isinstance(value, list) else [value]
        if any(isinstance(one, list | dict) for one in values):
            raise UserError(f"{where}: {key}: expected plain values, such as [random, block]")
        varied[str(key)] = ["" if one is None else str(one) for one in values]
        _check_varied(f"{where}: {key}", str(key), varied[str(key)])
    return varied


def parse_vary(texts: Iterable[str]) -> dict[str, list[str]]:
    """`["mim.mask=random,block"]` -> `{"mim.mask": ["random", "block"]}`; raises UserError, also on a repeated key."""
    varied: dict[str, list[str]] = {}
    for text in texts:
        path, equals, values = text.partition("=")
        key = ".".join(part.strip() for part in path.rpartition(".")[::2])
        if not equals:
            raise UserError(f"--vary {text}: expected scope.key=value,value, such as mim.mask=random,block")
        if key in varied:
            raise UserError(f"--vary {key} is given twice; name all its values in one")
        varied[key] = [value.strip() for value in values.split(",")]
        _check_varied(f"--vary {text}", key, varied[key])
    return varied


def _check_varied(where: str, key: str, values: Iterable[str]) -> None:
    scope, _, name = key.rpartition(".")
    if not (scope and name):
        raise UserError(f"{where}: expected scope.key=value,value, such as mim.mask=random,block")
    if not all([*values] or [""]):
        raise UserError(f"{where}: a value is empty; expected scope.key=value,value, such as mim.mask=random,block")


def request(values: Mapping[str, Any], where: str) -> Suite:
    """A checked Suite; raises UserError naming the key."""
    try:
        return Suite.model_validate({str(key): value for key, value in values.items()})
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        hint = near(key, Suite.model_fields) if first["type"] == "extra_forbidden" else ""
        said = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{where}: {key}={first['input']}: {said}{hint}") from None


def cells(asked: Suite, given: "Iterable[Given]" = ()) -> list[Cell]:
    """Every cell of the cross product, once, with the controls that each comparison needs; raises UserError.

    `given` are encoders in hand, beside those that are named. Cells that share a pretraining stand together, where the
    first of them would.
    """
    starts = _starts(asked, given)
    methods = [*{entry.name: entry for start in starts for entry in start.methods}.values()]
    tasks = [find("tasks", name, asked.plugin) for name in dict.fromkeys(asked.task)]
    variants = _variants(asked)
    _check_scopes(parse_assignments(list(asked.set)), "--set", methods, tasks)
    _check_scopes({key.rpartition(".")[0]: key for key in asked.vary}, "--vary", methods, tasks)
    recipes.check(asked.recipe)
    if asked.precision not in ("float32", "bf16"):
        raise UserError(f"--precision {asked.precision}: choose float32 or bf16")
    labels = dict.fromkeys(map(parse_labels, asked.labels))
    if idle := [task.name for task in tasks if not load(task).needs and any(labels)]:
        raise UserError(f"--labels {','.join(asked.labels)}: {idle[0]} uses no labels")
    sources, seeds = dict.fromkeys(asked.dataset), dict.fromkeys((*asked.seeds, *range(asked.untrained_seeds)))
    settings = [make(DataSettings, scopes.get("data", {}), "data") for scopes in variants]
    found = cache(identify)  # once for all sizes: what is in the files does not depend on them

    def ref(source: str, read: DataSettings) -> DataRef:
        one = found(source, read.model_copy(update={"image_size": 0}))
        return one.model_copy(update={"settings": {**one.settings, "image_size": read.image_size}})

    made: dict[str, dict[str, Cell]] = {}  # by pretraining, then by cell: what a variant does not change is there once
    efforts = [*product(dict.fromkeys(map(Budget.parse, asked.budget)), dict.fromkeys(map(parse_share, asked.share)))]
    for start, source, effort, seed in product(starts, sources, efforts, seeds):
        methods_of = start.methods if seed in asked.seeds else [one for one in start.methods if untrained(one)]
        for method, (scopes, asked_for) in product(methods_of, zip(variants, settings)):
            read = start.read(asked_for)
            judged_alone = method == GIVEN or (start.given is not None and not start.init)
            origin = source if judged_alone else asked.pretrain_on or source
            first = _pretraining(method, start, ref(origin, read), effort, asked, scopes, seed)
            called = recipes.called(asked.recipe, scopes.get("train", {})) if first.train else ""
            others, probes = ["", *dict.fromkeys(asked.test_on)], range(asked.probe_seeds)
            for task, few, other, probe in product(tasks, labels, others, probes):
                tested = ref(other, read) if other else None
                spec = _spec(first, task, ref(source, read), scopes, few, tested)
                spec = spec.model_copy(update={"recipe": called, "probe": probe})
                shared = made.setdefault(first.digest(), {})
                shared.setdefault(spec.id, Cell(spec, method, task, source, origin, read, start.given, other))
    _check_used(variants, [*methods, *tasks])
    return [cell for shared in made.values() for cell in shared.values()]


def _starts(asked: Suite, given: "Iterable[Given]") -> list[Start]:
    """What is run on which backbone: the methods on each, then each given encoder beside its twin of random weights.

    Methods that start from an encoder's weights are run on its network alone, and it comes along. Raises UserError.
    """
    named = [_open(source, asked) for source in dict.fromkeys(asked.encoder)] + [*given]
    if asked.init and not asked.method:
        raise UserError(f"--init {asked.init}: no method starts from it; name one with --method, or say --encoder")
    if not (asked.method or named):
        raise UserError(
            "no method: name one with --method, such as mim-block (see ssbench list methods), "
            "or an encoder that you have with --encoder"
        )
    if not asked.method:
        _check_untrained(asked)
    starts = []
    if asked.init:
        first = _open(asked.init, asked)
        starts = [Start(first.name, (*with_controls(asked.method, asked.plugin), GIVEN), first, init=True)]
    elif asked.method:
        methods = tuple(with_controls(asked.method, asked.plugin))
        starts = [Start(backbone, methods) for backbone in dict.fromkeys(asked.backbone)]
    floors = [entry for entry in entries("methods", asked.plugin).values() if entry.control == "floor"]
    builds = [load(entry).network for entry in floors] if named else []
    for one in named:
        twins = tuple(entry for entry, network in zip(floors, builds) if network and one.architecture)
        starts.append(Start(one.name, (GIVEN, *twins), one))
    if not asked.method:
        starts.append(Start(Suite().backbone[0], tuple(entry for entry, own in zip(floors, builds) if not own)))
    return starts


def _check_untrained(asked: Suite) -> None:
    """Raises UserError for what is asked of trainings, where there are none."""
    keys = [key for key in TRAINED if getattr(asked, key) != getattr(Suite(), key)]
    said = [(key.replace("_", "-"), getattr(asked, key)) for key in keys]
    said += [(key, one) for key in ("set", "vary") for one in getattr(asked, key) if one.startswith("train.")]
    for option, found in said:
        shown = found if isinstance(found, str) else ",".join(found)
        raise UserError(f"--{option} {shown}: no method is trained; leave it out or name a method")


def _open(source: str, asked: Suite) -> "Given":
    """Where methods have a backbone of their own, `--backbone` is theirs, and a file's keys tell its network."""
    from ssbench.encoders.given import open_encoder  # loads torch and the weights

    theirs = asked.backbone == Suite().backbone or (asked.method and not asked.init)
    if not theirs and len(asked.backbone) > 1:
        raise UserError(f"--backbone {','.join(asked.backbone)}: {source} is of one network; name it alone")
    return open_encoder(source, "" if theirs else asked.backbone[0])


def _variants(asked: Suite) -> list[dict[str, dict[str, str]]]:
    """The assignments by scope of each combination of what varies, the last key fastest; raises UserError."""
    fixed = parse_assignments(list(asked.set))
    for key, values in asked.vary.items():
        _check_varied(f"--vary {key}", key, values)
        scope, _, name = key.rpartition(".")
        if name in fixed.get(scope, {}):
            raise UserError(f"{key} is in both --set and --vary; leave it out of one of them")
    texts = ([f"{key}={value}" for value in dict.fromkeys(values)] for key, values in asked.vary.items())
    return [parse_assignments([*asked.set, *combination]) for combination in product(*texts)]


def with_controls(names: Iterable[str], plugins: tuple[str, ...]) -> list[Entry]:
    """The methods asked for, then the controls that every comparison shows; raises UserError on an unknown name."""
    asked = [find("methods", name, plugins) for name in dict.fromkeys(names)]
    if all(entry.control for entry in asked):
        return asked
    controls = [entry for entry in entries("methods", plugins).values() if entry.control and entry not in asked]
    return [*asked, *controls]


def untrained(method: Entry) -> bool:
    """Whether it is a network as it was drawn, which a band of seeds shows: pixels are the same for each."""
    kind = load(method)
    return method.control == "floor" and kind.network and not kind.trains


def _check_scopes(scopes: Mapping[str, Any], option: str, methods: list[Entry], tasks: list[Entry]) -> None:
    parts = [*methods, *(member for entry in methods for member in entry.members), *tasks]
    known = {*FIXED_SCOPES, *(name for entry in parts for name in (entry.name, entry.scope))}
    for scope in scopes:
        if scope not in known:
            raise UserError(f"{option} {scope}.…: nothing called {scope!r} in this run{near(scope, known)}")


def _check_used(variants: Iterable[Scopes], parts: Iterable[Entry]) -> None:
    """Raises UserError for what was set and changes no cell: a part is not there that needs it, or a preset fixes it.

    A default passes, since a result's identity may leave it out. What is set of data, training and backbone is not
    looked at.
    """
    verdicts: dict[tuple[str, str, str], tuple[int, str]] = {}
    alone = [entry for part in parts for entry in part.members or [part]]
    for scopes, entry in product(variants, alone):
        made = recipes.settled(entry, scopes)
        for scope in dict.fromkeys((entry.scope, entry.name)):
            for key, value in scopes.get(scope, {}).items():
                verdict = _verdict(entry, made, scopes, scope, key)
                verdicts[scope, key, value] = min(verdicts.get((scope, key, value), verdict), verdict)
    for (scope, key, value), (_, trouble) in verdicts.items():
        if trouble:
            raise UserError(f"{scope}.{key}={value}: {trouble}")


def _verdict(entry: Entry, made: Settings, scopes: Scopes, scope: str, key: str) -> tuple[int, str]:
    """What one part has against what was set: nothing, that it does not use it, that its preset fixes it."""
    field = type(made).model_fields.get(key)
    if scope != entry.name and key in scopes.get(entry.name, {}):
        return 1, f"{entry.name}.{key} is set too, and counts"
    if scope != entry.name and key in entry.preset:
        return 2, f"{entry.name} fixes that setting; to change it all the same, say {entry.name}.{key}"
    if field is None or key in made.model_dump(mode="json"):
        return 0, ""
    if getattr(made, key) != field.get_default(call_default_factory=True):
        return 1, f"nothing in this run uses it ({field.description})"
    return 0, ""


def _pretraining(
    method: Entry, start: Start, data: DataRef, effort: tuple[Budget, str], asked: Suite, scopes: Scopes, seed: int
) -> Pretraining:
    kind, recipe = load(method), recipes.of(method, asked.recipe, start.backbone, start.given)
    train = make(Train, {**recipe.train, **scopes.get("train", {})}, "train")
    return Pretraining(
        method=method.name,
        owner=owner_of(method),
        version=kind.version,
        settings=recipes.settled(method, scopes, recipe.settings).model_dump(mode="json"),
        backbone=start.backbone,
        backbone_settings=_backbone_settings(start, scopes),
        data=data,
        budget=effort[0] if kind.trains else None,
        share=effort[1] if kind.trains else "",
        train=train.model_dump(mode="json") if kind.trains else None,
        seed=seed,
        precision=asked.precision,
        init=start.backbone if method == GIVEN or (start.init and kind.trains) else "",
        preset=PRESETS[start.backbone].identity if start.backbone in PRESETS else {},
    )


def _backbone_settings(start: Start, scopes: Scopes) -> dict[str, Any]:
    """With the patch that a timm name says where none is set: said or not, the same network is built."""
    found = make(EncoderSettings, scopes.get("backbone", {}), "backbone")
    if not found.patch and "patch" in start.backbone and not start.given:
        from ssbench.encoders.names import own_patch  # loads timm

        found = EncoderSettings(patch=own_patch(start.backbone))
    return found.model_dump(mode="json")


def _spec(first: Pretraining, task: Entry, data: DataRef, scopes: Scopes, labels: str, test_on: DataRef | None) -> Spec:
    return Spec(
        pretraining=first,
        task=task.name,
        protocol=load(task).version,
        task_owner=owner_of(task),
        task_settings=recipes.settled(task, scopes).model_dump(mode="json"),
        data=data,
        reading=make(Reading, scopes.get("encoder", {}), "encoder").model_dump(mode="json", exclude_defaults=True),
        labels=labels,
        test_on=test_on,
    )
