"""`ssbench data` as a user types it."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from PIL import Image

from ssbench.cli.data import data
from ssbench.errors import UserError

Command = Callable[..., CompletedProcess[str]]


def test_without_a_folder_the_facts_are_printed_and_nothing_is_written(
    ssbench: Command, photos: Path, tmp_path: Path
) -> None:
    ran = ssbench("data", f"folder:{photos}", "--set", "data.image_size=8", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("photos") and "read at 8 px" in ran.stdout
    assert "bright" in ran.stdout and "segmentation needs mask" in ran.stdout
    assert not [*tmp_path.iterdir()]


def test_a_page_and_its_pictures_are_written(ssbench: Command, photos: Path, tmp_path: Path) -> None:
    ran = ssbench("data", f"folder:{photos}", "--out", tmp_path / "page")
    assert ran.returncode == 0, ran.stderr
    assert sorted(file.name for file in (tmp_path / "page").iterdir()) == ["index.md", "labels.png", "samples.png"]
    text = (tmp_path / "page" / "index.md").read_text()
    assert ran.stdout.splitlines() == [text.splitlines()[2], f"written: {tmp_path / 'page' / 'index.md'}"]
    assert "![Samples](samples.png)" in text and "| bright" in text
    assert Image.open(tmp_path / "page" / "samples.png").width > 1000


def test_html_is_one_file(ssbench: Command, photos: Path, tmp_path: Path) -> None:
    ran = ssbench("data", f"folder:{photos}", "--out", tmp_path, "--html")
    assert ran.returncode == 0, ran.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text().count("data:image/png;base64,") == 2


def test_a_wrong_word_is_one_line_and_status_2(ssbench: Command) -> None:
    ran = ssbench("data", "shapez")
    assert ran.returncode == 2 and ran.stderr.startswith("ssbench: unknown dataset 'shapez'; did you mean shapes")
    assert len(ran.stderr.splitlines()) == 1


def test_what_cannot_be_done_is_refused_before_data_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for asked, said in (
        ({"html": True}, "--html: say where to with --out FOLDER"),
        ({"out": tmp_path / "file"}, "there is a file of that name"),
        ({"set_": ["train.lr=1"]}, "only data.… is set here"),
        ({"set_": ["data.labl=x"]}, "unknown setting data.labl; did you mean label?"),
    ):
        given: dict[str, Any] = {"out": None, "html": False, "set_": None, **asked}
        with pytest.raises(UserError) as refused:
            data("shapes", **given)
        assert said in str(refused.value)
