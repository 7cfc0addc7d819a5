"""Tables, verdicts, figures and pictures -> one HTML file that asks nothing of any network. No torch.

Every name is escaped, every number has its record and the command that makes it again.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

from matplotlib.figure import Figure

from ssbench.report import plots
from ssbench.report.pictures import Picture
from ssbench.results.grid import Frame
from ssbench.results.record import Record
from ssbench.results.render import COSTS, Shown, costs_of, counts, notes_of
from ssbench.results.scaling import Scaled
from ssbench.results.standing import judging
from ssbench.results.store import write_bytes
from ssbench.results.table import DASH, Cell, Column, Row, Table
from ssbench.results.verdict import verdict

Known = Mapping[str, Record]  # by id
FIGURED = 20  # of the tables, the largest: a page of 10,000 records stays below 10 MB
# a browser loads what is in the file and asks nobody for more
NOTHING_ELSE = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
BEHIND = "not shown to be ahead of the untrained network and raw pixels, by tests of the whole table"
COST = (
    "Mean score against the cost of pretraining. The line joins the best means without labels at their cost, which no "
    "test says; grey: controls and rows with labels, dotted where nothing was trained."
)
LEARNING = (
    "Along the steps, a line a seed: how many of the held-out images (select) their nearest neighbours there tell, in "
    "%. It chooses nothing."
)
SCALING = "Mean and deviation over seeds. Laws and intervals stand in the table."
NEMENYI = "Rows beside thick parts of one line are not told apart by Nemenyi's test at 5 %; 1 is best."
LOSSES = "Training loss along the steps, a line a seed. Losses of different methods have no scale in common."


@dataclass(frozen=True)
class Drawn:
    """A figure and what it shows."""

    name: str  # of its files
    figure: Figure
    note: str
    title: str  # of its table


def page(
    made: Sequence[Shown],
    records: Known,
    drawn: Mapping[str, Sequence[Drawn]],
    pictures: Mapping[str, Sequence[Picture]],
    title: str,
    folder: str = "results",
) -> str:
    """The whole file. `made` are the tables in order; figures and pictures are those of a table, by its slug.

    `folder` has the records.
    """
    tables, beside = largest(made), about(made)
    said = {table.slug: verdict(table) for table in tables}
    answers = "".join(
        f'<li><a href="#{escape(table.slug)}">{escape(table.title)}</a><br>{escape(_brief(table, said))}</li>\n'
        for table in tables
    )
    done = len({one for table in tables for row in table.rows for cell in row.cells for one in cell.ids})
    where = f" Commands take <code>--results {escape(folder)}</code>." if folder != "results" else ""
    if len(tables) > FIGURED:
        where += f" Figures are of the first {FIGURED} tables; <code>ssbench report --figures FOLDER</code> draws all."
    body = [
        f"<header><h1>{escape(title)}</h1>\n<p>{len(tables)} tables of {done} records, the largest first. A verdict "
        f"says no more than the tests under its table do. ° behind a score: {BEHIND}. A score opens into its seeds."
        f"{where}</p>"
        "</header>",
        f'<nav aria-label="verdicts"><h2>What to take</h2><ol>\n{answers}</ol></nav>',
        *(
            _section(table, said[table.slug], records)
            + "".join(map(_figure, drawn.get(table.slug, ()) if at < FIGURED else ()))
            + "".join(map(_picture, pictures.get(table.slug, ())))
            + "\n".join(map(_folded, beside[table.slug]))
            + "\n</section>"
            for at, table in enumerate(tables)
        ),
        *_others(beside[""], drawn.get("", ())),
    ]
    style, script = (files("ssbench.report").joinpath(name).read_text() for name in ("report.css", "report.js"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{NOTHING_ELSE}">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n'
        + "\n".join(body)
        + f"\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def largest(made: Iterable[Shown]) -> list[Table]:
    """The tables, those with the most scores first."""
    tables = [one for one in made if isinstance(one, Table)]
    return sorted(tables, key=lambda table: -sum(len(cell.values) for row in table.rows for cell in row.cells))


def _brief(table: Table, said: Mapping[str, Sequence[str]]) -> str:
    """The answer without the table's title, which stands before it."""
    return said[table.slug][0].replace(f" for this data at this budget ({table.title})", "").replace(",:", ":")


