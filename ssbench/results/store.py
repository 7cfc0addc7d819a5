"""Files that are whole or not there: records, their predictions, cached tensors. Found again by identity."""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from glob import escape
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ssbench.errors import UserError, one_line, warn
from ssbench.results.record import SCHEMA, Record, seals, upgraded
from ssbench.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

LONGEST = 210  # bytes of a file's name: most file systems end at 255; a picture's and a file's being written are longer
Arrays = Mapping[str, NDArray[np.generic]]


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A temporary path beside `file` that takes its name when all went well."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, 0o644)
        os.replace(name, file)
    finally:
        Path(name).unlink(missing_ok=True)


def write_bytes(file: Path, content: bytes) -> None:
    with replacing(file) as path:
        path.write_bytes(content)


def write_tensors(file: Path, tensors: "Mapping[str, Tensor]") -> None:
    from safetensors.torch import save_file

    with replacing(file) as path:
        save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, path)


def read_tensors(file: Path, device: str = "cpu") -> "dict[str, Tensor] | None":
    """What `write_tensors` wrote; None where nothing is, or a file that is cut off, which is dropped with a word."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file, device=device)
    except FileNotFoundError:
        return None
    except SafetensorError as error:
        drop(file, error)
        return None


def drop(file: Path, error: Exception) -> None:
    """Remove a file that can't be read and will be made again, and say so."""
    file.unlink(missing_ok=True)
    warn(f"{file} can't be read and is made again ({one_line(error)})")


def _flat(arrays: Mapping[str, Arrays]) -> dict[str, Any]:
    return {f"{metric}/{name}": value for metric, group in arrays.items() for name, value in group.items()}


