"""`hf:NAME`, and what it shares with `parquet:PATH`: tables whose columns have the types of Hugging Face's `datasets`.

The image, the label and the mask column are found by type. Cells are decoded here and not by `datasets`, so that a
broken one is named by its file and row.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ssbench.data import SPLITS, Source
from ssbench.errors import UserError, near
from ssbench.spec import DataSettings

if TYPE_CHECKING:
    from PIL import Image

    from ssbench.data.decode import Opened, Sample

BATCH = 256  # rows read at a time


class Table(NamedTuple):
    """Some rows of a split: a Parquet file, or the whole split."""

    name: str  # what a message calls it
    rows: int
    features: Any  # datasets.Features
    batches: Callable[[list[str], int], Iterable[Any]]  # (columns, rows a batch) -> pyarrow tables or record batches


class Columns(NamedTuple):
    """Which columns are what; an empty name is a column that the data does not have."""

    image: str
    label: str
    mask: str
    classes: tuple[str, ...]

    @property
    def used(self) -> list[str]:
        return [name for name in (self.image, self.label, self.mask) if name]


def identify(argument: str, settings: DataSettings) -> tuple[str, str]:
    """The last part of the name, and the fingerprint of the content of the columns in use.

    The one that `datasets` keeps is of no use here: it follows from the dates of the files in its cache.
    """
    digest = hashlib.sha256()
    for split, table in _load(argument).items():
        columns = find_columns(f"hf:{argument}", table.features, settings)
        digest.update(f"{split}|{table.rows}|{columns}|".encode())
        for row in _rows(table, columns):
            for value in row.values():
                content = _content(value) if isinstance(value, dict) else str(value).encode()
                digest.update(f"{len(content)}|".encode() + content)
    return Path(argument).name, digest.hexdigest()[:16]


def read(argument: str, settings: DataSettings) -> Source:
    """Decoded row by row; raises UserError on columns that are not there."""
    return source(f"hf:{argument}", {split: [table] for split, table in _load(argument).items()}, settings)


def library(kind: str) -> Any:
    """The `datasets` package; raises UserError when the extra is not installed."""
    try:
        import datasets
    except ModuleNotFoundError:
        raise UserError(f"{kind}: needs the extra: pip install 'ssbench[hf]'") from None
    return datasets


def _load(argument: str) -> dict[str, Table]:
    """The splits of a data set of the hub or of a local folder, through the cache of `datasets`."""
    datasets = library("hf")
    try:
        found = datasets.load_dataset(argument)
    except Exception as error:  # it fails in as many ways as there are hubs, networks and formats
        raise UserError(f"hf:{argument} can't be loaded: {str(error).partition(chr(10))[0]}") from None
    named = {split: name for split, names in SPLITS.items() for name in names if name in found}
    if "train" not in named:
        raise UserError(f"hf:{argument} has no split called train; it has {', '.join(found)}")
    return {split: _table(name, found[name]) for split, name in named.items()}


def _table(name: str, split: Any) -> Table:
    def batches(columns: list[str], size: int) -> Iterable[Any]:
        return split.select_columns(columns).with_format("arrow").iter(size)

    return Table(name, len(split), split.features, batches)


def source(where: str, tables: Mapping[str, list[Table]], settings: DataSettings) -> Source:
    """Decoded splits; keys are positions. Raises UserError when splits differ in columns or classes."""
    from ssbench.data.decode import Samples, decode

    first = tables["train"][0]
    columns = find_columns(where, first.features, settings)
    for table in [table for shards in tables.values() for table in shards]:
        if find_columns(f"{where}: {table.name}", table.features, settings) != columns:
            raise UserError(f"{where}: {table.name} has other columns or classes than {first.name}")
    splits = {
        split: Samples(sum(table.rows for table in shards), _samples(where, shards, columns))
        for split, shards in tables.items()
    }
    return decode(where, splits, columns.classes, settings)


def find_columns(where: str, features: Mapping[str, Any], settings: DataSettings) -> Columns:
    """The columns that the settings name, else the first of each type, and the column called mask."""
    import datasets

    def named(role: str, kind: type) -> str:
        name: str = getattr(settings, role)
        if name and name not in features:
            raise UserError(f"{where} has no column {name!r} (data.{role}){near(name, features)}")
        if name and not isinstance(features[name], kind):
            raise UserError(f"{where}: column {name!r} (data.{role}) is not of type {kind.__name__}: {features[name]}")
        return name

    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    labels = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    mask = named("mask", datasets.Image) or ("mask" if "mask" in images else "")
    image = named("image", datasets.Image) or next((name for name in images if name != mask), "")
    label = named("label", datasets.ClassLabel) or next(iter(labels), "")
    if not image:
        raise UserError(f"{where} has no column of type Image; its columns: {', '.join(features)}")
    return Columns(image, label, mask, tuple(features[label].names) if label else ())


def _rows(table: Table, columns: Columns) -> Iterator[dict[str, Any]]:
    for batch in table.batches(columns.used, BATCH):
        yield from batch.to_pylist()


def _samples(where: str, tables: list[Table], columns: Columns) -> Iterator["Sample"]:
    from ssbench.data.decode import Sample

    key = 0
    for table in tables:
        for number, row in enumerate(_rows(table, columns)):
            name = f"{table.name} row {number}"
            label = row.get(columns.label)
            if columns.label and (label is None or not 0 <= label < len(columns.classes)):
                raise UserError(
                    f"{where}: {name} has the label {label}, which is none of {len(columns.classes)} classes"
                )
            yield Sample(str(key), name, partial(_open, row, columns))
            key += 1


def _open(row: dict[str, Any], columns: Columns) -> "Opened":
    from ssbench.data.decode import Opened

    mask = _image(row, columns.mask) if columns.mask else None
    return Opened(_image(row, columns.image), row.get(columns.label), mask)


def _image(row: dict[str, Any], column: str) -> "Image.Image":
    """The decoded image of a cell; raises ValueError naming the column."""
    from PIL import Image

    from ssbench.data.decode import reason

    content = _content(row[column])
    if not content:
        raise ValueError(f"column {column}: there is no image")
    try:
        image = Image.open(BytesIO(content))
        image.load()
    except Exception as error:  # see ssbench.data.decode
        raise ValueError(f"column {column}: {reason(error)}") from None
    return image


def _content(cell: dict[str, Any] | None) -> bytes:
    """The encoded image of a cell, which holds it or says where it is; nothing where neither is so."""
    if cell is None:
        return b""
    file = Path(cell["path"] or "")
    return cell["bytes"] or (file.read_bytes() if file.is_file() else b"")