def about(made: Iterable[Shown]) -> dict[str, list[Frame]]:
    """The frames that belong to each table, by its slug, which theirs begin with; those of no table under ''."""
    made = [*made]
    found: dict[str, list[Frame]] = {"": [], **{one.slug: [] for one in made if isinstance(one, Table)}}
    for frame in made:
        if isinstance(frame, Frame):
            owners = [slug for slug in found if slug and frame.slug.startswith(f"{slug}-")]
            found[max(owners, key=len, default="")].append(frame)
    return found


def _section(table: Table, said: Sequence[str], records: Known) -> str:
    """Its start: verdict and table."""
    answer, *rest = said
    told = "".join(f"<p>{escape(text)}</p>" for text in rest)
    return (
        f'<section id="{escape(table.slug)}">\n<h2>{escape(table.title)}</h2>\n'
        f'<div class="verdict"><p><strong>{escape(answer)}</strong></p>{told}</div>\n{_board(table, records)}\n'
    )


def _board(table: Table, records: Known) -> str:
    """The table to be sorted and filtered, and what is said below it."""
    unequal = len(table.seeds) > 1
    names = ["method", *(column.header for column in table.columns), *["seeds"] * unequal, *COSTS]
    head = "".join(f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in names)
    rows = "\n".join(_row(row, table, unequal, records) for row in table.rows)
    notes = "".join(f"<li>{escape(note)}</li>\n" for note in notes_of(table))
    filtered = f"filter-{table.slug}"
    return (
        f'<p class="filter"><label for="{escape(filtered)}">Rows that contain</label> '
        f'<input id="{escape(filtered)}" type="search" autocomplete="off"></p>\n'
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(table.title)}"><table class="board">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>\n"
        f"<details><summary>How to read it</summary><ul>\n{notes}</ul></details>"
    )


def _row(row: Row, table: Table, unequal: bool, records: Known) -> str:
    cells = "".join(_number(cell, column, records) for cell, column in zip(row.cells, table.columns))
    seeds = f"<td>{escape(counts(row))}</td>" if unequal else ""
    costs = [row.images, row.seconds, row.gflops, row.parameters]
    told = "".join(f"<td{_sort(value)}>{escape(text)}</td>" for value, text in zip(costs, costs_of(row)))
    kind = ' class="control"' if row.control else ""
    return f'<tr{kind}><th scope="row">{escape(row.name)}</th>{cells}{seeds}{told}</tr>'


def _sort(value: float | None) -> str:
    """What a number is sorted by."""
    return "" if value is None else f' data-value="{value:.6g}"'


def _number(cell: Cell, column: Column, records: Known) -> str:
    """A mean that opens: each seed's score, and how its record is made again."""
    if not cell.ids:
        return f"<td>{DASH}</td>"
    text = column.text(cell.mean, cell.sd) if cell.mean is not None else cell.status.replace("-", " ")
    text += "" if cell.beside is None else f" ({column.text(cell.beside, None)})"
    marks = " °" * cell.behind + "".join(f" [{note}]" for note in cell.notes)
    shown = f"<strong>{escape(text)}</strong>" if cell.bold else escape(text)
    seeds = "".join(f"<li>{_run(records[one])}</li>" for one in cell.ids if one in records)
    return f"<td{_sort(cell.mean)}><details><summary>{shown}{escape(marks)}</summary><ul>{seeds}</ul></details></td>"


def _run(record: Record) -> str:
    """`seed 0: 41.2 (39.0 to 43.4)` and the command."""
    score = record.scores[record.headline] if record.status == "done" else None
    said = f"{score.value:.4g} ({score.low:.4g} to {score.high:.4g})" if score else record.status
    probe = f", probe {record.spec.probe}" if record.spec.probe else ""
    seed = f"seed {record.spec.pretraining.seed}{probe}"
    return f"{seed}: {escape(said)} <code>ssbench reproduce {escape(record.id)}</code>"


