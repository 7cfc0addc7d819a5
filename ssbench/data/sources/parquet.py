"""`parquet:PATH`: one .parquet file or a folder of them, as `datasets`, pandas, Polars, DuckDB or Spark write them."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow.parquet import ParquetFile

from ssbench.data.fingerprints import fingerprint
from ssbench.data.listing import Listing
from ssbench.data.sources.columns import find_columns
from ssbench.data.sources.names import role
from ssbench.data.sources.rows import Parts, arrange, content, listing
from ssbench.data.sources.table import Field, Table, Tables, fields, is_text
from ssbench.errors import UserError, one_line
from ssbench.spec import DataSettings

ENDINGS = (".parquet", ".pq", ".parq")
SHARD = re.compile(r"[-_]\d+[-_]of[-_]\d+([-_][0-9a-f]{8,})?$")  # of train-00000-of-00001


def identify(argument: str, settings: DataSettings) -> tuple[str, str]:
    """The file's or the folder's name and the fingerprint of its files, and of the images that they name.

    Raises UserError when they are not there, and as `read` does.
    """
    path, groups = _files(argument)
    parts = _parts(argument, path, groups, settings)
    root, name = (path.parent, path.stem) if path.is_file() else (path, path.name)
    found = fingerprint(root, [root / table.name for table in parts.tables])
    digest = hashlib.sha256(found.encode())
    seen = Tables.of(parts.tables)
    if not settings.depth and not any(map(seen.paths, seen.fields)):
        return name, found
    columns, _ = find_columns(f"parquet:{argument}", parts.tables, settings)
    for table in parts.tables:
        for column in table.fields.keys() & {columns.image, columns.mask, columns.depth}:
            for cell in table.cells(column) if is_text(table.fields[column].type) else ():
                image = content(cell, table.folder)
                digest.update(f"{cell}|{len(image)}|".encode() + image)
    return name, digest.hexdigest()[:16]


def read(argument: str, settings: DataSettings) -> Listing:
    """Its rows; raises UserError on a file that is not Parquet and on columns that are not there."""
    path, groups = _files(argument)
    return listing(f"parquet:{argument}", _parts(argument, path, groups, settings), settings)


def _parts(argument: str, path: Path, groups: dict[str, list[Path]], settings: DataSettings) -> Parts:
    root = path.parent if path.is_file() else path
    tables = {name: [_table(file, root) for file in files] for name, files in groups.items()}
    return arrange(f"parquet:{argument}", tables, "files", settings)


def _files(argument: str) -> tuple[Path, dict[str, list[Path]]]:
    """The place, and its files by what they are called without the numbers of shards."""
    path = Path(argument).expanduser().resolve()
    if path.is_file():
        return path, {path.name: [path]}
    if not path.is_dir():
        raise UserError(f"parquet:{argument}: there is no such file or folder")
    groups: dict[str, list[Path]] = {}
    homes: dict[str, Path] = {}
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path)
        if file.suffix.lower() not in ENDINGS or any(part.startswith((".", "_")) for part in inside.parts):
            continue
        name, home = _name(inside)
        groups.setdefault(name, []).append(file)
        if role(name) and homes.setdefault(name, home) != home:
            raise UserError(
                f"parquet:{argument} has several sets, each with its own {name}: {homes[name]} and {home};"
                f" name one, such as parquet:{path / home}"
            )
    if not groups:
        raise UserError(f"parquet:{argument}: there is no .parquet file in this folder")
    return path, groups


def _name(file: Path) -> tuple[str, Path]:
    """What split a file may be, `train` for `data/train-00000-of-00001.parquet` and `split=train/0.parquet`, and where.

    Where neither the file nor a folder is called like a split: the file's own name.
    """
    stem = SHARD.sub("", file.name.split(".")[0])
    if role(whole := re.sub(r"[-_]?\d+$", "", stem)):  # train_0
        return whole, file.parent
    for folder in file.parents:
        name = folder.name.removeprefix("split=")
        if role(name):
            return name, folder.parent
    return stem, file.parent


def _table(file: Path, root: Path) -> Table:
    """Opened for each reading, so that any number of shards may be there; read in batches.

    Folders such as `label=cat` are columns (Hive's partitions, which pandas, Polars, DuckDB and Spark write).
    """
    inside = file.relative_to(root)
    constant = dict(part.split("=", 1) for part in inside.parts[:-1] if "=" in part)

    def batches(columns: list[str], size: int) -> Iterator[Any]:
        with _naming(file), ParquetFile(file) as content:
            for batch in content.iter_batches(size, columns=[name for name in columns if name not in constant]):
                for name in constant.keys() & {*columns}:
                    batch = batch.append_column(name, pa.repeat(constant[name], len(batch)))
                yield batch

    with _naming(file), ParquetFile(file) as content:
        rows, schema = content.metadata.num_rows, content.schema_arrow
    partitions = {name: Field(pa.string(), {}) for name in constant}
    return Table(inside.as_posix(), rows, fields(schema, str(file)) | partitions, file.parent, batches)


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """A broken file becomes a UserError that names it."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} can't be read as Parquet: {one_line(error)}") from None
