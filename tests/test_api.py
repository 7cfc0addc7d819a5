"""`ssbench.run` is `ssbench run`: the same plan, the same records, the same errors; what it gives can be read."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

import ssbench
from ssbench import Record, Results, UserError, run
from ssbench.api import request
from ssbench.cli import main
from ssbench.results.grid import Frame, Value
from ssbench.results.render import html

ROOT = Path(__file__).parent.parent
QUICK: dict[str, Any] = {"tasks": "knn", "dataset": "digits", "seeds": 0, "device": "cpu"}
BAD = """
from ssbench import Entry, Method
class Bad(Method):
    def loss(self, batch):
        raise ValueError("a <b> & c")
METHODS = {"bad": Entry("Bad", "test", "fails", "none")}
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a method that fails."""
    file = tmp_path_factory.mktemp("plugin") / "bad.py"
    file.write_text(BAD)
    return file


@pytest.fixture(scope="module")
def found(plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Rotation and a method that fails on digits, with the controls."""
    more: dict[str, Any] = {"budget": "steps=2", "set": {"train.batch": 16, "knn.k": 5}, "plugins": plugin}
    return run(["rotation", "bad"], results=tmp_path_factory.mktemp("run"), **QUICK, **more)


def same(record: Record) -> dict[str, Any]:
    """What does not depend on when and how fast it was made."""
    return record.model_dump(exclude={"created", "costs", "seals"})


