"""Image files below a folder: which there are, what they are called, how they open. No torch."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ssbench.data.fingerprints import fingerprint
from ssbench.data.listing import Box, Label, Listing, Sample, Samples
from ssbench.errors import UserError

if TYPE_CHECKING:
    from numpy import generic
    from numpy.typing import NDArray
    from PIL import Image

_PLUGINS = {"heic", "heif", "hif", "avif", "avifs"}  # images, even where what opens them is not installed
_NO_IMAGES = {"pdf", "eps", "ps", "emf", "wmf", "mpeg", "mpg", "h5", "hdf", "bufr", "grib"}  # or need other programs
_NEVER = {
    *("txt", "csv", "tsv", "json", "jsonl", "xml", "yaml", "yml", "md", "html", "py", "ipynb", "log"),
    *("npy", "npz", "mat", "pkl", "parquet", "arrow", "zip", "tar", "gz", "bin"),
}
_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8")
_JUNK = {"Thumbs.db", "ehthumbs.db", "desktop.ini", "__MACOSX", "@eaDir", "Icon\r"}


class Entry(NamedTuple):
    """An image file and what is known of it; paths are below the source's root."""

    file: str
    label: Label | tuple[Label, ...] | None = None
    mask: "str | Callable[[], Image.Image] | None" = None  # a file, or what draws it
    boxes: tuple[Box, ...] | None = None
    numbers: tuple[float, ...] = ()
    group: str = ""
    depth: str = ""  # a file


@dataclass(frozen=True)
class Found:
    """How the files of a source were understood."""

    splits: Mapping[str, Sequence[Entry]]
    origin: str
    used: tuple[str, ...] = ()  # files that are read beside images and masks
    columns: Mapping[str, str] = field(default_factory=dict)
    numbers: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def root_of(kind: str, argument: str) -> Path:
    """The folder that a source names; raises UserError when it is none."""
    try:
        root = Path(argument).expanduser().resolve()
        is_folder = root.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # too long, a link to itself, a home that is nobody's
        raise UserError(f"{kind}:{argument} can't be read: {error}") from None
    if not is_folder:
        raise UserError(f"{kind}:{argument}: " + (_no_folder(root) if root.exists() else "there is no such folder"))
    return root


def _no_folder(file: Path) -> str:
    match file.suffix.lower():
        case ".zip" | ".tar" | ".gz" | ".tgz" | ".bz2" | ".xz" | ".7z" | ".rar" | ".zst":
            return f"it is an archive: unpack it, and give the folder, such as folder:{file.name.partition('.')[0]}"
        case ".parquet":
            return f"it is a table: parquet:{file}"
        case ".csv" | ".tsv" | ".jsonl":
            return f"it is a file: give the folder that it lies in, folder:{file.parent}"
        case ".json":
            return f"it is a file: coco:{file} where it holds COCO's annotations"
    return "it is a file, not a folder"


def identity(root: Path, found: Found) -> tuple[str, str]:
    """The root's name and the fingerprint of all files in use; raises UserError naming one that can't be read."""
    entries = [entry for entries in found.splits.values() for entry in entries]
    masks = {entry.mask for entry in entries if isinstance(entry.mask, str)}
    files = (
        {entry.file for entry in entries} | masks | {entry.depth for entry in entries if entry.depth} | {*found.used}
    )
    return printable(root.name) or "root", fingerprint(root, [root / file for file in files])


def listing(where: str, root: Path, found: Found) -> Listing:
    """The samples in the order of their paths, which are their keys."""

    def each(entries: Sequence[Entry]) -> Iterator[Sample]:
        for entry in entries:
            mask = partial(_mask, root / entry.mask) if isinstance(entry.mask, str) else entry.mask
            key, open_ = printable(entry.file), partial(open_image, root / entry.file)
            depth = partial(open_depth, root / entry.depth) if entry.depth else None
            yield Sample(key, key, open_, entry.label, mask, entry.boxes, entry.numbers, depth, entry.group)

    splits = {}
    for name in ("train", "val", "test"):
        if found.splits.get(name):
            entries = sorted(found.splits[name], key=lambda entry: entry.file)
            splits[name] = Samples(len(entries), partial(each, entries))
    return Listing(
        where,
        splits,
        numbers=found.numbers,
        origin=found.origin,
        columns=found.columns,
        left_out=found.left_out,
    )


def one_label(splits: Mapping[str, Sequence[Entry]]) -> Mapping[str, Sequence[Entry]]:
    """Labels of their own where every labelled image of every split has one, else all as they are: several."""
    labels = [entry.label for entries in splits.values() for entry in entries if entry.label is not None]
    if not all(isinstance(label, tuple) and len(label) == 1 for label in labels):
        return splits
    return {
        name: [entry._replace(label=entry.label[0]) if isinstance(entry.label, tuple) else entry for entry in entries]
        for name, entries in splits.items()
    }


