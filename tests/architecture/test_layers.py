"""The house keeps its shape: who may import whom, what is installed, how large a file may grow."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ssbench.registry import Kind, entries

ROOT = Path(__file__).parent.parent.parent
SPINE = sorted((ROOT / "ssbench").rglob("*.py"))
METHODS = sorted((ROOT / "methods").rglob("*.py"))
TASKS = sorted((ROOT / "tasks").rglob("*.py"))


def imports(file: Path) -> list[tuple[int, str]]:
    """(level, module) of every import statement in a file, wherever it stands."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or ""))
    return found


def top_level_imports(file: Path) -> list[str]:
    """Modules imported when the file is, type-checking blocks left out."""
    found = []
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


FLOORS = (  # from the ground; a package stands for all of its files
    ("errors", "rng", "departures"),
    ("settings", "registry", "spec", "code"),
    ("encoders",),
    ("data", "results"),
    ("plan", "recipes", "method", "teacher", "mixture", "lightning", "features", "windows", "workshop", "task"),
    ("training",),
    ("check", "contracts", "line", "matching", "progress"),
    ("api", "tuning", "reproduce", "report"),
    ("cli",),
)


def floor(module: str) -> int:
    """On which floor a module `ssbench.name...` stands."""
    name = module.split(".")[1]
    return next(at for at, names in enumerate(FLOORS) if name in names)


@pytest.mark.parametrize("file", SPINE, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_run_down_only(file: Path) -> None:
    parts = file.relative_to(ROOT).with_suffix("").parts
    if (len(parts) == 2 and parts[1] in ("__init__", "__main__")) or parts[1] == "suites":
        return
    here = floor(".".join(parts))
    for level, name in imports(file):
        if level == 0 and name.startswith("ssbench."):
            assert floor(name) <= here, f"{name} stands above"


@pytest.mark.parametrize("file", SPINE, ids=lambda f: str(f.relative_to(ROOT)))
def test_the_spine_names_no_method_and_no_task(file: Path) -> None:
    names = [name for _, name in imports(file)]
    assert not [name for name in names if name.startswith(("ssbench.methods", "ssbench.tasks", "methods", "tasks"))]


@pytest.mark.parametrize("file", METHODS + TASKS, ids=lambda f: str(f.relative_to(ROOT)))
def test_methods_and_tasks_import_the_spine_absolutely_and_neighbours_relatively(file: Path) -> None:
    for level, name in imports(file):
        assert not name.startswith(("ssbench.methods", "ssbench.tasks")), name
        shared = level == 2 and name.split(".")[0] == "parts"
        assert level <= 1 or shared, f"{name} reaches outside its folder, and not to parts/"
        assert level >= 1 or name.split(".")[0] not in ("methods", "tasks"), name


def test_imports_of_the_spine_have_no_cycle() -> None:
    modules = {".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): f for f in SPINE}
    graph = {
        name: {m for m in top_level_imports(file) if m in modules} - {name, "ssbench"} for name, file in modules.items()
    }
    while graph:
        free = [name for name, needs in graph.items() if not needs & graph.keys()]
        assert free, f"a cycle among {sorted(graph)}"
        graph = {name: needs for name, needs in graph.items() if name not in free}


@pytest.mark.parametrize("folder", ["methods", "methods/mim", "tasks"])
def test_neighbours_of_a_folder_have_no_cycle(folder: str) -> None:
    files = {file.stem: file for file in (ROOT / folder).glob("*.py") if file.stem != "__init__"}
    graph = {
        name: {module.split(".")[0] for level, module in imports(file) if level == 1} & files.keys()
        for name, file in files.items()
    }
    while graph:
        free = [name for name, needs in graph.items() if not needs & graph.keys()]
        assert free, f"a cycle among {sorted(graph)}"
        graph = {name: needs for name, needs in graph.items() if name not in free}


def test_every_package_of_the_tree_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {file.parent.relative_to(ROOT) for file in SPINE + METHODS + TASKS if file.name == "__init__.py"}
    named = {".".join(folder.parts) for folder in folders}
    assert set(listed) == {name if name.startswith("ssbench") else f"ssbench.{name}" for name in named}


@pytest.mark.parametrize("file", SPINE + METHODS + TASKS, ids=lambda f: str(f.relative_to(ROOT)))
def test_files_and_functions_stay_small(file: Path) -> None:
    text = file.read_text()
    assert text.count("\n") <= 402
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno <= 60, f"{node.name} is too long"


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["list", "methods"],
        ["list", "backbones"],
        ["list", "departures"],
        ["run", "--help"],
        ["tune", "--help"],
        ["show-masks", "--help"],
        ["export", "--help"],
    ],
)
def test_arguments_are_parsed_without_torch(words: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['ssbench', *{words!r}]\n"
        "from ssbench.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "assert not {'torch', 'torchvision', 'timm', 'pandas', 'sklearn'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["methods", "tasks"])
def test_every_file_is_on_its_contents_page(kind: Kind) -> None:
    found = entries(kind).values()
    named = {entry.target.partition(":")[0].split(".")[2] for entry in found if entry.owner == "ssbench"}
    there = {path.stem for path in (ROOT / kind).iterdir() if path.stem not in ("__init__", "__pycache__")}
    files = [*(ROOT / kind).glob("*.py"), *(ROOT / kind).glob("*/*.py")]
    near = ((file.parent == ROOT / kind, name.split(".")[0], level) for file in files for level, name in imports(file))
    shared = {name for above, name, level in near if level == (1 if above else 2)}
    assert named <= there <= named | shared, "what is no entry is imported by its neighbours"


def test_every_core_dependency_is_imported_by_a_shipped_file_and_the_readme_has_no_relative_link() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    modules = {"scikit-learn": "sklearn", "pillow": "PIL", "pyyaml": "yaml"}
    named = {re.split(r"[<>=]", wanted)[0] for wanted in project["dependencies"]}
    used = {name.split(".")[0] for file in SPINE + METHODS + TASKS for _, name in imports(file)}
    assert not {name for name in named if modules.get(name, name.replace("-", "_")) not in used}
    assert not re.findall(r"\]\((?!https?://)[^)]+\)", (ROOT / project["readme"]).read_text())  # broken on an index
