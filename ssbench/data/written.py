"""A page of facts and pictures -> text for a terminal, Markdown, HTML. No torch."""

from base64 import b64encode
from collections.abc import Mapping
from html import escape
from typing import NamedTuple

from tabulate import tabulate

ROWS = 20  # of a table on a terminal
STYLE = "body{font:15px/1.5 sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}img{max-width:100%}"
STYLE += "td,th{padding:.1em .8em;text-align:left}td{border-top:1px solid #ddd}"


class Section(NamedTuple):
    """What is known of one matter: a table, lines, pictures by file name and what they show."""

    title: str
    lines: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    pictures: tuple[tuple[str, str], ...] = ()


class Page(NamedTuple):
    title: str
    said: tuple[str, ...]  # the sentence of `ssbench run`, and what it would refuse the data for
    sections: tuple[Section, ...]
    files: Mapping[str, bytes]  # pictures, PNG


def text(shown: Page) -> str:
    """For a terminal: tables are cut, which is said."""
    parts = ["\n".join(shown.said)]
    for section in shown.sections:
        cut = [section.title, *(f"  {line}" for line in section.lines)]
        if section.rows:
            grid = tabulate(
                section.rows[:ROWS], section.header, "plain", disable_numparse=True, colalign=_align(section)
            )
            cut += [f"  {line}".rstrip() for line in grid.splitlines()]
        if len(section.rows) > ROWS:
            cut.append(f"  and {len(section.rows) - ROWS} more")
        parts.append("\n".join(cut))
    return "\n\n".join(parts)


def markdown(shown: Page) -> str:
    """Pictures lie beside it."""
    parts = [f"# {_plain(shown.title)}", *map(_plain, shown.said)]
    for section in shown.sections:
        parts += [f"## {section.title}"] + ["\n".join(f"- {_plain(line)}" for line in section.lines)] * bool(
            section.lines
        )
        for name, what in section.pictures:
            parts += [f"![{section.title}]({name})", *([what] if what else [])]
        if section.rows:
            rows = [[_plain(cell) for cell in row] for row in section.rows]
            parts.append(tabulate(rows, section.header, "pipe", disable_numparse=True, colalign=_align(section)))
    return "\n\n".join(parts) + "\n"


def html(shown: Page) -> str:
    """One file with the pictures in it."""
    parts = [f"<h1>{escape(shown.title)}</h1>", *(f"<p>{escape(line)}</p>" for line in shown.said)]
    for section in shown.sections:
        parts += [f"<h2>{escape(section.title)}</h2>", *(f"<p>{escape(line)}</p>" for line in section.lines)]
        for name, what in section.pictures:
            content = b64encode(shown.files[name]).decode()
            parts += [
                f'<img alt="{escape(section.title)}" src="data:image/png;base64,{content}">',
                f"<p>{escape(what)}</p>",
            ]
        if section.rows:
            parts.append(str(tabulate(section.rows, section.header, "html", disable_numparse=True)))
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(shown.title)}</title>'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</html>"]) + "\n"


def _align(section: Section) -> list[str]:
    number = lambda at: all(row[at][:1].isdigit() for row in section.rows)  # noqa: E731
    return ["left", *("right" if number(at) else "left" for at in range(1, len(section.header)))]


def _plain(line: str) -> str:
    """Neither a border of a table, a tag nor a new line, whatever a name contains."""
    return " ".join(line.replace("|", r"\|").replace("<", "&lt;").split())
