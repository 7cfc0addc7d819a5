"""Names of methods and tasks -> "module:attribute". Nothing is imported in order to be listed.

Three sources in a fixed order: the contents pages (`methods/__init__.py`, `tasks/__init__.py`), the entry-point groups
`ssbench.methods` and `ssbench.tasks` of installed packages, and the METHODS and TASKS of files named by `--plugin`.
"""

import ast
import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any, Literal

from ssbench.departures import Compared
from ssbench.errors import Broken, UserError, near

Kind = Literal["methods", "tasks"]
ROLES = ("", "floor", "ceiling")  # of a control
LONGEST = 300  # characters of an error's text that are shown and recorded


@dataclass(frozen=True)
class Entry:
    """One line of a contents page. `preset` fixes settings; `scope` is the name that `--set` uses, else the entry's."""

    target: str  # "module:attribute", relative to the contents page's package, or absolute with a package in front
    family: str
    summary: str
    paper: str = ""
    preset: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""  # where the preset's values are published
    scope: str = ""
    control: Literal["", "floor", "ceiling"] = ""  # a floor must be beaten, a ceiling is approached
    owner: str = "ssbench"
    name: str = ""
    members: tuple["Entry", ...] = ()  # of a mixture
    compared: Compared | None = None  # with its published code; None: not yet


def entries(kind: Kind, plugins: tuple[str, ...] = ()) -> dict[str, Entry]:
    """All methods or tasks by name; raises UserError when two owners claim one name."""
    found: dict[str, Entry] = {}
    for entry in [*_built_in(kind), *_installed(kind), *_from_files(kind, plugins)]:
        other = found.get(entry.name)
        if other is not None:
            raise UserError(
                f"{kind[:-1]} {entry.name!r} is claimed by both {other.owner} and {entry.owner}: remove one"
            )
        found[entry.name] = entry
    return found


def find(kind: Kind, name: str, plugins: tuple[str, ...] = ()) -> Entry:
    """The entry of that name, for methods `a+b` too, a mixture; raises UserError with near misses."""
    known = entries(kind, plugins)
    if kind == "methods" and "+" in name and name not in known:
        return _mixture(name, [find(kind, part, plugins) for part in name.split("+")])
    if name not in known:
        raise UserError(f"unknown {kind[:-1]} {name!r}{near(name, known)}")
    return known[name]


def _mixture(name: str, members: list[Entry]) -> Entry:
    names = [entry.name for entry in members]
    if len({*names}) < len(names):
        raise UserError(f"method {name}: a method is in it twice")
    owners = dict.fromkeys(entry.owner for entry in members)
    papers = "; ".join(entry.paper for entry in members if entry.paper)
    return Entry(
        "ssbench.mixture:Mixture",
        "mixture",
        f"{' and '.join(names)} at once, on the weighted sum of their losses",
        papers,
        scope="mix",
        owner="+".join(owners),
        name=name,
        members=tuple(members),
    )


def owner_of(entry: Entry) -> str:
    """What a spec calls the owner: a package's name without its version, or a plugin file's name and the start of its
    content's SHA-256; of a mixture those of its parts."""
    if entry.owner == "ssbench":
        return entry.owner
    if entry.members:
        return "+".join(dict.fromkeys(map(owner_of, entry.members)))
    file = Path(entry.owner)
    if not file.is_file():
        return entry.owner.split()[0]
    return f"{file.name}@{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}"


