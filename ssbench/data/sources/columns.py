"""Which column of a table is what: by the settings, else by its type and its name. No torch."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pyarrow import types

from ssbench.data.sources.files import few
from ssbench.data.sources.names import IMAGE, LABEL, MASK, groups, natural, role
from ssbench.data.sources.table import Field, Table, Tables, is_bytes, is_list, is_text
from ssbench.errors import UserError, near
from ssbench.spec import DataSettings

MASKS = (*MASK, "label", "annotation", "annotations")  # where they hold images
LABELS = (*LABEL, "fine_label", "y", "cls")
BOXES = ("objects", "boxes", "bboxes", "annotations", "detections")
CORNERS = ("bbox", "box", "bboxes", "boxes")
CATEGORIES = ("category", "categories", "label", "labels", "class", "classes", "category_name", "category_id")
UNNAMED = "none of which is called label (data.label can name one)"


class Labels(NamedTuple):
    """A column of labels, and how its numbers are to be understood."""

    column: str = ""
    classes: tuple[str, ...] = ()  # of a ClassLabel
    minus_one: bool = False  # -1 is a class; else it says that the label is not known
    hot: bool = False  # lists of zeros and ones, a place a class


class Boxes(NamedTuple):
    """A column of boxes, a struct of lists or a list of structs, and what its parts are called."""

    column: str = ""
    corners: str = ""  # x, y, width and height in pixels, as COCO has it
    category: str = ""
    classes: tuple[str, ...] = ()  # of a ClassLabel


class Columns(NamedTuple):
    """Which columns are what; an empty name is a column that the data does not have."""

    image: str
    mask: str
    label: Labels
    boxes: Boxes
    numbers: tuple[str, ...]
    group: str
    depth: str

    @property
    def roles(self) -> dict[str, str]:
        """The column of each role that has one, numbers aside."""
        roles = {"image": self.image, "label": self.label.column, "mask": self.mask}
        roles |= {"boxes": self.boxes.column, "group": self.group, "depth": self.depth}
        return {use: column for use, column in roles.items() if column}

    @property
    def used(self) -> list[str]:
        return list(dict.fromkeys([*self.roles.values(), *self.numbers]))


def find_columns(
    where: str, tables: Sequence[Table], settings: DataSettings, splits: Collection[str] = ()
) -> tuple[Columns, list[str]]:
    """The columns, and which others were left out and why; those that say `splits` were not.

    Raises UserError saying what to type where no column or several can be the image, where a setting names a column
    that is not there or is of another type, and where tables differ in the columns in use.
    """
    seen = Tables.of(tables)
    fields = seen.fields
    asked = [(use, getattr(settings, use)) for use in ("image", "label", "mask", "depth", "boxes", "group")]
    for use, name in [*asked, *(("numbers", name) for name in settings.numbers)]:
        if name and name not in fields:
            raise UserError(f"{where} has no column {name!r} (data.{use}){near(name, fields)}")
    image, pictures = _image(where, seen, settings)
    mask, depth = _mask(where, seen, image, settings), settings.depth
    if depth and not (seen.embedded(depth) or is_text(fields[depth].type) or is_bytes(fields[depth].type)):
        raise UserError(f"{where}: {seen.no_images(depth)} (data.depth)")
    group = settings.group or next(iter(natural(("group",), [name for name in fields if name != settings.label])), "")
    label, reasons, said = _label(where, seen, [image, mask, depth, group, *settings.numbers], settings)
    boxes = _boxes(where, fields, [image, mask, depth, label.column], settings)
    for name in settings.numbers:
        kind = fields[name].type
        if is_list(kind) or not (fields[name].holds in ("int", "float", "bool") or types.is_decimal(kind)):
            raise UserError(f"{where}: column {name!r} (data.numbers) holds no numbers but {kind}")
    columns = Columns(image, mask, label, boxes, settings.numbers, group, depth)
    for table in tables:
        if lacking := [name for name in (image, group, depth, *settings.numbers) if name and name not in table.fields]:
            raise UserError(f"{where}: {table.name} has no column {lacking[0]!r}, which others have")
    reasons = dict.fromkeys(pictures, "which holds images too") | reasons
    left = [name for name in fields if name not in (*columns.used, *splits)]
    told = [f"column {name}, {reasons[name]}" for name in left if reasons.get(name, UNNAMED) != UNNAMED]
    for names, what in (
        ([name for name in left if reasons.get(name) == UNNAMED], f", {UNNAMED}"),
        (rest := [name for name in left if name not in reasons], f" that are not read{groups(rest)}"),
    ):
        told += [f"columns {few(names, 10)}{what}"] if names else []
    return columns, told + said


def _image(where: str, seen: Tables, settings: DataSettings) -> tuple[str, list[str]]:
    """The column of images, and all columns that hold some."""
    embedded = [name for name in seen.fields if seen.embedded(name)]
    if settings.image:
        if settings.image not in embedded and not seen.paths(settings.image):
            raise UserError(f"{where}: {seen.no_images(settings.image)} (data.image)")
        return settings.image, embedded
    masks = {settings.mask, settings.depth, *natural(MASKS, seen.fields)}
    paths = [name for name in seen.fields if name not in masks and seen.paths(name)]
    found = [name for name in embedded if name not in masks] or paths or embedded
    usual = next(iter(natural(IMAGE, found)), "")
    if len(found) > 1 and not usual:
        raise UserError(f"{where} has images in the columns {', '.join(found)}: say which, --set data.image={found[0]}")
    if not found:
        named = next(iter(natural(IMAGE, seen.fields)), "")
        what = f"{seen.no_images(named)}; " if named else ""
        listed = few([f"{name} ({field.kind or field.type})" for name, field in seen.fields.items()], 12)
        raise UserError(f"{where} has no column of images: {what}its columns: {listed}")
    return usual or found[0], embedded


def _mask(where: str, seen: Tables, image: str, settings: DataSettings) -> str:
    named = (
        [settings.mask]
        if settings.mask
        else [name for name in natural(MASKS, seen.fields) if name not in (image, settings.depth)]
    )
    mask = next((name for name in named if seen.embedded(name) or seen.paths(name)), "")
    if settings.mask and not mask:
        raise UserError(f"{where}: {seen.no_images(settings.mask)} (data.mask)")
    return mask


def _label(
    where: str, seen: Tables, taken: Sequence[str], settings: DataSettings
) -> tuple[Labels, dict[str, str], list[str]]:
    """The column of labels, why others were not taken for it, and what is said of the one that was."""
    splits = [name for name, field in seen.fields.items() if field.classes and all(map(role, field.classes))]
    free = [name for name in seen.fields if name not in [*taken, *splits] and seen.fields[name].holds]
    if settings.label and not seen.fields[settings.label].holds:
        raise UserError(f"{where}: column {settings.label!r} (data.label) holds {seen.fields[settings.label].type}")
    usual = [settings.label] if settings.label else natural(LABELS, free)
    measured = [name for name in usual if not _are_classes(seen, name)]
    if settings.label in measured and settings.label:
        raise UserError(
            f"{where}: column {settings.label!r} (data.label) holds numbers that are no classes;"
            f" to predict them: --set data.numbers={settings.label}"
        )
    typed = [name for name in free if seen.fields[name].classes]
    found = list(dict.fromkeys([name for name in usual if name not in measured] + typed))
    reasons = dict.fromkeys(splits, "whose classes are called like splits") if not settings.label else {}
    reasons |= dict.fromkeys(measured, "whose numbers are no classes (data.numbers can name it)")
    if not found:
        rest = [name for name in free if name not in measured]
        return Labels(), dict.fromkeys(rest, UNNAMED) | reasons, []
    reasons |= dict.fromkeys(found[1:], "which holds labels too") if not settings.label else {}
    _refuse_other_labels(where, seen, found[0])
    labels, said = _labels(seen, found[0])
    return labels, reasons, said


def _are_classes(seen: Tables, name: str) -> bool:
    """Whether a column's numbers can be classes: whole ones, as pandas makes floats of integers with gaps."""
    if all(name not in table.fields or table.fields[name].holds != "float" for table in seen.tables):
        return True
    return all(
        value != value or float(value).is_integer() for value in _flat(seen.cells(name)) if not isinstance(value, str)
    )


