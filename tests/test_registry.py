import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssbench.errors import Broken, UserError
from ssbench.registry import blame, entries, find, load

ROOT = Path(__file__).parent.parent
MINE = '''"""A control that sees nothing."""
from ssbench import Entry, Method
class Mine(Method):
    trains = False
METHODS = {"mine": Entry("Mine", "control", "sees nothing", control="floor")}
'''


def test_every_name_leads_to_its_class() -> None:
    for kind in ("methods", "tasks"):
        for entry in entries(kind).values():
            assert isinstance(load(entry), type)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown method 'simlcr'; did you mean simclr"):
        find("methods", "simlcr")


def test_a_plugin_file_brings_its_methods(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    entry = find("methods", "mine", (str(file),))
    assert entry.owner == str(file) and entry.scope == "mine"
    assert load(entry).__name__ == "Mine"


def test_a_plugin_file_that_was_edited_is_run_again(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    first = load(find("methods", "mine", (str(file),)))
    assert load(find("methods", "mine", (str(file),))) is first
    file.write_text(MINE.replace("trains = False", "trains = False\n    version = 2"))
    assert (first.version, load(find("methods", "mine", (str(file),))).version) == (1, 2)


def test_a_plugin_file_that_claims_a_taken_name_is_refused_with_both_owners(tmp_path: Path) -> None:
    file = tmp_path / "clash.py"
    file.write_text(MINE.replace('"mine"', '"simclr"'))
    with pytest.raises(UserError, match=rf"'simclr' is claimed by both ssbench and {file}"):
        entries("methods", (str(file),))


def test_an_error_is_said_with_the_deepest_line_of_the_plugin(tmp_path: Path) -> None:
    file = tmp_path / "fails.py"
    file.write_text(
        MINE.replace("trains = False", "trains = False\n    def fails():\n        __import__('json').loads('{')")
    )
    entry = find("methods", "mine", (str(file),))
    with pytest.raises(ValueError) as found:
        load(entry).fails()
    assert blame(found.value, [entry]).endswith("(fails.py, line 6)") and "JSONDecodeError: Expecting" in blame(
        found.value, [entry]
    )
    assert blame(Broken("it is broken"), [entry]) == "it is broken (fails.py)"
    with pytest.raises(ValueError) as found:
        raise ValueError("one\ntwo" + " and so on" * 100)
    said = blame(found.value, [entry])
    assert said.startswith("ValueError: one two and") and "(test_registry.py, line " in said and len(said) < 400
    assert said.endswith(", for fails.py)") and "\n" not in said


def test_what_is_no_method_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "nothing.py"
    file.write_text("class Foo: pass\nMETHODS = {'foo': Foo}\n")
    with pytest.raises(UserError, match=r"nothing.py: METHODS is no dict of names and ssbench.Entry$"):
        entries("methods", (str(file),))
    other = tmp_path / "other.py"
    other.write_text("from ssbench import Entry\nclass Foo: pass\nMETHODS = {'foo': Entry('Foo', '', '')}\n")
    with pytest.raises(UserError, match=r"^foo of .*other.py: Foo is no subclass of ssbench.Method or ssbench.Task$"):
        load(find("methods", "foo", (str(other),)))


@pytest.mark.parametrize(
    ("text", "message"), [("import nothing_of_the_kind", "ModuleNotFoundError"), ("1 +", "SyntaxError")]
)
def test_a_broken_plugin_file_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "broken.py"
    file.write_text(text)
    with pytest.raises(UserError, match=rf"{file}: {message}") as caught:
        entries("methods", (str(file),))
    assert "\n" not in str(caught.value)


def installed(folder: Path, name: str, module: str, points: str) -> None:
    """Lay a package and its metadata out as pip would, without pip."""
    (folder / f"{name}.py").write_text(module)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)


def listed(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    command = [sys.executable, "-m", "ssbench", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


GOOD = MINE + 'META = {"family": "control", "summary": "sees nothing at all", "paper": "none"}\n'


def test_an_installed_plugin_is_listed_without_being_imported(tmp_path: Path) -> None:
    installed(tmp_path, "good", "raise SystemExit('imported')\n" + GOOD, "[ssbench.methods]\nmine = good:Mine\n")
    done = listed(tmp_path, "list", "methods")
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]  # columns are as wide as the longest name
    assert "mine control: sees nothing at all [good 1.0]" in lines


@pytest.mark.parametrize(("said", "role"), [('"floor"', "floor"), ("True", "")])
def test_an_installed_plugin_can_be_a_control(tmp_path: Path, said: str, role: str) -> None:
    about = MINE + f'META = {{"family": "f", "summary": "s", "paper": "none", "control": {said}}}\n'
    installed(tmp_path, "good", about, "[ssbench.methods]\nmine = good:Mine\n")
    code = "from ssbench.registry import find; e = find('methods', 'mine'); print(e.control, e.summary, sep='|')"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    summary = "s" if role else "broken: its control is True, not floor or ceiling"
    assert ran.stdout.strip() == f"{role}|{summary}", ran.stderr


def test_a_broken_installed_plugin_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    installed(tmp_path, "good", GOOD, "[ssbench.methods]\nmine = good:Mine\n")
    installed(
        tmp_path,
        "bad",
        "import nothing_of_the_kind\n",
        "[ssbench.methods]\nbad-one = bad:Bad\n[ssbench.tasks]\nlost = nowhere:Lost\n",
    )
    assert "bad-one" in listed(tmp_path, "list", "methods").stdout
    assert "broken: module nowhere is not there [bad 1.0]" in listed(tmp_path, "list", "tasks").stdout
    described = listed(tmp_path, "describe", "bad-one")
    assert described.returncode == 2
    assert described.stderr.strip().endswith(
        "bad-one of bad 1.0 can't be loaded: ModuleNotFoundError: No module named 'nothing_of_the_kind'"
    )
    assert listed(tmp_path, "describe", "mine").returncode == 0
    doctor = listed(tmp_path, "doctor")
    assert doctor.returncode == 1 and "bad-one of bad 1.0" in doctor.stdout


def test_two_packages_that_claim_one_name_are_both_named(tmp_path: Path) -> None:
    for name in ("one", "two"):
        installed(tmp_path, name, GOOD, f"[ssbench.methods]\nmine = {name}:Mine\n")
    done = listed(tmp_path, "list", "methods")
    assert done.returncode == 2
    assert "claimed by both one 1.0 and two 1.0" in done.stderr


def test_a_long_error_is_cut_and_never_lost() -> None:
    """A path has no word to end at."""
    for text in ("/".join(["folder"] * 100), "one word\nand " * 100):
        said = blame(Broken(text), [find("methods", "simclr")])
        assert said.startswith(" ".join(text.split())[:250]) and said.endswith(" …") and len(said) < 310
    assert blame(Broken("short\n text"), [find("methods", "simclr")]) == "short text"
