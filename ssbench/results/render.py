"""Tables -> Markdown, CSV, LaTeX and HTML, the same bytes for the same records. No torch."""

import re
import sys
from collections.abc import Collection, Iterable, Sequence
from csv import writer
from html import escape
from io import StringIO
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import NamedTuple

from tabulate import tabulate

from ssbench.errors import UserError, near, one_line
from ssbench.results.grid import SPARKS, Frame
from ssbench.results.marks import MARK
from ssbench.results.store import Store, write_bytes
from ssbench.results.table import DASH, Cell, Column, Row, Table

ENDINGS = (".md", ".csv", ".tex")
COSTS = ("images seen", "pretraining s", "GFLOPs / image", "parameters M")
SHORT = ("images\nseen", "pretrain\ns", "GFLOPs /\nimage", "params\nM")  # the same, on a screen
Shown = Table | Frame


class Text(NamedTuple):
    text: str
    bold: bool = False


def markdown(table: Shown) -> str:
    """Title, pipe table and notes."""
    header, rows = _texts(table)
    body = [[f"**{_plain(cell.text)}**" if cell.bold else _plain(cell.text) for cell in row] for row in rows]
    names = [_plain(name) for name in header]
    grid = tabulate(body, names, "pipe", disable_numparse=True, colalign=_align(len(header)))
    return "\n\n".join([f"**{_plain(table.title)}**", grid, *map(_plain, notes_of(table))]) + "\n"


def width() -> int:
    """Characters in a line of the terminal, or 120 elsewhere."""
    return get_terminal_size().columns if sys.stdout.isatty() else 120


def screen(table: Table, room: int = 0) -> str:
    """What fits `room` characters, else `width()`: title, rows with marks, costs, notes; what is left out is named.

    Headers are short. Costs go first where there is no room, from the right, then columns.
    """
    room = room or width()
    header, rows = _texts(table)
    count = len(table.columns)
    names = [_short(column) for column in table.columns]
    brief = ["method", *names, *header[1 + count : len(header) - len(COSTS)], *SHORT]
    body = [[f"*{cell.text}*" if cell.bold else cell.text for cell in row] for row in rows]
    for shown in range(len(brief), 1, -1):
        grid = tabulate([row[:shown] for row in body], brief[:shown], disable_numparse=True, colalign=_align(shown))
        if max(map(len, grid.splitlines())) <= room:
            break
    left = [f"only in the files: {', '.join(brief[shown:])}"] if shown < len(brief) else []
    stars = [note.replace("bold:", "*bold*:", 1) if note.startswith("bold:") else note for note in notes_of(table)]
    notes = [fill(note, room, break_on_hyphens=False) for note in [*left, *stars]]
    return "\n".join([fill(table.title, room), "", grid, "", *notes]) + "\n"


def _short(column: Column) -> str:
    """`knn top1 ↑`, on two lines, which the narrowest table needs."""
    arrow = {"higher": "↑", "lower": "↓"}[column.score.better] if column.score else ""
    beside = f"({column.beside})" if column.beside else ""
    return f"{column.task}\n{' '.join(part for part in (column.metric, beside, arrow) if part)}".strip()


def _align(columns: int) -> list[str]:
    return ["left", *["right"] * (columns - 1)]


def csv(table: Shown) -> str:
    """One line a row, every number in a column of its own: means, deviations, and for a table what else it knows."""
    header, rows = _csv_frame(table) if isinstance(table, Frame) else _csv_table(table)
    out = StringIO()
    writer(out, lineterminator="\n").writerows([header, *rows])
    return out.getvalue()


def _csv_table(table: Table) -> tuple[list[str], list[list[object]]]:
    """Each column's mean, deviation, 95 % interval, number of seeds, status and marks: bold, and behind the floors.

    The interval is Student's over seeds. Where a second metric stands in brackets, its mean too.
    """
    parts = ("mean", "sd", "low", "high", "n", "status", "ahead", "behind")
    named = [
        f"{one.header} {part}" for one in table.columns for part in (*parts, *([one.beside] if one.beside else []))
    ]
    header = ["method", "control", *named, *COSTS]
    rows: list[list[object]] = []
    for row in table.rows:
        cells = [value for cell, column in zip(row.cells, table.columns) for value in _values(cell, column)]
        parameters = None if row.parameters is None else row.parameters / 1e6
        costs = [_rounded(value) for value in (row.images, row.seconds, row.gflops, parameters)]
        rows.append([row.name, row.control, *cells, *costs])
    return header, rows


