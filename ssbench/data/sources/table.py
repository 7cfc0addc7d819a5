"""A table of typed columns: a Parquet file, or a split of Hugging Face's `datasets`. No torch.

`datasets` writes its feature types as JSON under the key `huggingface` of a schema's metadata (`Features.arrow_schema`
in its src/datasets/features/features.py): that is read here by hand, so that Parquet needs no `datasets`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pyarrow import types

from ssbench.errors import UserError

BATCH = 256  # rows read at a time, so that a file larger than the memory streams


class Field(NamedTuple):
    """A column: its type without dictionaries and extensions, and its feature of Hugging Face's, {} if there is none.

    Features come as {"_type": "List", "feature": ...}, as [...] (lists of old), and as {name: feature} (structs).
    """

    type: Any
    feature: Any

    @property
    def kind(self) -> str:
        """ClassLabel, Image, Audio, Value, List, ...; nothing where `datasets` did not write the table."""
        return str(self.feature.get("_type", "")) if isinstance(self.feature, dict) else ""

    @property
    def item(self) -> "Field":
        """What a list holds; the field itself where it is no list."""
        inner = self.feature
        if isinstance(inner, list):
            inner = inner[0]
        elif self.kind in ("List", "LargeList", "Sequence"):
            inner = inner.get("feature", {})
        return Field(stored(self.type.value_type) if is_list(self.type) else self.type, inner)

    @property
    def parts(self) -> "dict[str, Field]":
        """The fields of a struct."""
        features = self.feature if isinstance(self.feature, dict) else {}
        inside = self.type if types.is_struct(self.type) else ()
        return {part.name: Field(stored(part.type), features.get(part.name, {})) for part in inside}

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of a ClassLabel, or of a list of it."""
        item = self.item
        return tuple(item.feature["names"]) if item.kind == "ClassLabel" and types.is_integer(item.type) else ()

    @property
    def holds(self) -> str:
        """What labels can be made of: text, bool, int or float, or nulls alone; nothing for what is no label."""
        kinds = {"text": is_text, "bool": types.is_boolean, "int": types.is_integer, "float": types.is_floating}
        return next((name for name, test in {**kinds, "nulls": types.is_null}.items() if test(self.item.type)), "")


class Table(NamedTuple):
    """Some rows of a split."""

    name: str  # what a message calls it
    rows: int
    fields: dict[str, Field]
    folder: Path  # where the paths in its cells start
    batches: Callable[[list[str], int], Iterable[Any]]  # (columns, rows a batch) -> pyarrow tables or record batches

    def cells(self, column: str) -> Iterator[Any]:
        """All of a column; nothing where the table does not have it."""
        for batch in self.batches([column], BATCH) if column in self.fields else ():
            yield from batch.column(column).to_pylist()


class Part(NamedTuple):
    """The rows of a table that belong to a split: all, or those with one of some values in a column."""

    table: Table
    total: int
    column: str = ""
    values: tuple[str, ...] = ()

    def each(self, columns: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """The number of each row in the table, and its cells of these columns, where the table has them."""
        there = [name for name in {*columns, self.column} if name in self.table.fields]
        row = 0
        for batch in self.table.batches(there, BATCH):
            for cells in batch.to_pylist():
                if not self.column or str(cells[self.column]) in self.values:
                    yield row, cells
                row += 1


class Tables(NamedTuple):
    """Some tables as one. What a column holds is told from its type, and from its cells where that says too little."""

    tables: Sequence[Table]
    fields: Mapping[str, Field]

    @classmethod
    def of(cls, tables: Sequence[Table]) -> "Tables":
        """A column is what it is in the first table that has more than nulls in it."""
        found: dict[str, Field] = {}
        for table in tables:
            found |= {
                name: field for name, field in table.fields.items() if name not in found or found[name].holds == "nulls"
            }
        return cls(tables, found)

    def cells(self, name: str) -> Iterator[Any]:
        """All that are not null."""
        return (cell for table in self.tables for cell in table.cells(name) if cell is not None)

    def some(self, name: str) -> list[Any]:
        """The first few that are not null: one alone may be broken."""
        return list(islice(self.cells(name), 8))

    def embedded(self, name: str) -> bool:
        """Whether a column holds image files, as bytes or as Hugging Face's struct of bytes and path."""
        kind = self.fields[name].type
        if self.fields[name].kind == "Image":
            return True
        parts = {part.name: part.type for part in kind} if types.is_struct(kind) else {}
        if not is_bytes(kind) and not (is_bytes(parts.get("bytes", kind)) or {*parts} == {"bytes", "path"}):
            return False
        return any(map(_is_image, self.some(name)))

    def paths(self, name: str) -> bool:
        """Whether a column holds names of image files."""
        return is_text(self.fields[name].type) and any(map(_is_image, self.some(name)))

    def no_images(self, name: str) -> str:
        """What a column holds instead of images."""
        some, field = self.some(name), self.fields[name]
        if is_list(field.type):
            return f"column {name!r} holds lists ({field.type}), not an image file a row: write each as a PNG"
        if some and isinstance(some[0], str) and "://" in some[0]:
            return f"column {name!r} holds addresses, not images: download them"
        if not some:
            return f"column {name!r} holds nothing"
        if is_bytes(field.type):
            return f"column {name!r} holds bytes that are not an image file"
        return f"column {name!r} holds no images but {field.type}"


def fields(schema: Any, where: str) -> dict[str, Field]:
    """The columns of a `pyarrow.Schema`."""
    try:
        info = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    except ValueError:
        raise UserError(
            f"{where}: the metadata that Hugging Face's datasets wrote is no JSON: write it again"
        ) from None
    features = (info.get("info") or {}).get("features") or {}
    return {field.name: Field(stored(field.type), features.get(field.name) or {}) for field in schema}


def stored(kind: Any) -> Any:
    """The type of the values of an extension, a dictionary (categorical, enum) or a run-length encoding."""
    if hasattr(kind, "storage_type"):
        return stored(kind.storage_type)
    return stored(kind.value_type) if types.is_dictionary(kind) or types.is_run_end_encoded(kind) else kind


def is_text(kind: Any) -> bool:
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def is_bytes(kind: Any) -> bool:
    tests = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def is_list(kind: Any) -> bool:
    tests = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)
    return any(test(kind) for test in tests)


def _is_image(cell: Any) -> bool:
    """Whether Pillow knows how a file begins, or what its name ends in where only that is there."""
    from PIL import Image

    content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, cell)
    if isinstance(path, str) and not isinstance(content, bytes):
        return "://" not in path and Path(path).suffix.lower() in Image.registered_extensions()
    try:
        Image.open(BytesIO(content or b""))
    except OSError:  # of which Pillow's UnidentifiedImageError is one
        return False
    except Image.DecompressionBombError:
        return True
    return True
