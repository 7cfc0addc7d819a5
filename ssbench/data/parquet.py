"""`parquet:PATH`: one .parquet file, or a folder with one a split (or shards, train-*.parquet), of typed columns."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssbench.data import SPLITS, Source, fingerprint
from ssbench.data.huggingface import Table, library, source
from ssbench.errors import UserError, one_line
from ssbench.spec import DataSettings


def identify(argument: str, settings: DataSettings) -> tuple[str, str]:
    """The file's or the folder's name and the fingerprint of its files; raises UserError when they are not there."""
    path, files = _files(argument)
    used = [file for shards in files.values() for file in shards]
    return path.stem if path.is_file() else path.name, fingerprint(used[0].parent, used)


def read(argument: str, settings: DataSettings) -> Source:
    """Decoded row by row; raises UserError on a file that is not Parquet and on columns that are not there."""
    _, files = _files(argument)
    tables = {split: [_table(file) for file in shards] for split, shards in files.items()}
    return source(f"parquet:{argument}", tables, settings)


def _files(argument: str) -> tuple[Path, dict[str, list[Path]]]:
    """The place, and the files of each split that is there."""
    path = Path(argument).expanduser().resolve()
    if path.is_file():
        return path, {"train": [path]}
    if not path.is_dir():
        raise UserError(f"parquet:{argument}: there is no such file or folder")
    found = {split: next(filter(None, (_shards(path, name) for name in names)), []) for split, names in SPLITS.items()}
    if not found["train"]:
        raise UserError(f"parquet:{argument}: there is no train.parquet and no train-*.parquet in this folder")
    return path, {split: files for split, files in found.items() if files}


def _shards(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}.parquet")) or sorted(folder.glob(f"{name}-*.parquet"))


def _table(file: Path) -> Table:
    """Read in batches, so that a file larger than the memory streams."""
    datasets = library("parquet")
    from pyarrow.parquet import ParquetFile

    def batches(columns: list[str], size: int) -> Iterator[Any]:
        with _naming(file):
            yield from content.iter_batches(size, columns=columns)

    with _naming(file):
        content = ParquetFile(file)
    features = datasets.Features.from_arrow_schema(content.schema_arrow)
    return Table(file.name, content.metadata.num_rows, features, batches)


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """A broken file becomes a UserError that names it."""
    from pyarrow import ArrowInvalid

    try:
        yield
    except (ArrowInvalid, OSError) as error:
        raise UserError(f"{file} can't be read as Parquet: {one_line(error)}") from None
