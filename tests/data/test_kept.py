"""What is kept between commands: decoded arrays, fingerprints, small answers; bounded, whole, and never stale."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from ssbench.cli import cache
from ssbench.data import fingerprints, memory, stored
from ssbench.data.fingerprints import fingerprint
from ssbench.errors import UserError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSBENCH_CACHE", str(tmp_path / "home"))
    return tmp_path / "home"


def keep(key: str, size: int = 1000) -> Path:
    arrays = stored.begin(key)
    arrays.room("fit.images", (size,), "uint8")[:] = 7
    return stored.finish(arrays, key, {"name": key, "of": [1, 2]})


def test_arrays_come_back_as_they_were_written() -> None:
    arrays = stored.begin("k")
    made = {"a": torch.arange(12.0).view(3, 4), "b": torch.zeros(0, 5, dtype=torch.int64), "c": torch.ones(2**20 + 1)}
    for name, value in made.items():
        arrays.room(name, tuple(value.shape), str(value.dtype).removeprefix("torch."))[...] = value
    found, story = stored.read(stored.finish(arrays, "k", {"name": "pets"}))
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in made.items())
    assert story == {"name": "pets"}
    found["c"][0] = 5  # stays in memory
    assert stored.read(stored.place() / "k")[0]["c"][0] == 1


def test_nobody_finds_what_is_not_finished() -> None:
    arrays = stored.begin("k")
    arrays.room("a", (3,), "uint8")
    assert stored.find("k") is None and stored.entries() == []
    stored.abandon(arrays)
    assert [*stored.place().iterdir()] == []


def test_the_longest_unused_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for at, key in enumerate(("old", "used", "new")):
        keep(key)
        os.utime(stored.place() / key / stored.STORY, (at, at))
    assert stored.find("old") is not None  # which is now the last used
    size = stored.entries()[0].size
    assert [entry.name for entry in stored.prune(2 * size)] == ["used"]
    monkeypatch.setattr(stored, "MOST", size)
    keep("another")
    assert [entry.name for entry in stored.entries()] == ["another"], "what was just made stays"


def test_what_was_never_finished_goes_after_a_day() -> None:
    left = stored.begin("torn").folder
    stored.prune(10**9)
    assert left.is_dir()
    os.utime(left, (0, 0))
    stored.prune(10**9)
    assert not left.exists()


def test_a_home_that_cant_be_written_costs_time_and_not_the_run(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    home.write_text("a file")
    folder = keep("k")
    assert stored.read(folder)[0]["fit.images"].sum() == 7000 and "can't be written to" in caplog.text
    memory.remember("copies", "k", 3)
    assert memory.recall("copies", "k") is None


def test_answers_are_remembered_and_the_oldest_forgotten(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setattr(memory, "ROOM", 2)
    for at, key in enumerate("abc"):
        memory.remember("copies", key, {"test": at})
        os.utime(home / "copies" / key, (at, at))
    memory.remember("copies", "d", {"test": 3})
    assert memory.recall("copies", "d") == {"test": 3} and memory.recall("copies", "a") is None
    (home / "copies" / "d").write_text("{")
    assert memory.recall("copies", "d") is None


def old(file: Path, content: bytes) -> Path:
    """A file that was not written just now."""
    file.write_bytes(content)
    os.utime(file, (1, 1))
    return file


def test_files_are_read_once_until_a_size_or_a_time_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [old(tmp_path / name, name.encode()) for name in "ab"]
    monkeypatch.setattr(fingerprints, "RECENT", -1e9)  # the time of the last change can't be set back
    reads, real = list[int](), fingerprints._read

    def read(each: Iterable[tuple[str, Path]]) -> str:
        reads.append(1)
        return real(each)

    monkeypatch.setattr(fingerprints, "_read", read)
    first = fingerprint(tmp_path, files)
    assert fingerprint(tmp_path, files) == first and len(reads) == 1
    old(files[0], b"x")
    os.utime(files[0], (2, 2))
    assert fingerprint(tmp_path, files) != first and len(reads) == 2


def test_what_was_written_just_now_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"1")
    status = file.stat()
    first = fingerprint(tmp_path, [file])
    file.write_bytes(b"2")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fingerprint(tmp_path, [file]) != first


def test_a_fingerprint_is_of_paths_and_contents_wherever_they_lie(tmp_path: Path) -> None:
    found = set()
    for place in ("x", "y"):
        (tmp_path / place).mkdir()
        files = [old(tmp_path / place / name, name.encode()) for name in "ab"]
        found |= {fingerprint(tmp_path / place, order) for order in (files, files[::-1])}
    assert len(found) == 1
    files[0].rename(tmp_path / "y" / "c")
    assert fingerprint(tmp_path / "y", [tmp_path / "y" / "c", files[1]]) not in found


def test_a_file_that_cant_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"/folder can't be read"):
        (tmp_path / "folder").mkdir()
        fingerprint(tmp_path, [tmp_path / "folder"])


def test_ls_and_prune_say_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    keep("pets", 2**20)
    cache.ls()
    told = capsys.readouterr().out
    assert "pets" in told and "1 data sets, 0.001 of at most 20 GB" in told
    assert time.strftime("%Y") in told
    cache.prune(most=1.0)
    assert "0 data sets removed" in capsys.readouterr().out
    cache.prune(most=0.0)
    assert "1 data sets removed" in capsys.readouterr().out and stored.entries() == []