def _labels(seen: Tables, name: str) -> tuple[Labels, list[str]]:
    """How a column's labels are to be understood, and what is said of that."""
    field = seen.fields[name]
    if field.classes or field.holds == "text":
        return Labels(name, field.classes), []
    if is_list(field.type):
        lists = list(seen.cells(name))
        binary = len({*map(len, lists)}) == 1 and {*_flat(lists)} <= {0, 1}
        return Labels(name, hot=binary and (field.holds == "bool" or any(len(x) > len({*x}) for x in lists))), []
    found = {value for value in seen.cells(name) if value == value}
    minus_one = found == {-1, 1} or min(found, default=0) < -1
    said = [f"labels -1 in column {name}, taken for labels that are not known"]
    return Labels(name, minus_one=minus_one), said if -1 in found and not minus_one else []


def _flat(cells: Iterable[Any]) -> Iterable[Any]:
    """What is in cells or in their lists, nulls left out."""
    for cell in cells:
        yield from (value for value in (cell if isinstance(cell, list) else [cell]) if value is not None)


def _boxes(where: str, fields: Mapping[str, Field], taken: Sequence[str], settings: DataSettings) -> Boxes:
    """The column of boxes, if there is one."""
    free = [name for name in fields if name not in taken]
    for name in [settings.boxes] if settings.boxes else natural(BOXES, free):
        parts = fields[name].item.parts or fields[name].parts
        corners, category = next(iter(natural(CORNERS, parts)), ""), next(iter(natural(CATEGORIES, parts)), "")
        if corners and category and is_list(parts[corners].type):
            return Boxes(name, corners, category, parts[category].classes)
        if settings.boxes:
            raise UserError(f"{where}: column {name!r} (data.boxes) has no bbox and category but {fields[name].type}")
    return Boxes()


def _refuse_other_labels(where: str, seen: Tables, name: str) -> None:
    """A test split without labels is fine; one with other classes is not."""
    there = seen.fields[name]
    for table in seen.tables:
        here = table.fields.get(name, there)
        if here.holds == "nulls":
            continue
        if here.classes and here.classes != there.classes:
            raise UserError(f"{where}: {table.name} has other classes in column {name!r} than the first file or split")
        numbers = {here.holds, there.holds} == {"int", "float"}  # pandas makes floats of integers with gaps
        if is_list(here.type) != is_list(there.type) or not (here.holds == there.holds or numbers):
            raise UserError(
                f"{where}: {table.name} has labels of {here.type} in column {name!r}, others of {there.type}"
            )