def load(entry: Entry) -> Any:
    """The class behind an entry; raises UserError in one line, naming the owner, when its module breaks."""
    if entry.members:
        return import_module("ssbench.mixture").mixed(entry.members)
    module, _, attribute = entry.target.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:  # a plugin may fail in any way; its owner is named and the rest goes on
        if entry.owner == "ssbench":
            raise
        raise UserError(f"{entry.name} of {entry.owner} can't be loaded: {type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and hasattr(found, "Settings") and hasattr(found, "version")):
        raise UserError(f"{entry.name} of {entry.owner}: {attribute} is no subclass of ssbench.Method or ssbench.Task")
    return found


def blame(error: Exception, parts: Sequence[Entry]) -> str:
    """What went wrong in one line, with the deepest line in the files of one of the parts, else the deepest of all.

    A broken contract has no such line: it is said whose it is, the first part's.
    """
    whole = " ".join(str(error).split())
    text = whole if len(whole) <= LONGEST else f"{whole[:LONGEST]} …"  # not at a word's end: a path may be all of it
    own = own_line(error, parts)
    owner = "" if parts[0].owner == "ssbench" else Path(parts[0].owner).name
    if isinstance(error, Broken):
        return f"{text} ({own or owner})" if own or owner else text
    last = extract_tb(error.__traceback__)[-1]
    where = own or f"{Path(last.filename).name}, line {last.lineno}" + (f", for {owner}" if owner else "")
    return f"{type(error).__name__}: {text} ({where})"


def own_line(error: Exception, parts: Iterable[Entry]) -> str:
    """`method.py, line 4, of a-package 1.0`: where an error arose in the files of one of the parts; empty: nowhere."""
    frames, each = extract_tb(error.__traceback__), [one for part in parts for one in part.members or (part,)]
    found = [(frame, entry) for frame in frames for entry in each if _holds(entry, frame.filename)]
    if not found:
        return ""
    frame, entry = found[-1]
    of = (
        "" if entry.owner == "ssbench" or Path(entry.owner).name == Path(frame.filename).name else f", of {entry.owner}"
    )
    return f"{Path(frame.filename).name}, line {frame.lineno}{of}"


def _holds(entry: Entry, file: str) -> bool:
    """Whether a file is the one of an entry or of its class, or lies beside it in its package."""
    name, _, attribute = entry.target.partition(":")
    page = sys.modules.get(name)
    modules = page, sys.modules.get(getattr(getattr(page, attribute, None), "__module__", ""))
    homes = [(Path(getattr(one, "__file__", None) or "nowhere"), getattr(one, "__package__", "")) for one in modules]
    return any(Path(file).is_relative_to(home.parent if package else home) for home, package in homes)


def controls(plugins: tuple[str, ...] = ()) -> dict[str, str]:
    """The controls by name, and what each is: a `floor` or a `ceiling`."""
    return {name: entry.control for name, entry in entries("methods", plugins).items() if entry.control}


def _built_in(kind: Kind) -> list[Entry]:
    page: dict[str, Entry] = getattr(import_module(f"ssbench.{kind}"), kind.upper())
    return [_named(name, entry, f"ssbench.{kind}.{entry.target}") for name, entry in page.items()]


def _named(name: str, entry: Entry, target: str) -> Entry:
    return replace(entry, name=name, target=target, scope=entry.scope or name)


def _installed(kind: Kind) -> list[Entry]:
    found = [_from_entry_point(point) for point in entry_points(group=f"ssbench.{kind}")]
    return sorted(found, key=lambda entry: (entry.name, entry.owner))


def _from_entry_point(point: EntryPoint) -> Entry:
    """An entry whose family, summary, paper and control come from its module's `META = {...}` without running it."""
    dist = point.dist
    owner = f"{dist.name} {dist.version}" if dist else point.value
    meta = _static_meta(point.module)
    family, summary, paper = (str(meta.get(key, "")) for key in ("family", "summary", "paper"))
    control = meta.get("control", "")
    if control not in ROLES:
        control, summary = "", f"broken: its control is {control!r}, not floor or ceiling"
    about = Entry(point.value, family, summary, paper, control=control, owner=owner)
    return replace(about, name=point.name, scope=point.name)


def _static_meta(module: str) -> dict[str, Any]:
    top, *rest = module.split(".")
    spec = find_spec(top)  # of the top package only: asking for a submodule would run the package
    if spec is None or spec.origin is None:
        return {"summary": f"broken: module {module} is not there"}
    root = Path(spec.origin)
    places = (
        [root]
        if not rest
        else [root.parent.joinpath(*rest).with_suffix(".py"), root.parent.joinpath(*rest, "__init__.py")]
    )
    source = next((place for place in places if place.exists()), None)
    if source is None:
        return {"summary": f"broken: module {module} is not there"}
    try:
        tree = ast.parse(source.read_text())
        for node in tree.body:
            if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "META" for t in node.targets):
                return dict(ast.literal_eval(node.value))
        return {"summary": (ast.get_docstring(tree) or "").partition("\n")[0]}
    except (SyntaxError, ValueError, TypeError) as error:
        return {"summary": f"broken: {type(error).__name__}: {error}"}


def _from_files(kind: Kind, plugins: tuple[str, ...]) -> list[Entry]:
    found = []
    for file in plugins:
        module = _module_of(file)
        page = getattr(module, kind.upper(), {})
        if not (isinstance(page, dict) and all(isinstance(entry, Entry) for entry in page.values())):
            raise UserError(f"--plugin {file}: {kind.upper()} is no dict of names and ssbench.Entry")
        if odd := [key for key, entry in page.items() if entry.control not in ROLES]:
            raise UserError(f"--plugin {file}: control={page[odd[0]].control!r} of {odd[0]} is not floor or ceiling")
        found += [
            replace(_named(key, entry, f"{module.__name__}:{entry.target.rpartition(':')[2]}"), owner=file)
            for key, entry in page.items()
        ]
    return found


def _module_of(file: str) -> ModuleType:
    """The module of a file named by --plugin, run once a process, and again when it was edited meanwhile."""
    path = Path(file).resolve()
    if not path.is_file():
        raise UserError(f"--plugin {file}: there is no such file")
    name = f"ssbench_plugin_{path.stem}_{hashlib.sha256(bytes(path) + path.read_bytes()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's file may fail in any way
        del sys.modules[name]
        raise UserError(f"--plugin {file}: {type(error).__name__}: {error}") from error
    return module
