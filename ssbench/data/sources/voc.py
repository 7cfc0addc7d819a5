"""`voc:PATH`: images with Pascal VOC's XML files of boxes, its masks, and its lists of splits. No torch."""

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from ssbench.data.listing import Box, Listing
from ssbench.data.sources import layout
from ssbench.data.sources.files import Entry, Found, few, identity, listing, one_label, printable, root_of, walk
from ssbench.data.sources.names import asked, role
from ssbench.errors import UserError, one_line
from ssbench.spec import DataSettings

MASKS = "SegmentationClass"
_NO_IMAGES = {"segmentationclass", "segmentationobject", "segmentationclassaug", "trimaps"}


class Files(NamedTuple):
    """The files of a set by the stems of its images."""

    images: dict[str, str]
    boxes: dict[str, str]
    masks: dict[str, str]
    lists: dict[str, dict[str, str]]  # Main, Segmentation -> the stem of a list -> its file


def identify(argument: str, settings: DataSettings) -> tuple[str, str]:
    """The name of the folder and the fingerprint of the files in use; raises UserError as `read` does."""
    root = root_of("voc", argument)
    return identity(root, _understand(f"voc:{argument}", root, settings))


def read(argument: str, settings: DataSettings) -> Listing:
    """Images in the order of their paths; boxes as they are written (VOC counts pixels from 1), difficult ones too.

    `data.mask=SegmentationClass` takes the images that have a mask, in the splits of ImageSets/Segmentation.
    Raises UserError naming the file that is missing, broken or has no box in VOC's form.
    """
    root = root_of("voc", argument)
    return listing(f"voc:{argument}", root, _understand(f"voc:{argument}", root, settings))


def _understand(where: str, root: Path, settings: DataSettings) -> Found:
    files = _files(where, root)
    masked = bool(files.masks) and (settings.mask == MASKS or not files.boxes)
    if settings.mask and not masked:
        raise UserError(f"{where} has no masks in {settings.mask} (data.mask); VOC's are in {MASKS}")
    lists = files.lists.get("Segmentation" if masked else "Main") or files.lists.get("Main") or {}
    stems, origin, used = _splits(root, files, lists, settings)
    splits, left_out = {}, []
    for part, names in stems.items():
        here = [name for name in names if name in files.images]
        known = [name for name in here if name in (files.masks if masked else files.boxes)] or here
        splits[part] = [_entry(where, root, files, name, masked) for name in known]
        used += [files.boxes[name] for name in known if name in files.boxes]
        for count, text in ((len(names) - len(here), "are not there"), (len(here) - len(known), "have no annotation")):
            left_out += [f"{count} images of {part} {text}"] if count else []
    listed = {name for names in stems.values() for name in names}
    alone = sum(name not in listed for name in files.images)
    left_out += [f"{alone} images in no split"] if alone else []
    if files.masks and not masked:
        left_out.append(f"{len(files.masks)} masks; --set data.mask={MASKS} takes the images that have one")
    if not any(splits.values()):
        raise UserError(f"{where}: none of the images that its lists name is there")
    columns = {"label": "name", "boxes": "bndbox"} if files.boxes else {}
    columns |= {"mask": MASKS} if masked else {}
    return Found(one_label(splits), origin, tuple(used), columns, left_out=tuple(left_out))


def _files(where: str, root: Path) -> Files:
    images, others = walk(root)
    bases = sorted({file.partition("JPEGImages/")[0] for file in images if "/JPEGImages/" in f"/{file}"})
    if len(bases) > 1:
        raise UserError(
            f"{where} holds several sets; give one of voc:{', voc:'.join(str(root / base) for base in bases)}"
        )
    if bases:
        images = [file for file in images if file.startswith(bases[0])]
        others = [file for file in others if file.startswith(bases[0])]
    boxes = {_stem(file): file for file in others if file.lower().endswith(".xml")}
    lists: dict[str, dict[str, str]] = defaultdict(dict)
    for file in others:
        parts = file.split("/")
        if len(parts) > 2 and parts[-3] == "ImageSets" and file.endswith(".txt"):
            lists[parts[-2]][_stem(file)] = file
    masks = {_stem(file): file for file in images if MASKS in file.split("/")[:-1]}
    photos = [file for file in images if not _NO_IMAGES.intersection(file.lower().split("/")[:-1])]
    by_stem = {_stem(file): file for file in photos}
    if len(by_stem) < len(photos):
        twice = next(file for file in photos if by_stem[_stem(file)] != file)
        raise UserError(
            f"{where}: {printable(twice)} and {printable(by_stem[_stem(twice)])} have one name; VOC tells by it"
        )
    boxes = {name: file for name, file in boxes.items() if name in by_stem}
    if not by_stem or not (boxes or masks):
        text = f"{where} has {len(by_stem)} images and no XML file or mask of their names"
        raise UserError(f"{text}; folder:{root} reads images alone")
    return Files(by_stem, boxes, masks, lists)


def _splits(
    root: Path, files: Files, lists: dict[str, str], settings: DataSettings
) -> tuple[dict[str, list[str]], str, list[str]]:
    """Stems of each split by the lists, or by folders; where they came from, and the lists in use."""
    roles = asked(settings, lists) if lists else {}
    roles = roles or {name: role(name) for name in lists if role(name)}
    if "train" not in roles.values() and "trainval" in lists and not settings.splits:
        roles["trainval"] = "train"
    if not roles:
        places, origin = layout.parts([*files.images.values()], settings)
        by_part = {part: [_stem(f) for f in places if places[f].split == part] for part in layout.PARTS}
        return {part: names for part, names in by_part.items() if names}, origin, []
    stems: dict[str, dict[str, None]] = defaultdict(dict)
    for name, part in roles.items():
        lines = (root / lists[name]).read_text("utf-8", "replace").splitlines()
        stems[part] |= dict.fromkeys(line.split()[0] for line in lines if line.strip())
    used = [lists[name] for name in roles]
    return {part: [*names] for part, names in stems.items()}, f"lists {few(used)}", used


def _entry(where: str, root: Path, files: Files, name: str, masked: bool) -> Entry:
    mask = files.masks.get(name) if masked else None
    if name not in files.boxes:
        return Entry(files.images[name], None, mask)
    boxes = _boxes(f"{where}: {printable(files.boxes[name])}", root / files.boxes[name])
    return Entry(files.images[name], tuple(sorted({str(box.label) for box in boxes})), mask, boxes)


def _boxes(name: str, file: Path) -> tuple[Box, ...]:
    try:
        content = file.read_bytes()
        if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            raise UserError(f"{name} declares a document type or entities, which are not read; VOC has none")
        objects = ElementTree.fromstring(content).findall("object")
    except (ElementTree.ParseError, OSError, ValueError) as error:
        raise UserError(f"{name} can't be read: {one_line(error)}") from None
    found = []
    for each in objects:
        label, box = (each.findtext("name") or "").strip(), each.find("bndbox")
        try:
            corners = (
                [float(box.findtext(key) or "") for key in ("xmin", "ymin", "xmax", "ymax")] if box is not None else []
            )
        except ValueError:
            corners = []
        if not label or not corners:
            raise UserError(f"{name}: an object has no name, or no bndbox of xmin, ymin, xmax, ymax")
        x0, y0, x1, y1 = corners
        found.append(Box(x0, y0, x1, y1, label))
    return tuple(found)


def _stem(file: str) -> str:
    return file.rpartition("/")[2].rpartition(".")[0]
