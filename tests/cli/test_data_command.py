"""`ssbench data` as a user types it."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

from PIL import Image

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


def test_wrong_words_are_one_line_and_status_2(ssbench: Command, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for words, said in (
        (("folder:nowhere",), "nowhere"),
        (("shapez",), "unknown dataset"),
        ((f"folder:{photos}", "--html"), "--html: say where to with --out FOLDER"),
        ((f"folder:{photos}", "--out", tmp_path / "file"), "there is a file of that name"),
        ((f"folder:{photos}", "--set", "train.lr=1"), "only data.… is set here"),
        ((f"folder:{photos}", "--set", "data.labl=x"), "unknown setting data.labl; did you mean label?"),
    ):
        ran = ssbench("data", *words)
        assert ran.returncode == 2 and said in ran.stderr and len(ran.stderr.splitlines()) == 1, ran.stderr