def command_line(*words: str, monkeypatch: pytest.MonkeyPatch) -> object:
    """The exit status of `ssbench run`, in this process."""
    monkeypatch.setattr(sys, "argv", ["ssbench", "run", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code


def test_the_command_line_makes_equal_records(
    found: Results, plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--method", "rotation,bad", "--task", "knn", "--dataset", "digits", "--seeds", "0", "--device", "cpu"]
    words += ["--budget", "steps=2", "--set", "train.batch=16", "--set", "knn.k=5", "--plugin", str(plugin)]
    assert command_line(*words, "--results", str(tmp_path), monkeypatch=monkeypatch) == 1
    other = {record.id: record for record in ssbench.Store(tmp_path).all()}
    assert len(other) == len(found.records) == 5
    assert {id: same(record) for id, record in other.items()} == {one.id: same(one) for one in found.records}
    assert all(record.predictions_sha256 for record in found.records if record.status == "done")


def test_records_stand_in_the_plans_order(found: Results) -> None:
    methods = [record.spec.pretraining.method for record in found.records]
    assert methods == ["rotation", "bad", "random-init", "raw-pixels", "supervised"]


def test_what_is_recorded_is_not_run_again_and_others_records_are_left_out(
    found: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    again = run("random-init,raw-pixels", results=found.store.folder, set="knn.k=5", **QUICK)
    assert again.records == found.records[2:4]
    assert capsys.readouterr() == ("", "")


def test_a_line_a_cell_goes_to_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("raw-pixels", results=tmp_path, **QUICK)
    out, err = capsys.readouterr()
    understood, cell = err.splitlines()
    assert not out and understood.startswith("digits: 1258 fit, ")
    assert cell.startswith("[1/1] raw-pixels / knn / digits / seed 0  top1 ")


def test_the_repr_counts_cells_and_shows_the_tables(found: Results) -> None:
    text = repr(found)
    assert text.startswith(f"5 cells: 4 done, 1 failed; records in {found.store.records}\n\ndigits, 32 px, vit-nano")
    assert "\nrotation " in text and "failed: ValueError: a <b> & c (bad.py, line 5)" in text


def test_the_html_is_well_formed_and_escaped(found: Results) -> None:
    tree = ElementTree.fromstring(found._repr_html_())
    rows = [row.findtext("td") for row in tree.iterfind("table/tbody/tr")]
    assert rows == ["bad", "rotation", "random-init", "raw-pixels", "supervised"]
    notes = [note.text or "" for note in tree.iterfind("p/small")]
    assert "[1] failed: ValueError: a <b> & c (bad.py, line 5)" in notes


def test_html_has_title_header_marks_and_notes() -> None:
    rows = ((Value("a<b"), Value("47.1 ± 0.6 °", 47.1, 0.6)), (Value("c"), Value("50.0", 50.0, None, True)))
    table = Frame("slug", "a & b", ("method", "knn"), rows, ("bold: ahead",))
    tree = ElementTree.fromstring(f"<div>{html(table)}</div>")
    assert tree.findtext("p/strong") == "a & b"
    assert [name.text for name in tree.iterfind("table/thead/tr/th")] == ["method", "knn"]
    cells = [[cell.findtext("strong") or cell.text for cell in row] for row in tree.iterfind("table/tbody/tr")]
    assert cells == [["a<b", "47.1 ± 0.6 °"], ["c", "50.0"]]
    assert [cell.text for cell in tree.iterfind("table/tbody/tr/td/strong")] == ["50.0"]
    assert tree.findtext("p/small") == "bold: ahead"


def test_a_frame_has_the_columns_of_the_whole_folders(found: Results) -> None:
    made, whole = found.frame(), ssbench.frame(found.store.folder)
    assert {*made.columns} == {*whole.columns} and {*made.id} == {record.id for record in found.records}
    assert len(made) == len(whole)


def test_tables_know_the_plugins_and_the_controls(found: Results) -> None:
    (table,) = found.tables()
    assert [row.name for row in table.rows if row.control] == ["random-init", "raw-pixels", "supervised"]


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ({"methods": "simcl"}, ["--method", "simcl"]),
        ({}, []),
        ({"methods": "simclr", "seeds": "x"}, ["--method", "simclr", "--seeds", "x"]),
        ({"methods": "simclr", "set": {"train.rate": 1}}, ["--method", "simclr", "--set", "train.rate=1"]),
        ({"methods": "simclr", "set": "lr"}, ["--method", "simclr", "--set", "lr"]),
        ({"methods": "mim", "vary": "mim.mask"}, ["--method", "mim", "--vary", "mim.mask"]),
        ({"methods": "simclr", "plugins": "none.py"}, ["--method", "simclr", "--plugin", "none.py"]),
        ({"suite": "quik"}, ["--suite", "quik"]),
        ({"methods": "simclr", "precision": "half"}, ["--method", "simclr", "--precision", "half"]),
    ],
    ids=str,
)
def test_a_wrong_word_raises_the_command_lines_text(
    words: dict[str, Any],
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as raised:
        run(**words)
    assert command_line(*options, monkeypatch=monkeypatch) == 2
    assert capsys.readouterr().err == f"ssbench: {raised.value}\n"
    assert not [*tmp_path.iterdir()]


def test_lists_comma_lists_and_single_values_are_the_same_words() -> None:
    asked = request(method="mim,simclr", seeds="0-2", set=["train.lr=0.001"], vary=["mim.mask=random,block"])
    varied = {"mim.mask": ("random", "block")}
    assert asked == request(method=("mim", "simclr"), seeds=range(3), set={"train.lr": 1e-3}, vary=varied)
    assert request(set={"linear-probe.lrs": (0.1, 0.3)}).set == ("linear-probe.lrs=0.1,0.3",)
    assert request(method=["mim"], seeds=7) == request(method="mim", seeds="7")


def test_what_is_given_overrides_a_suite_and_what_is_set_is_added(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("method: [mim]\nseeds: [0]\nset: [train.batch=16]\nvary: {mim.ratio: [0.5, 0.75]}\n")
    asked = request(file, method="simclr", set={"train.lr": 1e-3}, vary={"mim.mask": "block"})
    assert (asked.method, asked.seeds, asked.set) == (("simclr",), (0,), ("train.batch=16", "train.lr=0.001"))
    assert asked.vary == {"mim.ratio": ("0.5", "0.75"), "mim.mask": ("block",)}


def test_an_empty_list_is_not_taken_for_the_default() -> None:
    with pytest.raises(UserError, match="task"):
        request(method="simclr", task=[])


def test_the_names_are_there_whatever_was_imported_before() -> None:
    code = (
        "import pkgutil, types, importlib, ssbench\n"
        "files = pkgutil.walk_packages([ssbench.__path__[0]], 'ssbench.')\n"
        "for file in [file.name for file in files if not file.name.endswith('__main__')]:\n"
        "    importlib.import_module(file)\n"
        "assert callable(ssbench.run) and ssbench.run.__module__ == 'ssbench.api'\n"
        "assert not [n for n in ssbench.__all__ if isinstance(getattr(ssbench, n), types.ModuleType)]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_type_checker_sees_the_names_that_are_there() -> None:
    tree = ast.parse((ROOT / "ssbench" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    lines = [line for line in block.body if isinstance(line, ast.ImportFrom)]
    seen = {(line.module, alias.name, alias.asname) for line in lines for alias in line.names}
    assert seen == {(f"ssbench.{home}", name, name) for name, home in ssbench._HOME.items()}
    assert {*ssbench.__all__} <= {*dir(ssbench)}


def test_the_names_for_authors_are_read_without_torch_where_they_need_none() -> None:
    code = "import sys; from ssbench import Entry, Settings, setting, UserError; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


NET = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.stem, self.norm, self.size = nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), 16
        self.mean, self.std = (0.2, 0.2, 0.2), (0.3, 0.3, 0.3)
    def forward(self, images):
        return self.norm(self.stem(images)).relu()
def net(): return Net()
"""
JUDGED = ["--dataset", "digits", "--seeds", "0", "--device", "cpu", "--set", "linear-probe.epochs=2"]


def test_a_module_in_hand_is_judged_as_eval_judges_it_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net_of_eval.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    module = import_module("net_of_eval").Net()
    module.norm.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    words: dict[str, Any] = {"seeds": 0, "device": "cpu", "set": {"linear-probe.epochs": 2}}
    found = ssbench.evaluate(module, dataset="digits", results=tmp_path / "one", **words)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.training and module.stem.weight.requires_grad and not module.norm.weight.requires_grad
    assert module.stem.weight.grad is None and "Encoder" not in type(module).__name__
    eval_ = ["eval", "python:net_of_eval:net", *JUDGED, "--results", str(tmp_path / "two")]
    monkeypatch.setattr(sys, "argv", ["ssbench", *eval_])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    named = ssbench.Store(tmp_path / "two").all()

    def scores(records: Iterable[Record]) -> dict[tuple[str, str], Any]:
        return {(r.spec.pretraining.method, r.spec.task): (r.scores, r.selected, r.sweep) for r in records}

    assert scores(found.records) == scores(named) and len(named) == 4
    (row,) = [row for row in found.tables()[0].rows if row.given]
    assert row.name == "module:Net (16 px)"
    again = ssbench.evaluate(module, dataset="digits", name="mine", results=tmp_path / "one", **words)
    assert {r.spec.pretraining.backbone.partition("@")[0] for r in again.records} == {"module:mine", "vit-nano"}


def test_a_module_in_evaluation_mode_stays_in_it(tmp_path: Path) -> None:
    module = torch.nn.Conv2d(3, 8, 4, 4).eval()
    ssbench.evaluate(module, "knn", "digits", seeds=0, device="cpu", set="data.image_size=16", results=tmp_path)
    assert not module.training


def test_python_and_the_command_line_have_the_same_words() -> None:
    from ssbench.cli.run import run as command

    plural = {"method": "methods", "task": "tasks", "encoder": "encoders", "plugin": "plugins", "set_": "set"}
    words = {plural.get(name, name) for name in signature(command).parameters}
    alone = {"dry_run", "on_bad_image"}  # prints a plan; `set={"data.on_bad_image": ...}` in Python
    assert {*signature(run).parameters} == words - alone


def test_the_help_says_every_default(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    for name in ("run", "tune", "eval"):
        monkeypatch.setattr(sys, "argv", ["ssbench", name, "--help"])
        with pytest.raises(SystemExit):
            main()
        said = capsys.readouterr().out
        found = {option: re.search(rf"--{option} [^\n]*\[default: [^]]+\]", said) for option in ("dataset", "seeds")}
        assert all(found.values()), name
