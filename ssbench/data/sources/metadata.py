"""What a table beside images says of them: labels, splits, boxes, masks, numbers, groups. No torch."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ssbench.data.listing import Box, Label
from ssbench.data.sources.boxes import UNNAMED, Layout, boxes_of, find_layout
from ssbench.data.sources.files import ending, few, printable
from ssbench.data.sources.names import IMAGE, LABEL, MASK, SPLIT, asked, groups, hint, natural, role
from ssbench.data.sources.sheets import ENDINGS, Resolver, Sheet, read
from ssbench.data.suspicion import suspect
from ssbench.errors import UserError, near
from ssbench.spec import DataSettings

SEVERAL = ("labels", "tags", "classes", "categories", "finding labels")  # a cell may hold more than one
MANY = 50  # tables; where there are more below the root, they are something else: tracks, outlines


class Row(NamedTuple):
    """What is known of an image; `split` is empty where the table does not say."""

    split: str
    label: Label | tuple[Label, ...] | None
    mask: str
    boxes: tuple[Box, ...] | None
    numbers: tuple[float, ...]
    group: str
    depth: str


@dataclass
class Table:
    """The rows of all tables by image, and which column was taken for what."""

    rows: dict[str, Row] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    columns: dict[str, str] = field(default_factory=dict)
    origin: str = ""  # where splits came from, if from here
    dropped: set[str] = field(default_factory=set)  # images whose row can't be used
    unread: list[str] = field(default_factory=list)  # columns
    left_out: list[str] = field(default_factory=list)


class Named(NamedTuple):
    """A sheet, its column of images, and the image of each row (nothing where it is not there)."""

    sheet: Sheet
    column: str
    images: list[str]


def find(
    where: str, root: Path, images: list[str], masks: Iterable[str], others: list[str], settings: DataSettings
) -> Table | None:
    """What the tables that name images say, or None where there is none; columns may name `masks` and maps of depth.

    Raises UserError on two tables that say different things of an image, and on columns that are not there.
    """
    table = Table()
    tables = _choose(where, _sheets(where, root, images, others, settings, table), settings, table)
    if not tables:
        return None
    table.files = tuple(each.sheet.file for each in tables)
    columns = dict.fromkeys(name for each in tables for name in each.sheet.columns)
    _refuse_missing(where, tables, columns, settings)
    label = _column(settings.label, LABEL, [name for name in columns if name not in settings.numbers])
    group = _column(settings.group, ("group",), columns)
    layout = find_layout(columns, settings.boxes)
    files = [*images, *masks]
    mask = _mask_column(tables, settings, files)
    split = _split_column(where, tables, settings)
    table.columns = {"image": tables[0].column, "label": label, "mask": mask, "group": group, "boxes": layout.shown}
    depth = settings.depth if settings.depth in columns else ""
    table.columns |= {"depth": depth, "split": split}
    table.columns = {role: name for role, name in table.columns.items() if name}
    used = {*table.columns.values(), *layout.columns, *settings.numbers, *(each.column for each in tables)}
    table.unread = [name for name in columns if name not in used]
    names = few(each.sheet.file for each in tables)
    if table.unread:
        table.left_out.append(f"columns of {names} that are not read: {few(table.unread, 10)}{groups(table.unread)}")
    _fill(where, table, tables, (label, mask, group, split, depth), layout, settings, [*files, *others * bool(depth)])
    if split:
        table.origin = f"column {split} of {names}"
    elif len(tables) > 1 and all(hint(_stem(each.sheet)) for each in tables):
        table.origin = f"tables {names}"
    return table


def _sheets(
    where: str, root: Path, images: list[str], others: list[str], settings: DataSettings, table: Table
) -> list[Named]:
    """The tables with a column that names images."""
    found = []
    files = [file for file in others if ending(file) in ENDINGS and file.count("/") <= 2]
    for file in files if len(files) <= MANY else [file for file in files if "/" not in file]:
        if "submission" in file.rpartition("/")[2].lower():
            table.left_out.append(f"{printable(file)}: what is to be submitted, not labels")
            continue
        names = Resolver(file, images)
        try:
            sheet = read(root, file, lambda cell, names=names: bool(names.path(cell)))  # type: ignore[misc]
        except (ValueError, OSError) as error:
            suspect(settings, "table", f"{where}: {printable(file)} can't be read as a table: {error}; mend it")
            continue
        named = _image_column(where, sheet, names, settings)
        found += [named] if named else []
    return found


def _image_column(where: str, sheet: Sheet, names: Resolver, settings: DataSettings) -> Named | None:
    """The column that names images with their endings, else one with a natural name without them."""
    if settings.image and settings.image in sheet.columns:
        cells = sheet.columns[settings.image]
        return Named(sheet, settings.image, [names.path(cell) or names.stem(cell) for cell in cells])
    usual = natural(IMAGE, sheet.columns)
    masks = {*natural(MASK, sheet.columns), settings.mask, settings.depth}
    rest = [name for name in sheet.columns if name not in usual and name not in masks]
    hits = [name for name in (*usual, *rest) if any(names.path(cell) for cell in sheet.columns[name][:2000])]
    if hits and hits[0] not in usual and len(hits) > 1:
        raise UserError(
            f"{where}: {sheet.name} names images in the columns {few(hits)}; say --set data.image={hits[0]}"
        )
    if hits:
        return Named(sheet, hits[0], [names.path(cell) for cell in sheet.columns[hits[0]]])
    for name in usual:
        found = [names.stem(cell) for cell in sheet.columns[name]]
        if 2 * sum(map(bool, found)) >= max(len(found), 1):
            return Named(sheet, name, found)
    return None


def _choose(where: str, found: list[Named], settings: DataSettings, table: Table) -> list[Named]:
    """Tables that speak of different images; of two that speak of the same, the one with the label."""
    wanted = [settings.label] if settings.label else []
    labelled = [t for t in found if (wanted and wanted[0] in t.sheet.columns) or natural(LABEL, t.sheet.columns)]
    if wanted and any(wanted[0] in t.sheet.columns for t in labelled):
        labelled = [t for t in labelled if wanted[0] in t.sheet.columns]
    kept: list[Named] = []
    owner: dict[str, Named] = {}
    for each in sorted(found, key=lambda t: t not in labelled):
        both = next((image for image in each.images if image in owner), "")
        if both and each in labelled:
            text = f"{where}: {owner[both].sheet.name} and {each.sheet.name} both label {printable(both)}"
            raise UserError(f"{text}; move one away, or name a column that one of them has, --set data.label=COLUMN")
        if both:
            table.left_out.append(f"{each.sheet.name}, which names the same images as {owner[both].sheet.name}")
            continue
        owner |= {image: each for image in each.images if image}
        kept.append(each)
    return sorted(kept, key=lambda t: t.sheet.file)


def _refuse_missing(where: str, tables: list[Named], columns: Iterable[str], settings: DataSettings) -> None:
    """A column that is asked for and not there; a mask may also be a folder."""
    asked_for = [("label", settings.label), ("boxes", settings.boxes), ("group", settings.group)]
    asked_for += [("image", settings.image), *(("numbers", name) for name in settings.numbers)]
    for name, column in asked_for:
        if column and column not in columns:
            text = f"{where}: {few(t.sheet.file for t in tables)} has no column {column!r} (data.{name})"
            raise UserError(text + near(column, columns))


def _column(asked_for: str, names: Sequence[str], columns: Iterable[str]) -> str:
    return asked_for or next(iter(natural(names, columns)), "")


def _mask_column(tables: list[Named], settings: DataSettings, images: list[str]) -> str:
    """A column called mask, or asked for, whose cells name files."""
    for each in tables:
        names = Resolver(each.sheet.file, images)
        for column in natural([settings.mask] if settings.mask else MASK, each.sheet.columns):
            if column != each.column and any(names.path(cell) for cell in each.sheet.columns[column]):
                return column
    return ""


def _split_column(where: str, tables: list[Named], settings: DataSettings) -> str:
    """A column that says splits by names of splits, or by those of `data.splits`."""
    wanted = {text.partition("=")[2] for text in settings.splits}
    for column in natural(SPLIT, [name for each in tables for name in each.sheet.columns]):
        values = {str(cell) for each in tables for cell in each.sheet.columns.get(column, ()) if cell != ""}
        if wanted:
            if wanted <= values:
                return column
            continue
        other = sorted(value for value in values if not role(value))
        if len(other) < len(values):
            if other:
                text = f"{where}: column {column} has {few(sorted(values))}, of which {few(other)} is no split"
                suspect(
                    settings, "split-values", f"{text}; say which is what, such as --set data.splits=test={other[0]}"
                )
            return column
    return ""


def _fill(
    where: str,
    table: Table,
    tables: list[Named],
    taken: tuple[str, str, str, str, str],
    layout: Layout,
    settings: DataSettings,
    images: list[str],
) -> None:
    """Add the rows; those of one image together."""
    label, mask, group, split, depth = taken
    values = [cell for each in tables for cell in each.sheet.columns.get(label, ())]
    reading = _labels(
        values, several=bool(settings.label) or label.lower() in SEVERAL, certain=label.lower() in SEVERAL
    )
    parts = {text.partition("=")[2]: text.partition("=")[0] for text in settings.splits} if split else {}
    if parts:
        asked(settings, parts)
    missing = numberless = unsplit = 0
    for each in tables:
        cells, names = each.sheet.columns, Resolver(each.sheet.file, images) if mask or depth else None
        by_image: dict[str, list[int]] = defaultdict(list)
        for at, image in enumerate(each.images):
            if image:
                by_image[image].append(at)
        missing += sum(not image for image in each.images)
        for image, lines in by_image.items():
            part = _split_of(each, split, lines[0], parts)
            numbers = _numbers(where, each, settings.numbers, lines[0])
            if part is None or numbers is None:
                unsplit, numberless = unsplit + (part is None), numberless + (numbers is None)
                table.dropped.add(image)
                continue
            labels = [reading.get(_key(cells[label][line])) if label in cells else None for line in lines]
            boxes = boxes_of(where, each.sheet.name, layout, cells, lines, labels) if layout.columns else None
            table.rows[image] = Row(
                part,
                _one(where, each, image, labels, boxes, settings),
                names.path(cells[mask][lines[0]]) if names and mask in cells else "",
                boxes,
                numbers,
                str(cells[group][lines[0]]) if group in cells else "",
                names.path(cells[depth][lines[0]]) if names and depth in cells else "",
            )
    _all_several(table)
    for count, text in (
        (missing, "rows whose image is not there"),
        (numberless, f"images without a number in {', '.join(settings.numbers)}"),
        (unsplit, f"images whose column {split} names no split"),
    ):
        table.left_out += [f"{count} {text}"] if count else []


def _split_of(each: Named, split: str, at: int, parts: dict[str, str]) -> str | None:
    """train, val or test; nothing where the table does not say, None where it says something else."""
    if split not in each.sheet.columns:
        return hint(_stem(each.sheet))
    value = str(each.sheet.columns[split][at])
    return (parts.get(value) if parts else role(value)) or None


def _numbers(where: str, each: Named, names: tuple[str, ...], at: int) -> tuple[float, ...] | None:
    """None where one is empty, none where the table has no such columns."""
    if not all(name in each.sheet.columns for name in names):
        return ()
    cells = [each.sheet.columns[name][at] for name in names]
    if "" in cells:
        return None
    try:
        return tuple(float(cell) for cell in cells)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {each.sheet.name}, row {at + 1}: {error}; data.numbers wants numbers") from None


def _one(
    where: str,
    each: Named,
    image: str,
    labels: Sequence[Label | tuple[Label, ...] | None],
    boxes: tuple[Box, ...] | None,
    settings: DataSettings,
) -> Label | tuple[Label, ...] | None:
    """An image's label; several where its cells or its boxes have several."""
    distinct = list(dict.fromkeys(label for label in labels if label is not None))
    if not distinct and boxes:
        distinct = [label for label in dict.fromkeys(box.label for box in boxes) if label != UNNAMED]
    if len(distinct) <= 1:
        return distinct[0] if distinct else None
    if boxes is None:
        text = (
            f"{where}: {each.sheet.name} gives {printable(image)} the labels {few(map(str, distinct))} in several rows"
        )
        suspect(settings, "several-rows", f"{text}; keep one row an image")
    return tuple(sorted({one for many in distinct for one in (many if isinstance(many, tuple) else (many,))}, key=str))