def printable(text: str) -> str:
    """A file's name as it can be shown and stored: bytes that are no UTF-8, and control characters, as escapes."""
    text = os.fsencode(text).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def walk(root: Path) -> tuple[list[str], list[str]]:
    """Images at any depth and other files, as sorted paths below `root`; links are followed, hidden files are not.

    An empty folder is among the others, with a slash at its end.

    Raises UserError on a folder that can't be looked into.
    """
    images: list[str] = []
    others: list[str] = []
    places: list[tuple[str, tuple[str, ...]]] = [("", (os.path.realpath(root),))]
    while places:
        prefix, above = places.pop()
        entries = _entries(root / prefix)
        if prefix and not entries:
            others.append(prefix)
        for entry in entries:
            path = prefix + entry.name
            if entry.name.startswith(".") or entry.name in _JUNK:
                continue
            if not _is_folder(entry):
                (images if is_image(entry) else others).append(path)
            elif (real := os.path.realpath(entry.path)) not in above:  # else a link that leads back
                places.append((f"{path}/", (*above, real)))
    return sorted(images), sorted(others)


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return [*entries]
    except OSError as error:
        raise UserError(f"{printable(str(folder))} can't be read: {error.strerror}") from None


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def ending(name: str) -> str:
    return name.rpartition("/")[2].lower().rpartition(".")[2] if "." in name.rpartition("/")[2] else ""


def is_image(entry: "os.DirEntry[str]") -> bool:
    """By its ending, else by its first bytes."""
    end = ending(entry.name)
    if end in image_endings():
        return True
    if end in _NEVER or end in _NO_IMAGES:
        return False
    try:
        with open(entry.path, "rb") as file:
            start = file.read(12)
    except OSError:
        return False
    return start.startswith(_STARTS) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")


@cache
def image_endings() -> frozenset[str]:
    """The endings in small letters of all that Pillow and its plugins open."""
    from PIL import Image

    _plugins()
    Image.init()
    opened = {end[1:] for end, form in Image.registered_extensions().items() if form in Image.OPEN}
    return frozenset((opened | _PLUGINS) - _NO_IMAGES)


@cache
def _plugins() -> None:
    logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)  # it tells of each file that it can't read
    for name, start in (("pillow_heif", "register_heif_opener"), ("pillow_avif", "")):
        try:
            plugin = import_module(name)
        except ImportError:
            continue
        if start:
            getattr(plugin, start)()


def open_image(file: Path | bytes) -> "Image.Image | NDArray[generic]":
    """An image file, or its content, as Pillow opens it, or its bands (H, W, C) where Pillow would lose some or bits.

    Raises ValueError naming what is to be installed, and whatever broken bytes lead Pillow to.
    """
    from PIL import Image, UnidentifiedImageError

    _plugins()
    try:
        image: Image.Image = Image.open(BytesIO(file) if isinstance(file, bytes) else file)
    except UnidentifiedImageError:
        start = _start(file)
        if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _bands(file)
        if start[4:8] == b"ftyp":
            raise ValueError("Pillow can't open its HEIF or AVIF: pip install pillow-heif") from None
        raise
    tags, bands = (image.tag_v2 if image.format == "TIFF" else {}), len(image.getbands())  # type: ignore[attr-defined]
    samples, bits = tags.get(277, 1), max(tags.get(258, (1,)))  # SamplesPerPixel, BitsPerSample
    if samples > bands or (bands > 1 and bits > 8):
        image.close()
        return _bands(file)
    return image


def _start(file: Path | bytes) -> bytes:
    if isinstance(file, bytes):
        return file[:12]
    with file.open("rb") as content:
        return content.read(12)


def _bands(file: Path | bytes) -> "NDArray[Any]":
    """The first page of a TIFF file, (H, W, C)."""
    try:
        tifffile = import_module("tifffile")
    except ImportError:
        raise ValueError("Pillow can't open the bands of this TIFF: pip install 'ssbench[tiff]'") from None
    with tifffile.TiffFile(BytesIO(file) if isinstance(file, bytes) else file) as content:
        page = content.pages[0]
        bands = page.asarray().reshape(page.shape)
    if page.axes == "YX":
        return bands[..., None]
    if page.axes == "SYX":
        return bands.transpose(1, 2, 0)
    if page.axes != "YXS":
        raise ValueError(f"its axes are {page.axes}, not height, width and bands")
    return bands


def _mask(file: Path) -> "Image.Image":
    return as_mask(open_image(file), file.name)


def as_mask(found: "Image.Image | NDArray[generic]", name: str) -> "Image.Image":
    """A mask as it was opened; raises ValueError where it is more than an image."""
    from PIL import Image

    if isinstance(found, Image.Image):
        return found
    raise ValueError(f"its mask {name} has more bands than an image")


def open_depth(file: Path | bytes) -> "NDArray[Any]":
    """The numbers (H, W) of an image file or of NumPy's .npy; raises ValueError where it has not one for each pixel."""
    import numpy as np

    if _start(file).startswith(b"\x93NUMPY"):
        values = np.load(BytesIO(file) if isinstance(file, bytes) else file, allow_pickle=False)
    else:
        values = np.asarray(open_image(file))
    values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if values.ndim != 2 or values.dtype.kind not in "uif":
        raise ValueError(f"its depth map is of {values.dtype}, {values.shape}, not one number for each pixel")
    return values


def counted(files: Iterable[str]) -> str:
    """How many files of which endings: `.txt 28, .mp4 2`."""
    ends = Counter(f".{end}" if (end := ending(file)) else "without ending" for file in files)
    return ", ".join(f"{printable(end)} {count}" for end, count in ends.most_common())


def few(names: Iterable[str], most: int = 5) -> str:
    """The first names and how many more there are: `a, b and 7 more`."""
    names = [printable(name) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
