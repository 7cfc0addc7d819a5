"""Suites and comma lists -> cells. A cell knows its whole spec; cells that share a pretraining stand together."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from ssbench.data import identify
from ssbench.errors import UserError, near
from ssbench.registry import Entry, entries, find, load
from ssbench.settings import make, parse_assignments
from ssbench.spec import Budget, DataRef, DataSettings, EncoderSettings, Frozen, Pretraining, Spec, Train

FIXED_SCOPES = {"train": Train, "data": DataSettings, "backbone": EncoderSettings}


class Suite(Frozen):
    """What to run: the cross product of its lists. A YAML file of a shipped or a user's suite has these keys."""

    method: tuple[str, ...] = ()
    task: tuple[str, ...] = Field(default=("linear-probe",), min_length=1)
    dataset: tuple[str, ...] = Field(default=("shapes",), min_length=1)
    pretrain_on: str = ""  # other data to pretrain on; empty: the data that is evaluated
    backbone: tuple[str, ...] = Field(default=("vit-nano",), min_length=1)
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    budget: str = "samples=64000"
    precision: str = "float32"
    set: tuple[str, ...] = ()
    vary: dict[str, tuple[str, ...]] = {}  # scope.key -> the values it takes; each combination is a `set` of its own
    plugin: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One run: its spec, and where its parts are to be had."""

    spec: Spec
    method: Entry
    task: Entry
    data: str  # the source that is evaluated
    pretrain_on: str  # the source that is pretrained on
    data_settings: DataSettings


def shipped() -> list[str]:
    """The names of the suites that come with the package."""
    return sorted(
        file.name.removesuffix(".yaml") for file in files("ssbench.suites").iterdir() if file.name.endswith(".yaml")
    )


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
    listed = {key: [value] if key in _LISTS and not isinstance(value, list) else value for key, value in keys.items()}
    return listed | ({"vary": _varied(keys["vary"], f"--suite {name}: vary")} if "vary" in keys else {})


_LISTS = [name for name, field in Suite.model_fields.items() if str(field.annotation).startswith("tuple")]


def _varied(found: Any, where: str) -> dict[str, list[str]]:
    """A file's `vary`: one value or a list of them for each key, as strings. Raises UserError."""
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
        raise UserError(f"{where}: {key}={first['input']}: {first['msg']}{hint}") from None


def cells(asked: Suite) -> list[Cell]:
    """Every cell of the cross product, once, with the controls that each comparison needs; raises UserError.

    Cells that share a pretraining stand together, where the first of them would.
    """
    methods = with_controls(asked.method, asked.plugin)
    tasks = [find("tasks", name, asked.plugin) for name in dict.fromkeys(asked.task)]
    variants = _variants(asked)
    _check_scopes(parse_assignments(list(asked.set)), "--set", methods, tasks)
    _check_scopes({key.rpartition(".")[0]: key for key in asked.vary}, "--vary", methods, tasks)
    if asked.precision not in ("float32", "bf16"):
        raise UserError(f"--precision {asked.precision}: choose float32 or bf16")
    backbones, sources, seeds = dict.fromkeys(asked.backbone), dict.fromkeys(asked.dataset), dict.fromkeys(asked.seeds)
    refs: dict[tuple[str, DataSettings], DataRef] = {}
    settings = [make(DataSettings, scopes.get("data", {}), "data") for scopes in variants]
    for key in product(dict.fromkeys([*sources, asked.pretrain_on or asked.dataset[0]]), dict.fromkeys(settings)):
        refs[key] = identify(*key)
    made: dict[str, dict[str, Cell]] = {}  # by pretraining, then by cell: what a variant does not change is there once
    for backbone, source, seed, method in product(backbones, sources, seeds, methods):
        origin = asked.pretrain_on or source
        for scopes, read in zip(variants, settings):
            first = _pretraining(method, backbone, refs[origin, read], asked, scopes, seed)
            for task in tasks:
                spec = _spec(first, task, refs[source, read], scopes)
                shared = made.setdefault(first.digest(), {})
                shared.setdefault(spec.id, Cell(spec, method, task, source, origin, read))
    planned = [cell for shared in made.values() for cell in shared.values()]
    _check_used(asked, planned)
    return planned


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
    if not asked:
        raise UserError("no method: name one with --method, such as mim-block; see ssbench list methods")
    if all(entry.control for entry in asked):
        return asked
    controls = [entry for entry in entries("methods", plugins).values() if entry.control and entry not in asked]
    return [*asked, *controls]


