"""CSV, TSV and JSON-lines files beside images: their cells, and the images that cells name. No torch."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from posixpath import normpath
from typing import Any

from ssbench.data.sources.files import ending, printable
from ssbench.data.sources.names import hint, role
from ssbench.errors import one_line

ENDINGS = ("csv", "tsv", "jsonl")


@dataclass(frozen=True)
class Sheet:
    """A table: its file below the root, and its columns, cells as text (or as JSON has them)."""

    file: str
    columns: dict[str, list[Any]]

    @property
    def name(self) -> str:
        return printable(self.file)

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values()), []))


def read(root: Path, file: str, is_file: Callable[[str], bool]) -> Sheet:
    """The cells of a file; one without a header, whose first line `is_file` knows, has file_name and label.

    Raises ValueError in one line on what is no table.
    """
    content = (root / file).read_bytes()
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")  # what spreadsheets in the West write
    if ending(file) == "jsonl":
        return Sheet(file, _json_lines(text))
    return Sheet(file, _cells(text, "\t" if ending(file) == "tsv" else "", is_file))


def _json_lines(text: str) -> dict[str, list[Any]]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            row = json.loads(line) if line.strip() else {}
        except ValueError as error:
            raise ValueError(f"line {number}: {one_line(error)}") from None
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no JSON object")
        rows += [row] if row else []
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: ["" if (cell := row.get(name)) is None else cell for row in rows] for name in names}


def _cells(text: str, separator: str, is_file: Callable[[str], bool]) -> dict[str, list[Any]]:
    from io import StringIO

    import pandas

    head = text.lstrip().partition("\n")[0].strip()
    if not head:
        return {}
    separator = separator or max(",;\t|", key=head.count)
    bare = any(is_file(cell.strip('" ')) for cell in head.split(separator))
    try:
        frame = pandas.read_csv(
            StringIO(text),
            sep=separator,
            dtype=str,
            keep_default_na=False,
            skipinitialspace=True,
            header=None if bare else 0,
            index_col=False,
        )
    except (ValueError, pandas.errors.ParserError) as error:
        raise ValueError(one_line(error)) from None
    if bare and len(frame.columns) > 2:
        raise ValueError("it has no header line; add one, such as file_name,label")
    if bare:
        frame.columns = ["file_name", "label"][: len(frame.columns)]
    return {str(name).strip(): [str(cell).strip() for cell in frame[name]] for name in frame.columns}


class Resolver:
    """Which image a cell means: its path below the table or the root, the end of a path, or its name alone."""

    def __init__(self, sheet: str, images: list[str]) -> None:
        self.base = sheet.rpartition("/")[0]
        part = hint(sheet.rpartition("/")[2].rpartition(".")[0])  # train.csv speaks of train/, where there is one
        own = [file for file in images if part and any(role(folder) == part for folder in file.split("/")[:-1])]
        below = [file for file in own or images if not self.base or file.startswith(f"{self.base}/")]
        self.paths = dict(zip(images, images))
        self.names = _unique((file.rpartition("/")[2], file) for file in below)
        self.stems = _unique((file.rpartition(".")[0], file) for file in images)
        self.bare = _unique((file.rpartition("/")[2].rpartition(".")[0], file) for file in below)

    def path(self, cell: Any) -> str:
        """The image whose name with its ending, or another ending than it has by now, a cell holds, or nothing."""
        name, _, end = cell.rpartition(".") if isinstance(cell, str) else ("", "", "")
        other = name if end.isalpha() and len(end) <= 4 else ""
        return self._find(cell, self.paths, self.names) or self.stem(other)

    def stem(self, cell: Any) -> str:
        """The image whose name without ending a cell holds, or nothing."""
        return self._find(cell, self.stems, self.bare)

    def _find(self, cell: Any, whole: dict[str, str], alone: dict[str, str]) -> str:
        if not isinstance(cell, str | int) or cell == "":
            return ""
        path = normpath(str(cell).replace("\\", "/")).lstrip("/")
        while True:
            for start in (f"{self.base}/{path}" if self.base else path, path):
                if normpath(start) in whole:
                    return whole[normpath(start)]
            if "/" not in path:
                return alone.get(path, "")
            path = path.partition("/")[2]


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Names that mean one file; those of several mean none."""
    found: dict[str, str] = {}
    for name, file in pairs:
        found[name] = "" if name in found else file
    return found
