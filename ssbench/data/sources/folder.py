"""`folder:PATH`: images in one folder a class, in splits of those, loose, beside masks, or beside a table."""

from collections.abc import Iterable
from pathlib import Path

from ssbench.data.listing import Listing
from ssbench.data.sources import layout, metadata, pairs
from ssbench.data.sources.files import Entry, Found, counted, ending, few, identity, listing, printable, root_of, walk
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
    files, rest = walk(root)
    others, hollow = ([file for file in rest if file.endswith("/") == empty] for empty in (False, True))
    if not files:
        raise UserError(f"{printable(where)} has no images" + _instead(where, others))
    _doubt_kind(where, root, files, others, settings)
    maps = [file for file in (*files, *others) if settings.depth and settings.depth in file.split("/")[:-1]]
    files, others = (_without(some, maps) for some in (files, others))
    found = pairs.find(where, files, settings)
    images = [file for file in files if file not in found.files]
    table = metadata.find(where, root, images, [*found.files, *maps], others, settings)
    masks = {file: row.mask for file, row in table.rows.items() if row.mask} if table else {}
    if masks:
        found = pairs.Pairs(masks, {*masks.values()})
        images = [file for file in files if file not in found.files]
    named = {file: row.depth for file, row in table.rows.items() if row.depth} if table else {}
    images, others = (_without(some, named.values()) for some in (images, others))
    depth = named or pairs.maps(images, maps, settings.depth)
    if settings.depth and not depth:
        raise UserError(
            f"{printable(where)}: no folder or column {settings.depth!r} (data.depth) has a map of an image"
        )
    if table:
        places, origin, left_out = _places(where, images, table, settings)
    else:
        places, origin, left_out = layout.understand(where, images, settings)
        left_out += _unused(settings)
    rows = table.rows if table else {}
    splits: dict[str, list[Entry]] = {part: [] for part in layout.PARTS}
    for file, place in places.items():
        row = rows.get(file)
        extra = (row.boxes, row.numbers, row.group) if row else (None, (), "")
        splits[place.split].append(Entry(file, place.label, found.masks.get(file), *extra, depth.get(file, "")))
    splits, bare = _masked(splits)
    _refuse_mapless(where, splits, settings)
    further = len({*maps} - {*depth.values()})
    spare = len(found.files - {*found.masks.values()})
    others = [file for file in others if not table or file not in table.files]
    left_out += [f"{bare} images without a mask"] if bare else []
    left_out += [f"{spare} masks without an image, or further ones"] if spare else []
    left_out += [f"{further} depth maps without an image, or further ones"] if further else []
    left_out += [f"empty folders: {few(hollow)}"] if hollow else []
    left_out += _yolo(root, others)
    left_out += [f"{len(others)} files of other kinds: {counted(others)}"] if others else []
    columns = dict(table.columns) if table else {}
    if "label" not in columns and any(place.label is not None for place in places.values()):
        columns["label"] = "folder names"
    if "mask" not in columns and found.masks:
        columns["mask"] = _folders([*found.masks.values()])
    if depth:
        columns["depth"] = settings.depth if named else f"folder {printable(settings.depth)}"
    used = table.files if table else ()
    return Found(splits, origin, used, columns, settings.numbers if table else (), tuple(left_out))