def _csv_frame(frame: Frame) -> tuple[list[str], list[list[object]]]:
    """Mean, deviation and interval of columns that have them, to six digits; the text of others."""
    header: list[str] = []
    rows: list[list[object]] = [[] for _ in frame.rows]
    for at, name in enumerate(frame.header):
        values = [row[at] for row in frame.rows]
        found = {
            f"{name} mean": [value.mean for value in values],
            f"{name} sd": [value.sd for value in values],
            f"{name} low": [value.span and value.span[0] for value in values],
            f"{name} high": [value.span and value.span[1] for value in values],
        }
        known = {part: of for part, of in found.items() if any(one is not None for one in of)}
        header += known or [name]
        for row, value, *parts in zip(rows, values, *known.values()):
            row += [None if one is None else float(f"{one:.6g}") for one in parts] if known else [value.text]
    return header, rows


def latex(table: Shown) -> str:
    """A `table` environment for booktabs, methods above the controls, notes below."""
    header, rows = _texts(table)
    body = [" & ".join(_tex(cell) for cell in row) + r" \\" for row in rows]
    methods = len(body) if isinstance(table, Frame) else sum(not row.control for row in table.rows)
    rule = [r"\midrule"] if 0 < methods < len(body) else []
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_tex(Text(table.title))}}}",
        rf"\label{{tab:{table.slug}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
        r"\toprule",
        " & ".join(_tex(Text(name)) for name in header) + r" \\",
        r"\midrule",
        *body[:methods],
        *rule,
        *body[methods:],
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\footnotesize {_tex(Text(note))}" for note in notes_of(table)),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def html(table: Shown) -> str:
    """Title, a `table` element, and notes, as a notebook shows them."""
    header, rows = _texts(table)
    names = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(map(_html, row))}</tr>\n" for row in rows)
    notes = "".join(f"<p><small>{escape(note)}</small></p>\n" for note in notes_of(table))
    return (
        f"<p><strong>{escape(table.title)}</strong></p>\n"
        f"<table>\n<thead><tr>{names}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n{notes}"
    )


def _html(cell: Text) -> str:
    text = escape(cell.text)
    return f"<td>{f'<strong>{text}</strong>' if cell.bold else text}</td>"


def files(tables: Sequence[Shown]) -> dict[str, bytes]:
    """Name -> content of `SLUG.md`, `.csv` and `.tex` of each table, and of `index.md`."""
    made = {"index.md": "# Tables\n" + "".join(f"\n{markdown(table)}" for table in tables)}
    for table in tables:
        made |= {table.slug + end: make(table) for end, make in zip(ENDINGS, (markdown, csv, latex))}
    return {name: text.encode() for name, text in sorted(made.items())}


def write(store: Store, tables: Sequence[Shown]) -> list[Path]:
    """Write the files of all tables below `tables/`, and remove table files that no record stands behind."""
    made = files(tables)
    for name in stray(store, made):
        (store.tables / name).unlink()
    for name, content in made.items():
        write_bytes(store.tables / name, content)
    return [store.tables / name for name in made]


def stray(store: Store, made: Collection[str]) -> list[str]:
    """Table files that are not among those made."""
    return sorted(old.name for old in store.tables.glob("*") if old.suffix in ENDINGS and old.name not in made)


MARKER = re.compile(r"<!-- /?table:(\S+) -->")
PAIR = re.compile(r"(<!-- table:(\S+) -->)(?:(?!<!-- /?table:).)*(<!-- /table:\2 -->)", re.DOTALL)


def pages(files: Iterable[Path]) -> dict[Path, str]:
    """The texts of Markdown files; raises UserError."""
    found = {}
    for file in files:
        try:
            found[file] = file.read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--readme {file} can't be read ({one_line(error)})") from None
    return found


