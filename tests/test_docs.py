"""The pages' files and commands run as written, and the example package installs and runs."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import timm
import torch

from ssbench.encoders.encoder import Encoder
from ssbench.encoders.layouts import ORIGINS
from ssbench.method import Batch, Method, View

ROOT = Path(__file__).parent.parent
Command = Callable[..., CompletedProcess[str]]


SMALL = ["--dataset", "digits"]  # nothing to draw, and a seventh of the images of `shapes`


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(), re.S)


@pytest.mark.parametrize(
    ("page", "names"), [("add-a-method.md", ("colour", "agreement")), ("add-a-task.md", ("means",))]
)
def test_a_pages_files_run_by_the_pages_own_commands(
    ssbench: Command, tmp_path: Path, page: str, names: tuple[str, ...]
) -> None:
    for name, code in zip(names, blocks(page, "python"), strict=True):
        (tmp_path / f"{name}.py").write_text(code)
    commands = [line for block in blocks(page, "console") for line in block.splitlines() if "--suite" not in line]
    assert commands
    for line in commands:
        words = shlex.split(line)[1:]
        ran = ssbench(*words, *(SMALL if words[0] == "run" else []), cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
    for name in names:
        assert list((tmp_path / "results" / "records").glob(f"*{name}*.json"))


def test_the_laboratorys_commands_run(ssbench: Command, tmp_path: Path) -> None:
    small = [*SMALL, "--budget", "steps=2", "--device", "cpu"]
    for line in blocks("masked-image-modelling.md", "console")[0].splitlines():
        words = shlex.split(line)[1:]
        ran = ssbench(*words, *small, *(["--seeds", "0"] if words[0] == "run" else []), cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
        assert ("mask by target" in ran.stdout) == ("--vary" in words)
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 2


def test_the_commands_for_encoders_that_one_has_run(ssbench: Command, tmp_path: Path) -> None:
    """All but those that fetch weights."""
    (tmp_path / "mynet.py").write_text(blocks("encoders.md", "python")[0])
    small = timm.create_model("vit_tiny_patch16_224", img_size=32, embed_dim=64, depth=2, num_heads=1)
    torch.save({"state_dict": small.state_dict()}, tmp_path / "vit.pth")
    lines = [line.partition("#")[0] for block in blocks("encoders.md", "console") for line in block.splitlines()]
    own = [line for line in lines if "timm:" not in line and "export" not in line]
    assert [len([line for line in own if verb in line]) for verb in ("eval", "describe", "--init", "run")] == [
        1,
        1,
        1,
        2,
    ]
    for line in own:
        words = shlex.split(line)[1:]
        short = [
            "--seeds",
            "0",
            "--device",
            "cpu",
            *(["--task", "knn"] if words[0] == "eval" else ["--budget", "steps=2"]),
        ]
        ran = ssbench(*words, *(short if words[0] != "describe" else []), cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
        assert ("as given" in ran.stdout) == ("--init" in words)


def test_the_page_lists_the_layouts_of_files_and_their_vectors() -> None:
    page = (ROOT / "docs" / "encoders.md").read_text()
    listed = dict(re.findall(r"^\| ([^|`]+) \| (class token|mean|–) \|", page, re.M))
    assert [*listed] == [*dict.fromkeys(origin.name for origin in ORIGINS)]
    said = {"class token": "cls", "mean": "mean"}
    for origin in ORIGINS:
        assert said.get(listed[origin.name], origin.pooling) == origin.pooling


@pytest.mark.parametrize("kind", [Batch, View, Method, Encoder])
def test_the_page_lists_all_that_an_author_may_use(kind: type) -> None:
    page = (ROOT / "docs" / "add-a-method.md").read_text()
    table = re.search(rf"^\| (?:part|field) of an? `{kind.__name__}` \|.*?\n\n", page, re.M | re.S)
    assert table
    listed = re.findall(r"^\| `(\w+)", table[0], re.M)
    own = {**vars(kind), **getattr(kind, "__annotations__", {})} if kind in (Method, Encoder) else {}
    names = [field.name for field in fields(kind)] if is_dataclass(kind) else [n for n in own if n[0] != "_"]
    assert sorted(listed) == sorted({*names} - {"encoder", "mean", "std"})


def test_the_example_package_is_the_pages_code() -> None:
    for page, file in (("add-a-method.md", "method.py"), ("add-a-task.md", "task.py")):
        code = (ROOT / "examples/ssbench-colour/ssbench_colour" / file).read_text().partition("META =")[0]
        on_page = blocks(page, "python")[0].replace(" Entry,", "")
        assert on_page.startswith(code.rstrip())


def installed(source: Path, target: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(target),
    ]
    subprocess.run([*command, str(source)], check=True, capture_output=True, text=True)


def copied(source: Path, target: Path) -> Path:
    """What git tracks or would, so that building leaves nothing in the tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "."], cwd=source, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes((source / name).read_bytes())
    return target


def test_an_installed_package_brings_a_method_and_a_task(tmp_path: Path) -> None:
    installed(copied(ROOT / "examples/ssbench-colour", tmp_path / "source"), tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path / 'site'}"}

    def run(*words: str) -> CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ssbench", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    assert "predict the mean colour [ssbench-colour 0.1.0]" in run("list", "methods").stdout
    assert "nearest class mean [ssbench-colour 0.1.0]" in run("list", "tasks").stdout
    ran = run("run", "--method", "colour", "--task", "means", "--budget", "steps=2", "--seeds", "0", "--device", "cpu")
    assert ran.returncode == 0, ran.stderr
    assert "colour" in ran.stdout and "means" in ran.stdout


def test_the_wheel_holds_the_whole_house_and_lists_away_from_the_checkout(tmp_path: Path) -> None:
    installed(copied(ROOT, tmp_path / "source"), tmp_path / "site")
    for name in (
        "ssbench/methods/mim/masks.py",
        "ssbench/tasks/knn.py",
        "ssbench/suites/quick.yaml",
        "ssbench/py.typed",
    ):
        assert (tmp_path / "site" / name).is_file(), name
    assert not (tmp_path / "site" / "methods").exists()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-m", "ssbench", "list", "methods"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0 and "mim-block" in ran.stdout, ran.stderr


def test_the_page_of_departures_is_what_is_generated(ssbench: Command, tmp_path: Path) -> None:
    ran = ssbench("list", "departures", cwd=tmp_path)
    assert ran.stdout == (ROOT / "docs" / "departures.md").read_text(), "ssbench list departures > docs/departures.md"


@pytest.mark.parametrize(("page", "row"), [("README.md", "mim-block"), ("docs/encoders.md", "module:net")])
def test_a_pages_python_runs(tmp_path: Path, page: str, row: str) -> None:
    code = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(code)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0 and row in ran.stdout, ran.stderr
