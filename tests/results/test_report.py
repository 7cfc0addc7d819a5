"""One page: what it says is what its tables say, every name is escaped, it asks nobody for anything, and it works."""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from ssbench.report import page as report
from ssbench.report import plots
from ssbench.report.pictures import Picture, of_records, panels
from ssbench.results.across import ranked
from ssbench.results.every import every
from ssbench.results.grid import Frame, Value
from ssbench.results.scaling import Scaled
from ssbench.results.store import Store
from ssbench.results.table import Table, build
from ssbench.results.verdict import verdict
from ssbench.training.pictures import draw

from .test_standing import near, row, table
from .test_table import CONTROLS, make

NASTY = "<img src=x onerror=alert(1)>&\"'"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=5000"),
)


class Seen(HTMLParser):
    """Ids, and attributes that could load something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for key, value in attrs if key == "id"]
        self.links += [value or "" for key, value in attrs if key in ("src", "href", "xlink:href")]
        if tag not in ("meta", "link", "input", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two methods, one of a nasty name, and the controls, in two tasks."""
    made = Store(tmp_path / "results")
    for task, lift in (("knn", 0.0), ("linear-probe", 5.0)):
        make(made, "simclr", 50.0 + lift, 51.0 + lift, 52.0 + lift, task=task)
        make(made, NASTY, 30.0 + lift, 31.0 + lift, 30.5 + lift, task=task)
        make(made, "random-init", 20.0, 21.0, 20.5, task=task)
        make(made, "raw-pixels", 10.0, 10.0, 10.0, task=task)
        make(made, "supervised", 70.0, 71.0, 72.0, task=task)
    return made


def page(store: Store, **pictures: list[Picture]) -> str:
    records = store.all()
    known = {record.id: record for record in records}
    made = every(store, CONTROLS, records)
    return report.page(made, known, report.figures(made, known), pictures, f"Which {NASTY}")


def test_every_number_has_its_record_and_the_verdict_is_on_top(store: Store) -> None:
    text = page(store)
    for record in store.all():
        assert f"<code>ssbench reproduce {record.id}</code>" in text
    (one,) = build(store, CONTROLS)
    answer, *told = verdict(one)
    said = unescape(re.sub(r"<[^>]*>", "", text))
    assert answer in said and all(sentence in said for sentence in told)
    assert said.index("What to take") < said.index("it is ahead of every other row without labels") < said.index("knn:")


def test_every_name_is_escaped_and_nothing_is_loaded(store: Store) -> None:
    text = page(store)
    assert "<img src=x" not in text and "&lt;img src=x onerror=alert(1)&gt;" in text
    seen = Seen(text)
    assert all(link.startswith(("#", "data:")) for link in seen.links) and not seen.open
    assert len({*seen.ids}) == len(seen.ids)
    assert "@import" not in text and "default-src 'none'" in text
    assert text.count("prefers-color-scheme: dark") == 1


def test_the_same_records_give_the_same_page(store: Store) -> None:
    assert page(store) == page(store)


def test_pictures_say_what_their_panels_are(store: Store, tmp_path: Path) -> None:
    records = store.all()
    first = next(record for record in records if record.spec.pretraining.method == "simclr")
    folder = store.cache / "pictures" / first.spec.pretraining.digest()
    folder.mkdir(parents=True)
    for step in (0, 500):
        (folder / f"{step:06d}.png").write_bytes(draw(torch.full((2, 3, 3, 8, 8), step / 1000)))
    (found,) = of_records(store, records)
    assert found.content == (folder / "000500.png").read_bytes()
    assert found.caption.startswith("simclr, seed 0, step 500: ")
    assert "what is visible" in panels("mim-random") and panels("no-such-method") == "a row an image"
    (slug,) = (one.slug for one in build(store, CONTROLS))
    assert f'<img alt="{escape(found.caption)}" src="data:image/png;base64,' in page(store, **{slug: [found]})