def _check_scopes(scopes: Mapping[str, Any], option: str, methods: list[Entry], tasks: list[Entry]) -> None:
    known = {*FIXED_SCOPES, *(name for entry in [*methods, *tasks] for name in (entry.name, entry.scope))}
    for scope in scopes:
        if scope not in known:
            raise UserError(f"{option} {scope}.…: nothing called {scope!r} in this run{near(scope, known)}")


def _check_used(asked: Suite, planned: Iterable[Cell]) -> None:
    """Raises UserError for what was set and changes no cell: a part is not there that needs it, or a preset fixes it.

    A default passes, since a result's identity may leave it out.
    """
    both = (((c.method, c.spec.pretraining.settings), (c.task, c.spec.task_settings)) for c in planned)
    parts = {(entry.name, str(settings)): (entry, settings) for pair in both for entry, settings in pair}.values()
    varied = (("--vary", f"{key}={value}") for key, values in asked.vary.items() for value in values)
    for option, text in [*(("--set", text) for text in asked.set), *varied]:
        ((scope, values),) = parse_assignments([text]).items()
        if scope in FIXED_SCOPES:
            continue
        (key,) = values
        named = [(entry, settings) for entry, settings in parts if scope in (entry.name, entry.scope)]
        open_to = [(entry, settings) for entry, settings in named if scope == entry.name or key not in entry.preset]
        if not open_to:
            name = named[0][0].name
            raise UserError(f"{option} {text}: {name} fixes that setting; to change it all the same, say {name}.{key}")
        model = load(open_to[0][0]).Settings  # those of one scope have one
        is_default = getattr(make(model, values, scope), key) == model.model_fields[key].default
        if not is_default and not any(key in settings for _, settings in open_to):
            raise UserError(f"{option} {text}: nothing in this run uses it ({model.model_fields[key].description})")


def _pretraining(
    method: Entry, backbone: str, data: DataRef, asked: Suite, scopes: Mapping[str, Mapping[str, Any]], seed: int
) -> Pretraining:
    kind = load(method)
    # a preset is what its name says: only its own name, not its family's scope, changes what it fixes
    values = {**scopes.get(method.scope, {}), **method.preset, **scopes.get(method.name, {})}
    train = make(Train, scopes.get("train", {}), "train")
    return Pretraining(
        method=method.name,
        owner=_owner(method),
        version=kind.version,
        settings=make(kind.Settings, values, method.name).model_dump(mode="json"),
        backbone=backbone,
        backbone_settings=make(EncoderSettings, scopes.get("backbone", {}), "backbone").model_dump(mode="json"),
        data=data,
        budget=Budget.parse(asked.budget) if kind.trains else None,
        train=train.model_dump(mode="json") if kind.trains else None,
        seed=seed,
        precision=asked.precision,
    )


def _spec(first: Pretraining, task: Entry, data: DataRef, scopes: Mapping[str, Mapping[str, Any]]) -> Spec:
    kind = load(task)
    values = {**scopes.get(task.scope, {}), **task.preset, **scopes.get(task.name, {})}
    settings = make(kind.Settings, values, task.name).model_dump(mode="json")
    return Spec(
        pretraining=first,
        task=task.name,
        protocol=kind.version,
        task_owner=_owner(task),
        task_settings=settings,
        data=data,
    )


def _owner(entry: Entry) -> str:
    """The package's name without its version, or a plugin file's name and the start of its content's SHA-256."""
    file = Path(entry.owner)
    if not file.is_file():
        return entry.owner.split()[0]
    return f"{file.name}@{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}"