def figures(made: Sequence[Shown], records: Known, most: int | None = FIGURED) -> dict[str, list[Drawn]]:
    """Of so many tables, None for all, by slug: score against cost, ranks, losses; under '' those of several tables."""
    beside = about(made)
    found = {one.slug: _figures(one, beside[one.slug], records) for one in largest(made)[:most]}
    grown = [frame for frame in beside[""] if isinstance(frame, Scaled)]
    several = [Drawn(frame.slug, plots.scaling(frame), SCALING, frame.title) for frame in grown]
    ranked = [frame for frame in beside[""] if frame.slug == "across"]
    several += [Drawn(frame.slug, plots.nemenyi(frame), NEMENYI, frame.title) for frame in ranked]
    return found | {"": several}


def _figures(table: Table, frames: Sequence[Frame], records: Known) -> list[Drawn]:
    found: list[tuple[str, Figure | None, str]] = [("cost", plots.pareto(table), COST)]
    standing = next((frame for frame in frames if frame.slug == f"{table.slug}-standing"), None)
    if standing:
        found.append(("ranks", plots.ranks(standing), "Average rank of each row over the columns; 1 is best."))
        for place, at in enumerate(judging(table), 1):
            letters = {row[0].text: row[place].text.split()[-1] for row in standing.rows if row[place].text != DASH}
            note = f"{table.columns[at].task}: rows beside thick parts of one line are not told apart (±: over seeds)."
            found.append((f"apart-{place}", plots.apart(table, at, letters) if len(letters) > 1 else None, note))
    runs = _runs(table, records)
    found += [("losses", plots.losses(runs), LOSSES), ("learning", plots.learning(runs), LEARNING)]
    return [Drawn(f"{table.slug}-{name}", figure, note, table.title) for name, figure, note in found if figure]


def write_figures(drawn: Mapping[str, Sequence[Drawn]], folder: Path) -> list[Path]:
    """Each as SVG, in black, and as PNG."""
    written = []
    for one in (each for some in drawn.values() for each in some):
        text = plots.svg(one.figure, f"{one.title}: {one.note}", one.name).replace("currentColor", "#000")
        for end, content in ((".svg", text.encode()), (".png", plots.png(one.figure))):
            write_bytes(folder / f"{one.name}{end}", content)
            written.append(folder / f"{one.name}{end}")
    return written


def _figure(one: Drawn) -> str:
    shown = plots.svg(one.figure, f"{one.title}: {one.note}", one.name)
    return f"<figure>{shown}<figcaption>{escape(one.note)}</figcaption></figure>\n"


def behind(table: Table, records: Known) -> list[Record]:
    """The records of a table, in the order of its rows."""
    return [records[one] for row in table.rows for cell in row.cells for one in cell.ids if one in records]


def _runs(table: Table, records: Known) -> dict[str, list[Record]]:
    """The records of each row's first column that has any: its trainings, one a seed."""
    first = {row.name: next((cell.ids for cell in row.cells if cell.ids), ()) for row in table.rows}
    return {name: [records[one] for one in ids if one in records] for name, ids in first.items()}


def _picture(picture: Picture) -> str:
    shown = b64encode(picture.content).decode()
    caption = escape(picture.caption)
    return (
        f'<figure class="picture"><img alt="{caption}" src="data:image/png;base64,{shown}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _folded(frame: Frame) -> str:
    """A frame behind its title."""
    head = "".join(f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in frame.header)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(first.text)}</th>'
        + "".join(
            f"<td{_sort(one.mean)}>{f'<strong>{escape(one.text)}</strong>' if one.bold else escape(one.text)}</td>"
            for one in rest
        )
        + "</tr>"
        for first, *rest in frame.rows
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in frame.notes)
    return (
        f"<details><summary>{escape(frame.title)}</summary>"
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(frame.title)}">'
        f'<table class="board"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f"<ul>{notes}</ul></details>"
    )


def _others(frames: Sequence[Frame], drawn: Sequence[Drawn]) -> list[str]:
    """What is about several tables."""
    if not frames:
        return []
    shown = "".join(map(_figure, drawn)) + "\n".join(map(_folded, frames))
    return [f"<section><h2>Over several tables</h2>\n{shown}\n</section>"]