def test_the_front_is_what_no_other_beats_at_less_cost() -> None:
    costs = {"cheap": (20, 1.0), "dear": (50, 9.0), "beaten": (19, 5.0), "middle": (30, 3.0), "twin": (30, 3.0)}
    rows = [replace(row(name, near(score)), gflops=cost) for name, (score, cost) in costs.items()]
    column = table(*rows).columns[0]
    assert [one.name for one in plots.front(rows, column, 0)] == ["cheap", "middle", "dear"]
    assert column.score is not None
    falls = replace(column, score=column.score.model_copy(update={"better": "lower"}))
    assert [one.name for one in plots.front(rows, falls, 0)] == ["cheap", "beaten"]


def test_figures_are_svg_that_takes_the_pages_colour(store: Store, tmp_path: Path) -> None:
    records = {record.id: record for record in store.all()}
    drawn = report.figures(every(store, CONTROLS, [*records.values()]), records)
    names = {one.name.rpartition("-64000-")[2] for some in drawn.values() for one in some}
    assert any(name.endswith("cost") for name in names) and any(name.endswith("ranks") for name in names)
    for one in (each for some in drawn.values() for each in some):
        text = plots.svg(one.figure, f"about {NASTY}", one.name)
        root = ElementTree.fromstring(text)
        assert root.attrib["aria-label"] == f"about {NASTY}" and "currentColor" in text and plots.INK not in text
    written = report.write_figures(drawn, tmp_path / "figures")
    assert len(written) == 2 * sum(map(len, drawn.values())) and all(file.stat().st_size > 500 for file in written)


