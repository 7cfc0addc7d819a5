"""`folder:PATH`: images in one folder a class, in splits of those, loose, beside masks, or beside a table."""

from pathlib import Path

from ssbench.data import layout, pairs
from ssbench.data.files import Entry, Found, counted, ending, few, identity, listing, printable, root_of, walk
from ssbench.data.listing import Listing
from ssbench.data.suspicion import suspect
from ssbench.errors import UserError
from ssbench.spec import DataSettings


def identify(argument: str, settings: DataSettings) -> tuple[str, str]:
    """The folder's name and the fingerprint of the files in use; raises UserError when it is not there or has none."""
    root = root_of("folder", argument)
    return identity(root, _understand(f"folder:{argument}", root, settings))


def read(argument: str, settings: DataSettings) -> Listing:
    """Images in the order of their paths, which are their keys; UserError where they can't be understood."""
    root = root_of("folder", argument)
    return listing(f"folder:{argument}", root, _understand(f"folder:{argument}", root, settings))


def _understand(where: str, root: Path, settings: DataSettings) -> Found:
    files, others = walk(root)
    if not files:
        raise UserError(f"{printable(where)} has no images" + _instead(where, others))
    _doubt_kind(where, files, others, settings)
    found = pairs.find(where, files, settings)
    images = [file for file in files if file not in found.files]
    places, origin, left_out = layout.understand(where, images, settings)
    entries = {file: Entry(file, place.label, found.masks.get(file)) for file, place in places.items()}
    splits = {part: [entries[file] for file in places if places[file].split == part] for part in layout.PARTS}
    splits, bare = _masked(splits)
    spare = len(found.files - {*found.masks.values()})
    left_out += [f"{bare} images without a mask"] if bare else []
    left_out += [f"{spare} masks without an image, or further ones"] if spare else []
    left_out += _yolo(root, others)
    left_out += [f"{len(others)} files of other kinds: {counted(others)}"] if others else []
    columns = {"label": "folder names"} if any(place.label is not None for place in places.values()) else {}
    columns |= {"mask": _folders([*found.masks.values()])} if found.masks else {}
    return Found(splits, origin, columns=columns, left_out=tuple(left_out))


def _masked(splits: dict[str, list[Entry]]) -> tuple[dict[str, list[Entry]], int]:
    """The splits without the images that have no mask where others of their split have one, and how many those are."""
    kept = {}
    for name, entries in splits.items():
        with_mask = [entry for entry in entries if entry.mask is not None]
        kept[name] = with_mask or entries
    return kept, sum(len(entries) - len(kept[name]) for name, entries in splits.items())


def _folders(masks: list[str]) -> str:
    """Where masks lie: `masks`, or `names beside the images`."""
    places = sorted({printable(mask.rpartition("/")[0]) for mask in masks})
    return f"folder {places[0]}" if len(places) == 1 and places[0] else f"{len(masks)} files"


def _instead(where: str, others: list[str]) -> str:
    """What a folder without images has, and what to type for it."""
    path = where.partition(":")[2]
    ends = {ending(file) for file in others}
    if "parquet" in ends:
        return f", but Parquet files: parquet:{path}, or hf:{path}"
    if "arrow" in ends:
        return f", but Arrow files: hf:{path}"
    if ends & {"zip", "tar", "gz", "tgz", "7z", "rar"}:
        return f", but {counted(others)}: unpack the archives first"
    return f"; it has {counted(others)}" if others else "; it is empty"


def _doubt_kind(where: str, images: list[str], others: list[str], settings: DataSettings) -> None:
    """Layouts that other sources read."""
    path = where.partition(":")[2]
    stems = {file.rpartition(".")[0] for file in images}
    for file in others:
        name = file.lower()
        if name.endswith(".coco.json") or (name.endswith(".json") and "/instances_" in f"/{name}"):
            text = (
                f"{where} looks like a COCO data set ({printable(file)}), whose boxes and masks are read by coco:{path}"
            )
            suspect(settings, "coco", text)
        if name.endswith(".xml") and ("annotations/" in name or file[:-4] in stems):
            text = f"{where} looks like Pascal VOC ({printable(file)}), whose boxes and masks are read by voc:{path}"
            suspect(settings, "voc", text)


def _yolo(root: Path, others: list[str]) -> list[str]:
    """What is said of text files with lines of class, centre and size, as YOLO keeps boxes."""
    boxes = [file for file in others if file.endswith(".txt") and "labels" in file.lower().split("/")]
    if not boxes:
        return []
    numbers = (root / boxes[0]).read_bytes()[:200].partition(b"\n")[0].split()
    if len(numbers) < 5 or not all(number.replace(b".", b"").isdigit() for number in numbers):
        return []
    return [f"boxes in YOLO's text files are not read: {few(boxes, 1)}; turned into COCO's form, coco:PATH reads them"]