def readme(text: str, tables: Sequence[Shown]) -> str:
    """`text` with what stands between `<!-- table:SLUG -->` and `<!-- /table:SLUG -->` replaced by that table.

    Raises UserError on a marker without its partner, or with a slug that no table has.
    """
    known = {table.slug: table for table in tables}
    lone = MARKER.search(PAIR.sub("", text))
    if lone:
        slug = lone[1]
        raise UserError(
            f"{lone[0]} has no partner; a table stands between <!-- table:{slug} --> and <!-- /table:{slug} -->"
        )
    for opening, slug, _ in PAIR.findall(text):
        if slug not in known:
            raise UserError(f"{opening}: there is no table {slug!r}{near(slug, known)}")
    end = "\r\n" if "\r\n" in text else "\n"
    return PAIR.sub(lambda pair: f"{pair[1]}\n{markdown(known[pair[2]])}{pair[3]}".replace("\n", end), text)


def _texts(table: Shown) -> tuple[list[str], list[list[Text]]]:
    """Header and rows as they are read; numbers of seeds have a column where they are not all equal."""
    if isinstance(table, Frame):
        return [*table.header], [[Text(value.text, value.bold) for value in row] for row in table.rows]
    unequal = len(table.seeds) > 1
    header = ["method", *(column.header for column in table.columns), *["seeds"] * unequal, *COSTS]
    rows = []
    for row in table.rows:
        cells = [Text(_cell(cell, column), cell.bold) for cell, column in zip(row.cells, table.columns)]
        seeds = [Text(counts(row))] if unequal else []
        rows.append([Text(row.name), *cells, *seeds, *(Text(cost) for cost in costs_of(row))])
    return header, rows


def _cell(cell: Cell, column: Column) -> str:
    """`47.1 ± 0.6 ° [1]`."""
    text = "failed" if cell.status == "failed" else DASH
    if cell.mean is not None:
        beside = "" if cell.beside is None else f" ({column.text(cell.beside, None)})"
        text = column.text(cell.mean, cell.sd) + beside + f" {MARK}" * cell.behind
    return " ".join([text, *(f"[{note}]" for note in cell.notes)])


def counts(row: Row) -> str:
    """`3`, or one number a column, `3/1`, where the cells that have values differ."""
    counts = [len(cell.values) for cell in row.cells]
    different = {*counts} - {0}
    return "/".join(map(str, counts if len(different) > 1 else different)) or DASH


def costs_of(row: Row) -> list[str]:
    return [
        "given" if row.given else DASH if row.images is None else f"{row.images:,.0f}",
        DASH if row.seconds is None else f"{row.seconds:,.1f}",
        DASH if row.gflops is None else f"{row.gflops:.3g}",
        DASH if row.parameters is None else f"{row.parameters / 1e6:.2f}",
    ]


def notes_of(table: Shown) -> list[str]:
    if isinstance(table, Frame):
        return [*table.notes]
    return [*table.notes, *(f"[{number}] {note}" for number, note in enumerate(table.footnotes, 1))]


def _values(cell: Cell, column: Column) -> list[object]:
    beside, ends = [cell.beside] if column.beside else [], cell.interval or (None, None)
    numbers = map(_rounded, (cell.mean, cell.sd, *ends))
    return [*numbers, len(cell.values), cell.status, cell.bold, cell.behind, *map(_rounded, beside)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _plain(text: str) -> str:
    """Neither a border of the table nor a tag, whatever a name or a reason contains."""
    return text.replace("|", r"\|").replace("<", "&lt;")


TEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", DASH: "--"}
    | {"→": r"$\rightarrow$", MARK: r"$^\circ$", "≤": r"$\leq$", "≥": r"$\geq$"}
    | dict.fromkeys(SPARKS, "")  # no font of LaTeX's own has bars
)


def _tex(cell: Text) -> str:
    text = cell.text.translate(TEX).strip()
    text = "{}" * text.startswith(("[", "*")) + text  # behind the end of a row these would belong to that
    return rf"\textbf{{{text}}}" if cell.bold else text