def test_a_page_of_many_tables_has_the_figures_of_the_largest(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    records = {record.id: record for record in store.all()}
    made = every(store, CONTROLS, [*records.values()])
    (first, *_) = report.largest(made)
    assert first.slug in report.figures(made, records) and "draws all" not in page(store)
    monkeypatch.setattr(report, "FIGURED", 0)
    text = page(store)
    assert "<svg" not in text and "Figures are of the first 0 tables" in text
    assert first.slug not in report.figures(made, records, 0) and first.slug in report.figures(made, records, None)


def test_bars_join_what_is_not_told_apart() -> None:
    rows = [row("best", near(50)), row("twin", near(49.9, 5)), row("worse", near(30))]
    figure = plots.apart(table(*rows), 0, {"best": "a", "twin": "a", "worse": "b"})
    assert bars(figure) == [(-0.3, 1.3)]


def test_a_bar_is_thin_where_it_passes_a_row_that_is_told_apart() -> None:
    rows = [row("best", near(50)), row("sure", near(49, 5)), row("vague", near(30))]
    figure = plots.apart(table(*rows), 0, {"best": "a", "sure": "b", "vague": "ab"})
    assert bars(figure) == [(-0.3, 0.3), (1.7, 2.3), (0.7, 2.3)]


def test_ranks_over_data_sets_have_bars_beside_those_that_are_not_told_apart() -> None:
    frame = ranked(["a", "b", "c"], np.array([[9.0 - at, 5 - at, 1 - at] for at in range(12)]), ["data"] * 12)
    assert [row[2].text for row in frame.rows] == ["a", "b", "c"]
    assert not bars(plots.nemenyi(frame))
    frame = ranked(["a", "b", "c"], np.array([[9.0, 5, 1], [9, 1, 5], [5, 9, 1]]), ["data"] * 3)
    figure = plots.nemenyi(frame)
    assert bars(figure) == [(-0.3, 2.3)]
    dots = [float(line.get_xdata()[0]) for line in figure.axes[0].get_lines() if line.get_marker() == "o"]  # type: ignore[index, arg-type]
    assert dots == pytest.approx([4 / 3, 2, 8 / 3])


def test_scores_by_budget_are_lines_named_at_their_ends() -> None:
    scores = {"a$_1$": (20.0, 30.0, 40.0), "b": (10.0, 12.0, 40.1)}
    rows = tuple(
        (Value(name), *(Value(f"{one}", one, 0.5) for one in of), Value("0.5", 0.5)) for name, of in scores.items()
    )
    amounts = (1000.0, 4000.0, 16000.0)
    frame = Scaled("s", "by budget", ("method", *"abc", "GFLOPs / image"), rows, (), "samples", amounts, (0.5, 0.5))
    figure = plots.scaling(frame)
    assert [one.get_text() for one in figure.axes[0].get_xticklabels()] == ["1k", "4k", "16k"]
    for panel, across in zip(figure.axes, (amounts, (0.5, 2.0, 8.0)), strict=True):
        lines = [of for of in panel.get_lines() if of.get_linestyle() == "-"]
        found = [[*map(tuple, np.asarray(of.get_xydata()).tolist())] for of in lines]
        assert found == [[*zip(across, of)] for of in scores.values()]
    names = [one for one in figure.axes[1].texts if isinstance(one, Annotation)]
    assert [one.get_text() for one in names] == [*scores]
    low, high = (one.xy[1] for one in names)
    assert high - low > 1, "names of equal ends stand apart"
    assert len(plots.scaling(replace(frame, unit="flops")).axes) == 1, "a budget that is a cost has one axis"


def test_what_neighbours_tell_is_drawn_where_it_was_watched(store: Store) -> None:
    records = store.all()
    assert plots.learning({"a": records}) is None
    health = [{"step": step, "clipped": 0.0, "select_knn": 20.0 + step} for step in (0, 5, 10)]
    watched = [record.model_copy(update={"health": health}) for record in records[:2]]
    figure = plots.learning({"a": watched, "b": records[2:]})
    assert figure is not None
    (panel,) = figure.axes
    frame, *lines = (np.asarray(of.get_xydata()) for of in panel.get_lines())
    left, right, top, bottom = frame[0, 0], frame[-1, 0], frame[0, 1], frame[-1, 1]
    assert len(lines) == 2 and lines[0][:, 0] == pytest.approx([left, (left + right) / 2, right])
    assert bottom > top and lines[0][:, 1] == pytest.approx(bottom + np.array([1, 6, 11]) / 12 * (top - bottom))
    assert [one.get_text() for one in panel.texts] == ["a", "31", "19", "0", "10"]
    high = [
        one.model_copy(update={"supervised": True, "health": [{**at, "select_knn": 90.0} for at in health]})
        for one in watched
    ]
    figure = plots.learning({"a": watched, "b": high})
    assert figure is not None
    said = [one.get_text() for one in figure.axes[0].texts]
    assert said == ["a", "31", "19", "0", "10", "b", "91", "90", "0", "10"], "labels set no scale for the others"


def test_a_loss_that_is_no_number_leaves_the_others_their_scale(store: Store) -> None:
    loss = [{"step": step, "loss": value} for step, value in ((0, 4.0), (5, 2.0), (10, float("nan")))]
    figure = plots.losses({"a": [record.model_copy(update={"loss": loss}) for record in store.all()[:1]]})
    assert figure is not None
    assert [one.get_text() for one in figure.axes[0].texts] == ["a", "4", "2", "0", "10"]
    ElementTree.fromstring(plots.svg(figure, "losses", "losses"))


def bars(figure: Figure) -> list[tuple[float, ...]]:
    """The thick lines beside the rows."""
    (panel,) = figure.axes
    lines = [line for line in panel.lines if line.get_transform() == panel.get_yaxis_transform()]
    return [tuple(np.asarray(line.get_ydata()).tolist()) for line in lines if line.get_linewidth() > 1]


def test_a_row_that_a_task_was_not_asked_of_is_in_no_figure_of_it(store: Store) -> None:
    make(store, "byol", 40.0, 41.0, 42.0, task="knn")
    known = {record.id: record for record in store.all()}
    drawn = {
        one.name.partition("-apart-")[2]: one.figure
        for of in report.figures(every(store, CONTROLS, [*known.values()]), known).values()
        for one in of
    }
    names = [[one.get_text() for one in drawn[place].axes[0].get_yticklabels()] for place in "12"]
    assert "byol" in names[0] and "byol" not in names[1] and len(names[1]) == len(names[0]) - 1


def test_a_name_is_no_formula() -> None:
    figure = plots.apart(
        table(row("m [a=$\\frac$]", near(50)), row("b", near(1))), 0, {"m [a=$\\frac$]": "a", "b": "b"}
    )
    assert "$\\frac$" in plots.svg(figure, "names", "names")


def test_frames_stand_with_the_table_that_they_are_about() -> None:
    short = Table("t", "", (), (), (), ())
    longer = Table("t-64", "", (), (), (), ())
    frames = [Frame(slug, "", ("method",), ((Value("a"),),), ()) for slug in ("t-standing", "t-64-standing", "other")]
    found = report.about([short, longer, *frames])
    assert {slug: [one.slug for one in of] for slug, of in found.items()} == {
        "": ["other"],
        "t": ["t-standing"],
        "t-64": ["t-64-standing"],
    }


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_rows_are_sorted_and_filtered_in_a_browser(store: Store, tmp_path: Path) -> None:
    """By clicks as a reader makes them; no error, no request."""
    deed = """
    const board = document.querySelector("table.board"), names = () => [...board.tBodies[0].rows]
      .filter(row => !row.hidden).map(row => row.cells[0].textContent.slice(0, 10)).join("|");
    const said = [], knn = board.tHead.rows[0].cells[1];
    knn.querySelector("button").click(); said.push(knn.getAttribute("aria-sort"), names());
    knn.querySelector("button").click(); said.push(knn.getAttribute("aria-sort"), names());
    board.tHead.rows[0].cells[0].querySelector("button").click(); said.push(names());
    const box = document.querySelector("input[type=search]");
    box.value = "SIMC"; box.dispatchEvent(new Event("input")); said.push(names());
    box.value = "reproduce"; box.dispatchEvent(new Event("input")); said.push(names() || "none");
    const wins = [...document.querySelectorAll("details table.board")].find(one => one.textContent.includes("wins"));
    const at = [...wins.tHead.rows[0].cells].findIndex(one => one.textContent.startsWith("wins"));
    wins.tHead.rows[0].cells[at].querySelector("button").click();
    said.push([...wins.tBodies[0].rows].map(row => parseInt(row.cells[at].textContent)).join("|"));
    said.push(performance.getEntriesByType("resource").length);
    document.body.textContent = said.join(" ; ");
    """
    file = tmp_path / "report.html"
    file.write_text(page(store).replace("</body>", f"<script>{deed}</script></body>"))
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'chromium'}", "--dump-dom", file.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    falls, down, rises, up, by_name, filtered, folded, wins, requests = (
        unescape(ran.stdout.partition("<body>")[2].partition("</body>")[0]).strip().split(" ; ")
    )
    order = ["supervised", "simclr", NASTY[:10], "random-ini", "raw-pixels"]
    assert (falls, rises) == ("descending", "ascending")
    assert down.split("|") == order and up.split("|") == order[::-1]
    assert by_name.split("|") == sorted(order, key=str.lower)
    assert filtered == "simclr" and folded == "none" and requests == "0"
    assert [*map(int, wins.split("|"))] == sorted(map(int, wins.split("|")), reverse=True)
    assert "CONSOLE" not in ran.stderr, ran.stderr


