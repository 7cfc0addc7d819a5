"""Boxes in the columns of a table beside images: corners, corner and size, or lists. No torch."""

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ssbench.data.listing import Box, Label
from ssbench.data.sources.names import natural
from ssbench.errors import UserError

_CORNERS = (
    ("x_min", "y_min", "x_max", "y_max"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x0", "y0", "x1", "y1"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
)
_SIZES = (("x", "y", "w", "h"), ("x", "y", "width", "height"))
_LISTS = ("objects", "bbox", "bboxes", "box", "boxes")
_CATEGORIES = ("categories", "category", "labels", "label", "category_id", "class")  # in `objects`

UNNAMED = "object"  # what is in a box that has no label


class Layout(NamedTuple):
    """The columns of boxes: one of lists (x, y, width, height), or four, `sized` where two are width and height."""

    columns: tuple[str, ...] = ()
    sized: bool = False

    @property
    def shown(self) -> str:
        return ", ".join(self.columns)


def find_layout(columns: Iterable[str], asked_for: str) -> Layout:
    """The columns that boxes lie in, the one asked for or by their names."""
    columns = list(columns)
    lists = [asked_for] if asked_for else natural(_LISTS, columns)
    if lists:
        return Layout((lists[0],), True)
    for sized, names in ((False, _CORNERS), (True, _SIZES)):
        for four in names:
            found = natural(four, columns)
            if len(found) == 4:
                return Layout(tuple(found), sized)
    return Layout()


def boxes_of(
    where: str,
    table: str,
    layout: Layout,
    cells: Mapping[str, Sequence[Any]],
    rows: Sequence[int],
    labels: Sequence[Label | tuple[Label, ...] | None],
) -> tuple[Box, ...] | None:
    """The boxes of an image's rows, whose labels are given; None where the table has no such columns.

    Raises UserError naming the row whose cells are no box.
    """
    if not all(name in cells for name in layout.columns):
        return None
    found: list[Box] = []
    for row, label in zip(rows, labels):
        given = [cells[name][row] for name in layout.columns]
        if "" in given:  # an image without a box
            continue
        try:
            boxes, names = _listed(given[0]) if len(given) == 1 else ([given], [])
            for at, box in enumerate(boxes):
                name = names[at] if at < len(names) else UNNAMED if label is None else label
                found.append(_box(box, layout.sized, name if not isinstance(name, tuple) else name[at]))
        except (ValueError, TypeError, SyntaxError, IndexError, KeyError):
            text = f"{where}: {table}, row {row + 1}: {', '.join(map(str, given))} in {layout.shown} is no box"
            raise UserError(f"{text}, which is four numbers of pixels") from None
    return tuple(found)


def _listed(cell: Any) -> tuple[list[Any], list[Any]]:
    """The boxes of a cell, [x, y, w, h] or a list of those or an object with them, and their labels if it has some."""
    if isinstance(cell, str):
        cell = json.loads(cell) if cell.startswith("{") else ast.literal_eval(cell)
    if isinstance(cell, dict):
        boxes = next((cell[name] for name in _LISTS if name in cell), None)
        return list(boxes or []), list(next((cell[name] for name in _CATEGORIES if name in cell), []))
    return ([cell], []) if cell and not isinstance(cell[0], list | tuple) else (list(cell), [])


def _box(four: Sequence[Any], sized: bool, label: Label) -> Box:
    a, b, c, d = (float(number) for number in four)
    return Box(a, b, a + c, b + d, label) if sized else Box(a, b, c, d, label)