def _places(
    where: str, images: list[str], table: metadata.Table, settings: DataSettings
) -> tuple[dict[str, layout.Place], str, list[str]]:
    """Splits and labels as a table has them, else as the folders have; images without a row are left out."""
    names = few(table.files)
    listed = [file for file in images if file in table.rows]
    alone = sum(file not in table.rows and file not in table.dropped for file in images)
    left_out = [*table.left_out, *([f"{alone} images without a row in {names}"] if alone else [])]
    if table.columns.get("split"):  # then data.splits speaks of its values
        settings = settings.model_copy(update={"splits": ()})
    if "label" not in table.columns and "boxes" not in table.columns and layout.has_classes(listed):
        if table.unread:
            text = f"{where}: {names} has no column called label, so that folders would be the classes"
            suspect(settings, "folder-labels", f"{text}; name its column, --set data.label={table.unread[0]}")
        places, origin, more = layout.understand(where, listed, settings)
        left_out += more
    else:
        if 2 * len(listed) < len(images) and layout.has_classes([f for f in images if f not in table.rows]):
            text = f"{where}: {names} has {len(listed)} of {len(images)} images, and the others would not be used"
            suspect(settings, "few-rows", f"{text}; move it away where the folders are the classes")
        places, origin = layout.parts(listed, settings)
    for file, place in places.items():
        row = table.rows[file]
        label = row.label if "label" in table.columns or "boxes" in table.columns else place.label
        places[file] = layout.Place(row.split or place.split, label)
    return places, table.origin or origin, left_out


def _without(files: list[str], gone: Iterable[str]) -> list[str]:
    some = {*gone}
    return [file for file in files if file not in some]


def _refuse_mapless(where: str, splits: dict[str, list[Entry]], settings: DataSettings) -> None:
    """Raises UserError where depth is asked for and an image has none."""
    entries = [entry for each in splits.values() for entry in each if settings.depth]
    if lacking := [entry.file for entry in entries if not entry.depth]:
        text = f"{where}: {len(lacking)} of {len(entries)} images have no depth map, such as {printable(lacking[0])}"
        wanted = "a folder of maps that are named and placed as images are, or a column of a table that names files"
        raise UserError(f"{text} (data.depth={settings.depth}); it is {wanted}")


def _unused(settings: DataSettings) -> list[str]:
    """Columns that are asked for where no table is."""
    asked = {"label": settings.label, "boxes": settings.boxes, "group": settings.group}
    asked["numbers"] = ", ".join(settings.numbers)
    return [f"data.{name}={column}: no table beside the images has it" for name, column in asked.items() if column]


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


def _doubt_kind(where: str, root: Path, images: list[str], others: list[str], settings: DataSettings) -> None:
    """Layouts that other sources read."""
    path = where.partition(":")[2]
    stems = {file.rpartition(".")[0] for file in images}
    for file in others:
        name = file.lower()
        if name.endswith(".json") and name.count("/") <= 2 and _is_coco(root / file):
            text = (
                f"{where} looks like a COCO data set ({printable(file)}), whose boxes and masks are read by coco:{path}"
            )
            suspect(settings, "coco", text)
        if name.endswith(".xml") and ("annotations/" in name or file[:-4] in stems):
            text = f"{where} looks like Pascal VOC ({printable(file)}), whose boxes and masks are read by voc:{path}"
            suspect(settings, "voc", text)


def _is_coco(file: Path) -> bool:
    """By its name, or by the keys at its two ends: the whole may have hundreds of MB."""
    if file.name.lower().endswith(".coco.json") or file.name.lower().startswith("instances_"):
        return True
    with file.open("rb") as content:
        ends = content.read(4096)
        content.seek(max(0, file.stat().st_size - 4096))
        ends += content.read()
    return sum(key in ends for key in (b'"images"', b'"annotations"', b'"categories"', b'"category_id"')) >= 2


def _yolo(root: Path, others: list[str]) -> list[str]:
    """What is said of text files with lines of class, centre and size, as YOLO keeps boxes."""
    boxes = [file for file in others if file.endswith(".txt") and "labels" in file.lower().split("/")]
    if not boxes:
        return []
    numbers = (root / boxes[0]).read_bytes()[:200].partition(b"\n")[0].split()
    if len(numbers) < 5 or not all(number.replace(b".", b"").isdigit() for number in numbers):
        return []
    return [f"boxes in YOLO's text files are not read: {few(boxes, 1)} (coco:PATH reads them in COCO's form)"]
