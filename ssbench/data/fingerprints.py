"""What files hold, as 16 digits: read once, and again where a size or a time has changed. No torch."""

import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from ssbench.errors import UserError

RECENT = 2.0  # seconds: what was written just now may be written again within the clock's grain
ROOM = 1000  # fingerprints that are remembered


def fingerprint(root: Path, files: Iterable[Path]) -> str:
    """16 hexadecimal digits of the SHA-256 over the files' paths below `root` and their bytes, in sorted order.

    Remembered with the files' sizes and times. Raises UserError naming a file that can't be read.
    """
    each = sorted((name_below(root, file), file) for file in files)
    stamps, newest = hashlib.sha256(str(root).encode(errors="surrogateescape")), 0.0
    for name, file in each:
        try:
            status = file.stat()
        except OSError as error:  # such as a link that leads nowhere
            raise UserError(f"{name_below(root, file)} can't be read: {error.strerror}") from None
        newest = max(newest, status.st_mtime, status.st_ctime)
        stamps.update(f"{name}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}|".encode())
    place = _memory() / stamps.hexdigest()[:32]
    settled = time.time() - newest > RECENT
    if settled and (known := _recalled(place)):
        return known
    found = _read(each)
    if settled:
        _remember(place, found)
    return found


def name_below(root: Path, file: Path) -> str:
    """A file's path below a folder, with slashes and in UTF-8, whatever bytes its name has."""
    return os.fsencode(file.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")


def _read(each: Iterable[tuple[str, Path]]) -> str:
    digest = hashlib.sha256()
    for name, file in each:
        try:
            digest.update(f"{name}|{file.stat().st_size}|".encode())
            with file.open("rb") as content:
                while chunk := content.read(2**20):
                    digest.update(chunk)
        except OSError as error:
            raise UserError(f"{file} can't be read: {error.strerror}") from None
    return digest.hexdigest()[:16]


def _memory() -> Path:
    return Path(os.environ.get("SSBENCH_CACHE") or "~/.cache/ssbench").expanduser() / "fingerprints"


def _recalled(place: Path) -> str:
    try:
        return str(json.loads(place.read_text()))
    except (OSError, ValueError):
        return ""


def _remember(place: Path, found: str) -> None:
    """Where it can be; a read-only home costs time, not the run."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(found))
        old = sorted(place.parent.iterdir(), key=lambda file: file.stat().st_mtime)[:-ROOM]
        for file in old:
            file.unlink(missing_ok=True)
    except OSError:
        return