class Store:
    """The records of one results folder: `records/*.json`, with `*.npz` of per-sample predictions beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records = folder / "records"
        self.tables = folder / "tables"
        self.cache = folder / "cache"

    @classmethod
    def of_records(cls, folder: Path) -> "Store":
        """One that has records; raises UserError."""
        store = cls(folder)
        if not store.files():
            raise UserError(f"--results {folder}: no records there; make some with ssbench run --results {folder}")
        return store

    def file(self, spec: Spec) -> Path:
        """Where the record of a cell is."""
        p = spec.pretraining
        end = f".s{p.seed}.{spec.id}.json"  # with the id in it, what stands before may be cut
        start = f"{p.method}.{spec.task}.{spec.data.name}".replace("/", "_").replace(":", "-")
        return self.records / (start.encode()[: LONGEST - len(end)].decode(errors="ignore") + end)

    def find(self, spec: Spec) -> Record | None:
        """The record of this very cell, if there is one."""
        file = self.file(spec)
        return self.read(file) if file.exists() else None

    def all(self) -> list[Record]:
        """Every record, in the order of their file names; raises UserError naming a file that is not one."""
        return [self.read(file) for file in self.files()]

    def files(self) -> list[Path]:
        """Those of the records, in order."""
        return sorted(self.records.glob("*.json"))

    def write(
        self, record: Record, arrays: Mapping[str, Arrays], pictures: Mapping[str, bytes] = MappingProxyType({})
    ) -> Path:
        """Predictions first, then the record that names them: a record is never without its predictions.

        Pictures of them, PNG by name, go to a folder of their own.
        """
        file = self.file(record.spec)
        for name, content in pictures.items():
            write_bytes(self.folder / "pictures" / f"{file.stem}.{name}.png", content)
        if arrays:
            stored = BytesIO()
            np.savez_compressed(stored, **_flat(arrays))
            predictions = file.with_suffix(".npz")
            write_bytes(predictions, stored.getvalue())
            digest = hashlib.sha256(stored.getvalue()).hexdigest()
            record = record.model_copy(update={"predictions": predictions.name, "predictions_sha256": digest})
        _write(file, record)
        return file

    def update(self, record: Record) -> None:
        """Write a record again beside the predictions that it has."""
        _write(self.file(record.spec), record)

    def arrays(self, record: Record, metric: str) -> Arrays:
        """The per-sample arrays behind one score; raises UserError unless they are the ones that the record names."""
        return self.predictions(record, [metric])[metric]

    def predictions(self, record: Record, metrics: Iterable[str]) -> dict[str, Arrays]:
        """Those behind several scores, none for a score that has none."""
        file = self.records / (record.predictions or f"{record.id}.npz")
        if not file.is_file():
            raise UserError(
                f"{file}, the predictions of record {record.id}, is not there; run its cell again with --rerun"
            )
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != record.predictions_sha256:
            raise UserError(f"{file} is not what record {record.id} was made from; run its cell again with --rerun")
        with np.load(BytesIO(content)) as stored:
            found: dict[str, dict[str, NDArray[np.generic]]] = {metric: {} for metric in metrics}
            for name in stored.files:
                metric, _, array = name.partition("/")
                if metric in found:
                    found[metric][array] = stored[name]
            return dict(found)

    def older(self) -> int:
        """How many records are of an older schema: they are not found by today's identity until they are upgraded."""
        return sum(schema(file) < SCHEMA for file in self.records.glob("*.json"))

    def check_current(self) -> None:
        """Raises UserError where there are such."""
        if count := self.older():
            said = f"{count} records of an older schema; first, ssbench migrate --results {self.folder}"
            raise UserError(f"{self.folder} has {said}")

    def upgrade(self) -> int:
        """Write records of older schemas in today's, under today's identity, and tell how many; nothing is lost.

        The new record and what lies beside it are there before the old ones go: what was interrupted goes on.
        """
        old = [file for file in self.files() if schema(file) < SCHEMA]
        for file in old:
            record = self.read(file)
            target = self.file(record.spec)
            for picture in (self.folder / "pictures").glob(f"{escape(file.stem)}.*.png"):
                os.replace(picture, picture.with_name(target.stem + picture.name.removeprefix(file.stem)))
            if record.predictions:
                predictions = target.with_suffix(".npz")
                write_bytes(predictions, file.with_suffix(".npz").read_bytes())
                record = record.model_copy(update={"predictions": predictions.name})
            _write(target, record)
            for gone in {file, file.with_suffix(".npz")} - {target, target.with_suffix(".npz")}:
                gone.unlink(missing_ok=True)
        return len(old)

    def check_writable(self) -> None:
        """Raises UserError where records can't be written; leaves nothing behind."""
        place = next(folder for folder in (self.records, *self.records.parents) if folder.exists())
        if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
            raise UserError(f"--results {self.folder}: {place} is not a folder that can be written to")
        if self.cache.exists() and not self.cache.is_dir():
            raise UserError(f"--results {self.folder}: {self.cache} is not a folder; move it away")

    def read(self, file: Path) -> Record:
        """The record in a file; raises UserError naming it."""
        version = schema(file)  # looked for first: other versions don't validate
        if not 1 <= version <= SCHEMA:
            raise UserError(f"{file} has schema version {version}; this ssbench reads 1 to {SCHEMA}")
        try:
            record = Record.model_validate_json(file.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise UserError(
                f"{file} is not a record of this version: {where}: {first['msg']}; if it is cut off, delete it and run "
                "its cell again"
            ) from None
        if record.schema_version < SCHEMA and record.seals:
            raise UserError(f"{file} is not what was written: schema version {record.schema_version} had no seals")
        return upgraded(record) if record.schema_version < SCHEMA else record


def _write(file: Path, record: Record) -> None:
    sealed = record.model_copy(update={"seals": seals(record)})
    write_bytes(file, (sealed.model_dump_json(indent=1) + "\n").encode())


def schema(file: Path) -> int:
    """The version that the head of a record's file says; today's where it says none."""
    with file.open("rb") as opened:
        said = re.search(rb'"schema_version": ?(\d+)', opened.read(100))
    return int(said[1]) if said else SCHEMA
