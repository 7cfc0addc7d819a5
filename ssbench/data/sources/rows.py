"""From tables to a listing, shared by `parquet:` and `hf:`: which rows are which split, what is in a row. No torch."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ssbench.data.listing import Box, Label, Listing, Sample, Samples
from ssbench.data.sources.columns import Boxes, Columns, Labels, find_columns
from ssbench.data.sources.files import as_mask, open_depth, open_image
from ssbench.data.sources.names import ROLES, SPLIT, asked, natural, role
from ssbench.data.sources.table import Part, Table, is_list
from ssbench.errors import UserError
from ssbench.spec import DataSettings

if TYPE_CHECKING:
    from numpy import generic
    from numpy.typing import NDArray
    from PIL import Image


class Parts(NamedTuple):
    """Which rows are which split."""

    splits: Mapping[str, Sequence[Part]]  # under train, val, test
    origin: str
    left_out: tuple[str, ...]

    @property
    def tables(self) -> list[Table]:
        """Each once; those of the first split first."""
        return list({part.table.name: part.table for parts in self.splits.values() for part in parts}.values())


def arrange(where: str, groups: Mapping[str, Sequence[Table]], what: str, settings: DataSettings) -> Parts:
    """Splits by the names of the groups (`what` they are: files, splits), else by the values of a column called split.

    Raises UserError where names don't say it and `data.splits` neither.
    """
    wanted = {text.partition("=")[2] for text in settings.splits}
    every = [table for tables in groups.values() for table in tables]
    by_group = wanted <= {*groups} if wanted else len(groups) > 1 and any(map(role, groups))
    column, counts = ("", []) if by_group else _split_column(every, wanted)
    if column:
        what, names = f"column {column}:", dict(sum(counts, Counter()))
    else:
        names = {name: sum(table.rows for table in tables) for name, tables in groups.items()}
    roles = _roles(where, list(names), what, settings)
    splits: dict[str, list[Part]] = {}
    for split in ROLES:
        mine = tuple(name for name in names if roles.get(name) == split)
        if column:
            parts = [
                Part(table, sum(count[name] for name in mine), column, mine) for table, count in zip(every, counts)
            ]
            parts = [part for part in parts if part.total]
        else:
            parts = [Part(table, table.rows) for name in mine for table in groups[name]]
        splits |= {split: parts} if parts else {}
    left_out = tuple(
        f"{what} {name} (rows: {rows}), which is no split's name" for name, rows in names.items() if name not in roles
    )
    taken = [name for name in names if name in roles]
    guessed = not settings.splits and not any(map(role, taken))
    origin = f"{what} {_listed(taken)}" + (", taken for train" if guessed else "")
    return Parts(splits, origin, left_out)


def listing(where: str, parts: Parts, settings: DataSettings) -> Listing:
    """Samples of the splits; keys are positions. Raises UserError as `find_columns` does, and where a cell is wrong."""
    said = {part.column for mine in parts.splits.values() for part in mine}
    columns, left_out = find_columns(where, parts.tables, settings, said)
    splits = {
        split: Samples(sum(part.total for part in mine), partial(_each, where, mine, columns))
        for split, mine in parts.splits.items()
    }
    names: dict[Label, str] = dict(enumerate(columns.label.classes))
    more = (*parts.left_out, *left_out)
    return Listing(where, splits, names or None, columns.numbers, parts.origin, columns.roles, more)


def content(cell: Any, folder: Path) -> bytes:
    """The image file of a cell, which holds it or says where it is below `folder`; nothing where neither is so."""
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, str):
        file = folder / cell
        return file.read_bytes() if file.is_file() else b""
    return cell or b""


def _split_column(tables: Sequence[Table], wanted: set[str]) -> "tuple[str, list[Counter[str]]]":
    """The column whose values are splits, and how often each stands in each table."""
    for name in natural(SPLIT, tables[0].fields):
        kinds = [table.fields.get(name) for table in tables]
        if all(kind and kind.holds in ("text", "int") and not is_list(kind.type) for kind in kinds):
            counts = [Counter(map(str, table.cells(name))) for table in tables]
            values = {value for count in counts for value in count}
            if wanted <= values if wanted else len(values) > 1 and (name.lower() == "split" or any(map(role, values))):
                return name, counts
    return "", []


def _roles(where: str, names: Sequence[str], what: str, settings: DataSettings) -> dict[str, str]:
    """The split that each name is; those that are none are not in it."""
    if settings.splits:
        return asked(settings, names)
    roles = {name: role(name) for name in names if role(name)}
    for split in ROLES:
        mine = [name for name in roles if roles[name] == split]
        if len(mine) > 1:
            raise UserError(f"{where}: {what} {' and '.join(mine)} are all {split}: say which, --set data.splits=...")
    if not roles and len(names) > 1 and what != "files":
        raise UserError(f"{where} has {what} {_listed(names)}: say which is what, --set data.splits=train={names[0]}")
    return roles or dict.fromkeys(names, "train")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _each(where: str, parts: Sequence[Part], columns: Columns) -> Iterator[Sample]:
    key = 0
    for part in parts:
        for row, cells in part.each(columns.used):
            yield _sample(where, str(key), f"{part.table.name} row {row}", cells, columns, part.table.folder)
            key += 1


def _sample(where: str, key: str, name: str, cells: Mapping[str, Any], columns: Columns, folder: Path) -> Sample:
    at = f"{where}: {name}"
    mask, group = cells.get(columns.mask), cells.get(columns.group)
    return Sample(
        key,
        name,
        partial(_open, cells[columns.image], columns.image, folder),
        _label(at, cells.get(columns.label.column), columns.label),
        None if mask is None else partial(_open_mask, mask, columns.mask, folder),
        _boxes(at, cells.get(columns.boxes.column), columns.boxes),
        tuple(_number(at, column, cells[column]) for column in columns.numbers),
        None if cells.get(columns.depth) is None else partial(_open_depth, cells[columns.depth], columns.depth, folder),
        "" if group is None else str(group),
    )


def _open(cell: Any, column: str, folder: Path) -> "Image.Image | NDArray[generic]":
    """As `open_image`; raises ValueError naming the column where a cell holds no image."""
    return open_image(_content(cell, column, folder))


def _content(cell: Any, column: str, folder: Path) -> bytes:
    found = content(cell, folder)
    if not found:
        path = cell.get("path") if isinstance(cell, dict) else cell
        raise ValueError(f"column {column}: there is no " + (f"file {path}" if path else "image"))
    return found


def _open_mask(cell: Any, column: str, folder: Path) -> "Image.Image":
    return as_mask(_open(cell, column, folder), f"in column {column}")


def _open_depth(cell: Any, column: str, folder: Path) -> "NDArray[generic]":
    return open_depth(_content(cell, column, folder))


def _label(at: str, cell: Any, labels: Labels) -> Label | tuple[Label, ...] | None:
    if not isinstance(cell, list):
        return _class(at, cell, labels)
    if labels.hot:
        return tuple(place for place, on in enumerate(cell) if on)
    found = tuple(label for value in cell if (label := _class(at, value, labels)) is not None)
    return found if found or not cell else None


def _class(at: str, value: Any, labels: Labels) -> Label | None:
    """The class that a value says; None where it says that none is known: null, NaN, an empty text, -1."""
    if value is None or value == "" or value != value or (value == -1 and not labels.minus_one):
        return None
    if labels.classes and not 0 <= value < len(labels.classes):
        raise UserError(f"{at} has the label {value}, which is none of {len(labels.classes)} classes")
    return int(value) if isinstance(value, float) else value


def _boxes(at: str, cell: Any, boxes: Boxes) -> list[Box] | None:
    """COCO's x, y, width and height as corners, with the names of the categories where they are known."""
    if cell is None:
        return None
    lists = {key: cell[key] or [] if isinstance(cell, dict) else [one[key] for one in cell] for key in boxes[1:3]}
    corners, categories = lists[boxes.corners], lists[boxes.category]
    if len(corners) != len(categories):
        raise UserError(f"{at} has {len(corners)} boxes and {len(categories)} categories in column {boxes.column!r}")
    found = []
    for place, category in zip(corners, categories):
        if place is None or len(place) != 4 or category is None:
            raise UserError(f"{at} has the box {place} of category {category} in column {boxes.column!r}")
        if boxes.classes and not 0 <= category < len(boxes.classes):
            raise UserError(f"{at} has a box of category {category}, which is none of {len(boxes.classes)} classes")
        x, y, width, height = place
        found.append(Box(x, y, x + width, y + height, boxes.classes[category] if boxes.classes else category))
    return found


def _number(at: str, column: str, value: Any) -> float:
    if value is None:
        raise UserError(f"{at} has no number in column {column!r} (data.numbers)")
    return float(value)