def _all_several(table: Table) -> None:
    """Where one image has several labels, all have; none of them where there are boxes but not here."""
    if not any(isinstance(row.label, tuple) for row in table.rows.values()):
        return
    for image, row in table.rows.items():
        if not isinstance(row.label, tuple):
            none = () if row.boxes == () else None
            table.rows[image] = row._replace(label=none if row.label is None else (row.label,))


def _labels(cells: list[Any], several: bool, certain: bool) -> dict[str, Label | tuple[Label, ...]]:
    """The label of each distinct cell: whole numbers as such, several as a tuple; empty cells have none."""
    texts = {_key(cell): cell for cell in cells if cell != "" and cell != "nan"}
    if any(isinstance(cell, list) for cell in texts.values()):
        return {key: tuple(cell) if isinstance(cell, list) else (cell,) for key, cell in texts.items()}
    plain = [key for key, cell in texts.items() if isinstance(cell, str)]
    if plain and all(key.startswith("[") and key.endswith("]") for key in plain):
        return {key: _listed(key) for key in plain}
    for mark in ("|", ";", ",", " ") if several else ():
        split = {key: tuple(part for each in key.split(mark) if (part := each.strip())) for key in plain}
        tokens = {part for parts in split.values() for part in parts}
        counts = {len(parts) for parts in split.values()}
        reused = len(tokens) < len(split) and 1 in counts and len(counts) > 1  # no `red car` beside `blue bus`
        if any(mark in key for key in plain) and (reused or (certain and mark != " ")):
            return dict(split)
    if plain and all(re.fullmatch(r"-?(0|[1-9]\d*)(\.0+)?", key) for key in plain):
        return {key: int(float(key)) for key in plain}
    return dict(texts)


def _listed(text: str) -> tuple[Label, ...]:
    """`['a', 'b']` or `[a, b]`."""
    try:
        return tuple(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError):
        return tuple(part.strip(" '\"") for part in text[1:-1].split(",") if part.strip())


def _key(cell: Any) -> str:
    return cell if isinstance(cell, str) else repr(cell)


def _stem(sheet: Sheet) -> str:
    return sheet.file.rpartition("/")[2].rpartition(".")[0]
