"""The code that a record follows from, as digests of its syntax, a part each: the method, the task, parts of the spine.

Two codes are one where nothing but comments, docstrings, layout, the names of locals and the texts of errors differ,
and what is declared of settings and recipes, whose values a spec holds. Nothing is run.
"""

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import TypeVar

from ssbench.errors import UserError
from ssbench.registry import Entry, Kind, find
from ssbench.spec import DataRef, Pretraining, Spec

Documented = TypeVar("Documented", ast.Module, ast.ClassDef, ast.FunctionDef)
SHOWN = 16  # hexadecimal digits
NUMBERED = "local "  # no name in Python has a space
AROUND = ("ssbench.mixture", "ssbench.lightning")  # of the spine, but of some methods alone
TRAINING = (
    *("method", "rng", "teacher", "data.shares"),
    *(f"training.{name}" for name in ("artifacts", "loop", "optimisers", "trained", "views")),
)
NETWORK = tuple(
    f"encoders.{name}" for name in ("architecture", "build", "copies", "encoder", "names", "presets", "start")
)
GIVEN = tuple(f"encoders.{name}" for name in ("checkpoints", "foreign", "given", "layouts", "shapes"))
SPLITS = ("data", *(f"data.{name}" for name in ("elsewhere", "inner", "labelled", "splits")))
DRAWN = tuple(f"data.sources.{name}" for name in ("digits", "drawn", "looks", "photographs", "shapes"))
READ = (
    *(f"data.{name}" for name in ("decode", "depth", "labels", "listing", "masks", "pixels", "stored", "survey")),
    *(f"data.sources.{name}" for name in ("boxes", "coco", "columns", "files", "folder", "huggingface", "layout")),
    *(f"data.sources.{name}" for name in ("metadata", "names", "pairs", "parquet", "rows", "sheets", "table")),
    *(f"data.sources.{name}" for name in ("vision", "voc")),
)
FEATURES = ("features", "windows")
SCORES = (*FEATURES, "line", "task", "results.metrics")  # without intervals, which verify makes of predictions again
# Digests of code that is the same under another: `scores` had the file of intervals in it.
RENAMED = {"1caf271d275673a8": "adcbd26979146100"}


def digests(spec: Spec, method: Entry, task: Entry) -> dict[str, str]:
    """Part -> digest of its code as it is now; raises LookupError where a file is not there."""
    return {**_spine_of(spec), "method": of_method(method), "task": _module(task.target)}


def now(spec: Spec) -> dict[str, str]:
    """The digests of a spec's code as it is now, of a method and a task where they are ssbench's.

    Others' may lie anywhere; what a file of theirs held is a part of the spec.
    """
    p, found = spec.pretraining, _spine_of(spec)
    if p.owner == "ssbench" and (method := _entry("methods", p.method)):
        found["method"] = of_method(method)
    if spec.task_owner == "ssbench" and (task := _entry("tasks", spec.task)):
        found["task"] = _module(task.target)
    return found


@lru_cache
def _entry(kind: Kind, name: str) -> Entry | None:
    try:
        return find(kind, name)
    except UserError:
        return None


def _spine_of(spec: Spec) -> dict[str, str]:
    p = spec.pretraining
    read = tuple(_data(ref) for ref in (p.data, spec.data, *filter(None, [spec.test_on])))
    return {**_trained_by(p), "data": _sum(read), "scores": _spine(SCORES)}


def of_encoder(p: Pretraining, method: Entry) -> str:
    """The digest of all the code that a pretrained encoder follows from."""
    return _sum((*_trained_by(p).values(), of_method(method), _data(p.data)))


def of_features(data: DataRef) -> str:
    """The digest of the code that turns images of some data into an encoder's features."""
    return _sum((_spine(NETWORK + GIVEN), _data(data), _spine(FEATURES)))


def _trained_by(p: Pretraining) -> dict[str, str]:
    network = {"network": _spine(NETWORK + (GIVEN if p.init or ":" in p.backbone else ()))}
    return network | ({"training": _spine(TRAINING)} if p.budget else {})


def _data(ref: DataRef) -> str:
    return _spine(SPLITS + (DRAWN if ref.name == "digits" or ref.fingerprint.startswith("drawn-") else READ))


def of_method(entry: Entry) -> str:
    """The digest of a method's own code: its file, what that imports of its package, and that of a mixture's parts."""
    found = (*(_module(member.target) for member in entry.members), _module(entry.target))
    return _sum(found) if entry.members else found[0]


@lru_cache
def _sum(parts: tuple[str, ...]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:SHOWN]


