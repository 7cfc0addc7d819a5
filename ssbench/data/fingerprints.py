"""What files hold, as 16 digits: read once, and again where a size or a time has changed. No torch."""

import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

from ssbench.data import memory
from ssbench.errors import UserError

RECENT = 2.0  # seconds: what was written just now may be written again within the clock's grain


def fingerprint(root: Path, files: Iterable[Path]) -> str:
    """16 hexadecimal digits of the SHA-256 over the files' paths below `root` and their bytes, in sorted order.

    Remembered with the files' sizes and times. A link that leads nowhere counts by its name: who opens it says so.
    Raises UserError naming a file that can't be read.
    """
    each = sorted((name_below(root, file), file) for file in files)
    stamps, newest = hashlib.sha256(str(root).encode(errors="surrogateescape")), 0.0
    for name, file in each:
        try:
            status = file.stat()
        except FileNotFoundError:
            stamps.update(f"{name}|missing|".encode())
            continue
        except OSError as error:
            raise UserError(f"{name} can't be read: {error.strerror}") from None
        newest = max(newest, status.st_mtime, status.st_ctime)
        stamps.update(f"{name}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}|".encode())
    key, settled = stamps.hexdigest()[:32], time.time() - newest > RECENT
    if settled and (known := memory.recall("fingerprints", key)):
        return str(known)
    found = _read(each)
    if settled:
        memory.remember("fingerprints", key, found)
    return found


def name_below(root: Path, file: Path) -> str:
    """A file's path below a folder, with slashes and in UTF-8, whatever bytes its name has."""
    return os.fsencode(file.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")


def _read(each: Iterable[tuple[str, Path]]) -> str:
    digest = hashlib.sha256()
    for name, file in each:
        try:
            if not file.exists():
                digest.update(f"{name}|missing|".encode())
                continue
            digest.update(f"{name}|{file.stat().st_size}|".encode())
            with file.open("rb") as content:
                while chunk := content.read(2**20):
                    digest.update(chunk)
        except OSError as error:
            raise UserError(f"{file} can't be read: {error.strerror}") from None
    return digest.hexdigest()[:16]
