from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

Command = Callable[..., CompletedProcess[str]]
GOOD = """
from ssbench import Entry, Method, Settings, setting
class Good(Method):
    def loss(self, batch):
        return {"a": self.encoder.pooled(batch.views[0]).square().mean()}
"""
GOOD_LINE = 'METHODS = {"good": Entry("Good", "test", "is good", "none")}\n'
BAD = """
class Bad(Good):
    class Settings(Settings):
        width: int = 3
    def build(self):
        self.seen = 0
    def loss(self, batch):
        self.seen += 1
        return {"a": super().loss(batch)["a"] * self.seen}
METHODS = {"bad": Entry("Bad", "test", "is bad", "none")}
"""


def test_a_file_that_keeps_its_promises_is_all_ok(ssbench: Command, tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(GOOD + GOOD_LINE)
    ran = ssbench("check", "--plugin", tmp_path / "good.py")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    name, *lines = ran.stdout.splitlines()
    assert name == "good" and len(lines) == 9 and all(line.startswith("  ok     ") for line in lines)


def test_what_is_not_kept_is_said_with_its_promise(ssbench: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(GOOD + BAD)
    ran = ssbench("check", "--plugin", tmp_path / "bad.py")
    assert ran.returncode == 1 and not ran.stderr, ran.stderr
    wrong = [line for line in ran.stdout.splitlines() if line.startswith("  wrong  ")]
    assert "Settings.width has no help or no source: declare it with setting() (bad.py)" in wrong[0]
    assert "Bad.loss gives another 'a'" in wrong[1] and "after its state is put back" in wrong[1]
    assert f"{len(wrong)} promises are not kept" in ran.stdout


def test_a_file_without_methods_and_tasks_is_refused(ssbench: Command, tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("")
    ran = ssbench("check", "--plugin", tmp_path / "empty.py")
    assert ran.returncode == 2 and "empty.py: it has no METHODS and no TASKS" in ran.stderr