@lru_cache
def _spine(names: tuple[str, ...]) -> str:
    return _sum(tuple(f"{name} {_of_file(_file(f'ssbench.{name}'))}" for name in sorted(names)))


@lru_cache
def _module(target: str) -> str:
    """Of an entry's module and what it imports of its own package."""
    name = target.partition(":")[0]
    return _sum(tuple(f"{module} {_of_file(_file(module))}" for module in sorted(_closure(name))))


def _closure(name: str) -> set[str]:
    """Modules of the package of `name`, and of AROUND, that it imports by and by."""
    found, left = set(), {name}
    own = ".".join(name.split(".")[:2]) if name.startswith("ssbench.") else name.partition(".")[0]
    while left:
        module = left.pop()
        found.add(module)
        near = {one for one in _imported(module) if one.startswith(f"{own}.") or one in AROUND}
        left |= {one for one in near - found if _there(one)}
    return found


def _imported(module: str) -> Iterator[str]:
    file = _file(module)
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module or ""
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))


def _there(module: str) -> bool:
    try:
        return bool(_file(module))
    except LookupError:
        return False


@lru_cache
def _file(module: str) -> Path:
    """Where a module is; raises LookupError. Nothing above it is run but its two topmost packages, which are light."""
    if (loaded := getattr(sys.modules.get(module), "__file__", None)) is not None:
        return Path(loaded)
    parts = module.split(".")
    top, rest = parts[: 1 + (parts[0] == "ssbench")], parts[1 + (parts[0] == "ssbench") :]
    home = find_spec(".".join(top))
    roots = [Path(one) for one in (home and home.submodule_search_locations) or []]
    files = [Path(home.origin)] if home and home.origin and not rest else []
    places = [root.joinpath(*rest) for root in roots] if rest else []
    files += [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise LookupError(f"module {module} is not there")
    return found


def _of_file(file: Path) -> str:
    return of_source(file.read_bytes())


def of_source(source: bytes | str) -> str:
    """The digest of a file's syntax, the same under every version of Python that reads it."""
    tree = _Bare().visit(ast.parse(source))
    return hashlib.sha256(repr(_plain(tree)).encode()).hexdigest()[:SHOWN]


def _plain(node: object) -> object:
    """A tree as tuples, without what is empty: later versions of Python have more fields."""
    if isinstance(node, ast.AST):
        fields = ((name, _plain(value)) for name, value in ast.iter_fields(node) if name not in ("ctx", "kind"))
        return (type(node).__name__, *((name, value) for name, value in fields if value not in (None, ())))
    return tuple(map(_plain, node)) if isinstance(node, list) else repr(node)


class _Bare(ast.NodeTransformer):
    """Without what no result follows from, see the module."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Locals of the outermost function, and of those in it, are numbered as they come.

        What others may see by its name keeps it: arguments, globals, and what a class in the function has.
        """
        inside = [*ast.walk(node)]
        kept = {arg.arg for one in inside if isinstance(one, ast.arguments) for arg in _arguments(one)}
        kept |= {name for one in inside if isinstance(one, ast.Global | ast.Nonlocal) for name in one.names}
        kept |= {name for one in inside if isinstance(one, ast.ClassDef) for name in _stored(one)}
        numbers = {name: f"{NUMBERED}{at}" for at, name in enumerate(_stored(node)) if name not in kept}
        for one in inside:
            if isinstance(one, ast.Name):
                one.id = numbers.get(one.id, one.id)
        return self.generic_visit(_without_docstring(node))

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [one for one in node.body if not _declares(one)]
        return self.generic_visit(_without_docstring(node))

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self.generic_visit(_without_docstring(node))

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return ast.Raise(exc=kind, cause=None)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        declared = isinstance(node.func, ast.Name) and node.func.id == "setting"
        return node.func if declared else self.generic_visit(node)


def _stored(node: ast.AST) -> dict[str, None]:
    """The names that are bound below, in their order, without those that an outer function has numbered."""
    names = (one for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store))
    return dict.fromkeys(one.id for one in names if not one.id.startswith(NUMBERED))


def _arguments(one: ast.arguments) -> Iterator[ast.arg]:
    yield from (*one.posonlyargs, *one.args, *one.kwonlyargs)
    yield from (arg for arg in (one.vararg, one.kwarg) if arg)


def _without_docstring(node: Documented) -> Documented:
    if node.body and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant):
        node.body = node.body[1:] or [ast.Pass()]
    return node


def _declares(one: ast.stmt) -> bool:
    """`recipes = ...` and `version = ...` of a class."""
    return isinstance(one, ast.Assign) and any(getattr(t, "id", "") in ("recipes", "version") for t in one.targets)
