"""Arrays of decoded data in files that are mapped into memory: made once, found again by what they follow from.

They lie beside what `memory.py` keeps, at most MOST bytes of them, the longest unused going first. Where nothing can be
written there, they last as long as the command.
"""

import atexit
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ssbench.data.memory import home
from ssbench.errors import warn

if TYPE_CHECKING:
    from torch import Tensor

MOST = 20 * 2**30  # bytes of decoded data
STORY = "story.json"  # written last: without it a folder is unfinished


def place() -> Path:
    """Where decoded data is kept."""
    return home() / "decoded"


@dataclass(frozen=True)
class Arrays:
    """Named arrays of one data set, being written."""

    folder: Path

    def room(self, name: str, shape: tuple[int, ...], kind: str) -> "Tensor":
        """An array of zeros in a file, `kind` in NumPy's words (uint8, int64, float32); changes are written through."""
        import torch

        if 0 in shape:  # no file can be mapped that holds nothing
            empty = np.zeros(shape, kind)
            np.save(self.folder / f"{name}.npy", empty)
            return torch.from_numpy(empty)
        return torch.from_numpy(np.lib.format.open_memmap(self.folder / f"{name}.npy", "w+", kind, shape))


def begin(key: str) -> Arrays:
    """A folder to write to, which nobody finds before `finish`."""
    try:
        place().mkdir(parents=True, exist_ok=True)
        return Arrays(Path(tempfile.mkdtemp(dir=place(), prefix=f".{key}.")))
    except OSError as error:
        warn(f"{place()} can't be written to ({error.strerror}); what is decoded lasts as long as this command")
        folder = Path(tempfile.mkdtemp(prefix="ssbench-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return Arrays(folder)


def finish(arrays: Arrays, key: str, story: Mapping[str, Any]) -> Path:
    """Give a written folder its name, and make room; the folder where it is now."""
    (arrays.folder / STORY).write_text(json.dumps(story))
    if arrays.folder.parent != place():
        return arrays.folder
    target = place() / key
    try:
        os.replace(arrays.folder, target)
    except OSError:
        if not (target / STORY).is_file():
            raise
        shutil.rmtree(arrays.folder, ignore_errors=True)  # somebody else was faster
    prune(MOST, keep=key)
    return target


def abandon(arrays: Arrays) -> None:
    """Remove what was not finished."""
    shutil.rmtree(arrays.folder, ignore_errors=True)


def find(key: str) -> Path | None:
    """The folder of finished arrays; its time is when it was used last."""
    folder = place() / key
    try:
        os.utime(folder / STORY)
    except FileNotFoundError:
        return None
    except OSError:  # a read-only cache
        pass
    return folder if (folder / STORY).is_file() else None


def read(folder: Path) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """The arrays of a folder, mapped (changes stay in memory), and what goes with them."""
    import torch

    found = {}
    for file in sorted(folder.glob("*.npy")):
        whole = file.stat().st_size > 2**20  # small ones are read: a map has its price
        found[file.stem] = torch.from_numpy(np.load(file, "c" if whole and np.load(file, "r").size else None))
    return found, json.loads((folder / STORY).read_text())


@dataclass(frozen=True)
class Entry:
    """A folder of decoded data."""

    folder: Path
    size: int  # bytes
    used: float  # seconds since the epoch
    name: str


def entries() -> list[Entry]:
    """What is kept, the longest unused first."""
    found = []
    for folder in place().glob("[!.]*"):
        try:
            story = json.loads((folder / STORY).read_text())
            size = sum(file.stat().st_size for file in folder.iterdir())
            found.append(Entry(folder, size, (folder / STORY).stat().st_mtime, str(story.get("name", ""))))
        except (OSError, ValueError):  # on its way in or out
            continue
    return sorted(found, key=lambda entry: entry.used)


def prune(most: int, keep: str = "") -> list[Entry]:
    """Remove the longest unused until at most so many bytes are left, and what was never finished; what went."""
    gone, kept = [], entries()
    total = sum(entry.size for entry in kept)
    for entry in kept:
        if total > most and entry.folder.name != keep:
            shutil.rmtree(entry.folder, ignore_errors=True)
            gone.append(entry)
            total -= entry.size
    for left in unfinished():
        shutil.rmtree(left, ignore_errors=True)
    return gone


def unfinished(age: float = 86_400.0) -> Iterable[Path]:
    """Folders that were begun and not finished within a day."""
    for folder in place().glob(".*"):
        try:
            if time.time() - folder.stat().st_mtime > age:
                yield folder
        except OSError:
            continue
