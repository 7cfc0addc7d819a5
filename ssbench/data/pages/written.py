"""A page of facts and pictures -> text for a terminal, Markdown, HTML. No torch."""

from base64 import b64encode
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

from tabulate import tabulate

ROWS = 20  # of a table on a terminal
STYLE = "body{font:15px/1.5 sans-serif;max-width:1250px;margin:2em auto;padding:0 1em}img{max-width:100%}"
STYLE += "td,th{padding:.1em .8em;text-align:left;vertical-align:top}td{border-top:1px solid #ddd}"


class Picture(NamedTuple):
    name: str  # of its file
    what: str  # it shows
    draw: Callable[[], bytes]  # a PNG


class Section(NamedTuple):
    """What is known of one matter."""

    title: str
    lines: Sequence[str] = ()
    header: tuple[str, ...] = ()
    rows: Sequence[tuple[str, ...]] = ()
    pictures: Sequence[Picture] = ()

    def table(self, form: str, rows: Sequence[Sequence[str]]) -> str:
        """Some rows, with numbers to the right."""
        numbers = [all(row[at][:1].isdigit() for row in self.rows) for at in range(len(self.header))]
        align = ["left", *("right" if number else "left" for number in numbers[1:])]
        return str(tabulate(rows, self.header, form, disable_numparse=True, colalign=align))


class Page(NamedTuple):
    title: str
    said: tuple[str, ...]  # the sentence of `ssbench run`, and what it refuses the data for
    sections: tuple[Section, ...]

    @property
    def pictures(self) -> list[Picture]:
        return [picture for section in self.sections for picture in section.pictures]


def text(page: Page) -> str:
    """For a terminal, without pictures; what long tables have more is said."""
    parts = ["\n".join(page.said)]
    for section in page.sections:
        cut = section.table("plain", section.rows[:ROWS]).splitlines() if section.rows else []
        more = [f"and {len(section.rows) - ROWS:,} more"] if len(section.rows) > ROWS else []
        if inside := [line for line in (*section.lines, *cut, *more) if line]:
            parts.append("\n".join([section.title, *(f"  {line}".rstrip() for line in inside)]))
    return "\n\n".join(parts)


def markdown(page: Page) -> str:
    """Its pictures lie beside it."""
    parts = [f"# {_plain(page.title)}", *map(_plain, page.said)]
    for section in page.sections:
        parts.append(f"## {section.title}")
        parts.append("\n".join(f"- {_plain(line)}" for line in section.lines if line))
        for name, what, _ in section.pictures:
            parts += [f"![{section.title}]({name})", _plain(what)]
        if section.rows:
            parts.append(section.table("pipe", [[*map(_plain, row)] for row in section.rows]))
    return "\n\n".join(part for part in parts if part) + "\n"


def html(page: Page) -> str:
    """One file with the pictures in it."""
    parts = [f"<h1>{escape(page.title)}</h1>", *(f"<p>{escape(line)}</p>" for line in page.said)]
    for section in page.sections:
        parts += [f"<h2>{escape(section.title)}</h2>", *(f"<p>{escape(line)}</p>" for line in section.lines if line)]
        for _, what, draw in section.pictures:
            content = b64encode(draw()).decode()
            parts.append(f'<p><img alt="{escape(section.title)}" src="data:image/png;base64,{content}"></p>')
            parts.append(f"<p>{escape(what)}</p>")
        if section.rows:
            parts.append(section.table("html", section.rows))
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(page.title)}</title>'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</html>"]) + "\n"


def _plain(line: str) -> str:
    """Neither a border of a table, a tag nor a new line, whatever a name contains."""
    return " ".join(line.replace("|", r"\|").replace("<", "&lt;").split())