def test_the_command_writes_the_page_and_its_figures(
    store: Store, tmp_path: Path, ssbench: "Callable[..., subprocess.CompletedProcess[str]]"
) -> None:
    out = tmp_path / "new" / "report.html"
    ran = ssbench("report", "--results", store.folder, "--out", out, "--figures", tmp_path / "figures")
    assert ran.returncode == 0 and "report.html: 0." in ran.stdout, ran.stderr
    assert out.read_text().startswith("<!doctype html>") and len([*(tmp_path / "figures").iterdir()]) >= 8
    gone = ssbench("report", "--results", tmp_path / "nowhere", "--out", tmp_path / "x.html")
    assert gone.returncode == 2 and "no records there" in gone.stderr and not (tmp_path / "x.html").exists()
    folder = ssbench("report", "--results", store.folder, "--out", tmp_path)
    assert folder.returncode == 2 and "is a folder; name a file" in folder.stderr


def test_a_failed_run_is_on_the_page(tmp_path: Path) -> None:
    made = Store(tmp_path)
    make(made, "simclr", 50.0, 51.0, 52.0)
    make(made, "byol", 0.0, status="failed", reason="out of memory")
    text = page(made)
    (failed,) = (record for record in made.all() if record.status == "failed")
    assert f"failed <code>ssbench reproduce {failed.id}</code>" in text and "out of memory" in text
