"""`coco:PATH`: images with COCO's annotations, one JSON file a split: boxes, masks and the categories in an image."""

import json
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ssbench.data.listing import Box, Listing
from ssbench.data.sources.files import Entry, Found, few, identity, listing, one_label, printable, root_of, walk
from ssbench.data.sources.names import asked, hint, role
from ssbench.data.sources.sheets import Resolver
from ssbench.errors import UserError, one_line
from ssbench.spec import DataSettings

if TYPE_CHECKING:
    from numpy import bool_
    from numpy.typing import NDArray
    from PIL import Image


class Annotations(NamedTuple):
    """The content of a file: images, their annotations, and the names of categories by id."""

    file: str  # below the root
    images: list[dict[str, Any]]
    of_image: dict[Any, list[dict[str, Any]]]
    categories: dict[int, str]


def identify(argument: str, settings: DataSettings) -> tuple[str, str]:
    """The name of the folder and the fingerprint of annotations and images; raises UserError as `read` does."""
    root, found = _understand(argument, settings)
    return identity(root, found)


def read(argument: str, settings: DataSettings) -> Listing:
    """Images in the order of their paths. Crowds are in masks but no boxes; a later annotation hides an earlier one.

    The value of a mask's pixel is its category's place in the order of ids, from 1; 0 is background.
    Raises UserError naming the file that is missing, broken or no COCO annotation.
    """
    root, found = _understand(argument, settings)
    return listing(f"coco:{argument}", root, found)


def _understand(argument: str, settings: DataSettings) -> tuple[Path, Found]:
    where, path = f"coco:{argument}", Path(argument).expanduser()
    others: list[str] = []
    if path.suffix.lower() == ".json" and path.is_file():
        path = path.resolve()
        root = path.parent if walk(path.parent)[0] else path.parent.parent
        names = [path.relative_to(root).as_posix()]
    else:
        root = root_of("coco", argument)
        names, others = _files(where, root)
    content = [_load(where, root, name) for name in names]
    images = walk(root)[0]
    roles = _roles(content, settings)
    ids = sorted({key for each in content for key in each.categories})
    values = {key: at for at, key in enumerate(ids, 1)}
    splits: dict[str, list[Entry]] = defaultdict(list)
    left_out = [f"other annotations: {few(others)}"] if others else []
    owner: dict[str, str] = {}
    for each in content:
        if each.file not in roles:
            left_out.append(f"{printable(each.file)}, which data.splits does not name")
            continue
        entries, missing = _entries(where, each, Resolver(f"{roles[each.file]}.json", images), values)
        twice = next((entry.file for entry in entries if entry.file in owner), "")
        if twice:
            text = f"{where}: {owner[twice]} and {each.file} both have {printable(twice)}"
            raise UserError(f"{text}; give one of them, coco:{root / each.file}")
        owner |= {entry.file: each.file for entry in entries}
        splits[roles[each.file]] += entries
        left_out += [f"{missing} images of {printable(each.file)} that are not there"] if missing else []
    alone = sum(file not in owner for file in images)
    left_out += [f"{alone} images without an entry"] if alone else []
    columns = {"label": "categories", "boxes": "bbox"}
    columns |= {"mask": "segmentation"} if any(e.mask for entries in splits.values() for e in entries) else {}
    origin = f"files {few(roles)}" if len(roles) > 1 else f"no splits: {few(roles)}"
    return root, Found(one_label(splits), origin, tuple(roles), columns, left_out=tuple(left_out))


def _files(where: str, root: Path) -> tuple[list[str], list[str]]:
    """The files of annotations at most two folders deep, and those of other kinds (captions, key points)."""
    found = [file for file in walk(root)[1] if file.lower().endswith(".json") and file.count("/") <= 2]
    for test in (lambda name: name.startswith("instances"), lambda name: name.endswith("annotations.coco.json")):
        chosen = [file for file in found if test(file.rpartition("/")[2].lower())]
        if chosen:
            return chosen, [file for file in found if file not in chosen]
    chosen = [file for file in found if _is_coco(root / file)]
    if not chosen:
        text = f"{where} has no JSON file of COCO's annotations (images, annotations, categories)"
        raise UserError(f"{text}; it has {few(found) or 'no JSON file'}; folder:{root} reads images alone")
    return chosen, [file for file in found if file not in chosen]


def _is_coco(file: Path) -> bool:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, OSError):
        return False
    return isinstance(content, dict) and {"images", "annotations"} <= content.keys() and _has_categories(content)


def _has_categories(content: dict[str, Any]) -> bool:
    first = next(iter(content["annotations"]), {"category_id": 0})
    return isinstance(first, dict) and "category_id" in first


def _load(where: str, root: Path, file: str) -> Annotations:
    name = f"{where}: {printable(file)}"
    try:
        content = json.loads((root / file).read_bytes())
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{name} can't be read: {one_line(error)}") from None
    try:
        of_image = defaultdict(list)
        for each in content["annotations"]:
            of_image[each["image_id"]].append(each)
        categories = {each["id"]: str(each["name"]) for each in content["categories"]}
        images = [{"id": each["id"], "file_name": each["file_name"], **each} for each in content["images"]]
    except KeyError as error:
        raise UserError(f"{name} has no {error}, which COCO's annotations have") from None
    except (TypeError, AttributeError):
        raise UserError(f"{name} is not in the form of COCO's annotations") from None
    return Annotations(file, images, of_image, categories)


def _roles(content: list[Annotations], settings: DataSettings) -> dict[str, str]:
    """The split of each file: as the user says of its name or its folder's, or as either sounds."""
    own = {each.file: each.file.rpartition("/")[2].rpartition(".")[0] for each in content}
    above = {each.file: each.file.rpartition("/")[0].rpartition("/")[2] for each in content}
    if settings.splits:
        named = asked(settings, {*own.values(), *above.values()} - {""})
        return {f: part for f in own if (part := named.get(own[f]) or named.get(above[f]))}
    return {file: hint(own[file]) or role(above[file]) or "train" for file in own}


def _entries(where: str, content: Annotations, files: Resolver, values: dict[int, int]) -> tuple[list[Entry], int]:
    """The images that are there, and how many are not."""
    drawn = any(each.get("segmentation") for many in content.of_image.values() for each in many)
    entries, missing = [], 0
    for image in content.images:
        file = files.path(image["file_name"])
        if not file:
            missing += 1
            continue
        found = content.of_image.get(image["id"], [])
        name = f"{where}: {printable(content.file)}, image {image['file_name']}"
        try:
            boxes = tuple(_box(each, content.categories) for each in found if _boxed(each))
            labels = tuple(sorted({content.categories[each["category_id"]] for each in found}))
            shapes = [(values[each["category_id"]], each.get("segmentation")) for each in found]
            size = (int(image["width"]), int(image["height"])) if drawn else (0, 0)
        except KeyError as error:
            raise UserError(f"{name}: there is no {error} in its entry or among the categories") from None
        except (TypeError, ValueError):
            raise UserError(f"{name}: its box is not four numbers, or its size is none") from None
        entries.append(Entry(file, labels, partial(draw, size, shapes) if drawn else None, boxes))
    if not entries:
        raise UserError(f"{where}: none of the {missing} images of {printable(content.file)} is there")
    return entries, missing


def _boxed(annotation: dict[str, Any]) -> bool:
    return bool(annotation.get("bbox")) and not annotation.get("iscrowd")


def _box(annotation: dict[str, Any], categories: dict[int, str]) -> Box:
    x, y, width, height = (float(number) for number in annotation["bbox"])
    return Box(x, y, x + width, y + height, categories[annotation["category_id"]])


def draw(size: tuple[int, int], shapes: Sequence[tuple[int, Any]]) -> "Image.Image":
    """A mask of (width, height) px from values and their polygons or run lengths, later ones over earlier ones.

    Raises ValueError on runs that don't fill the size.
    """
    from PIL import Image

    wide = max((value for value, _ in shapes), default=0) > 255
    mask = Image.new("I" if wide else "L", size)
    for value, shape in shapes:
        if isinstance(shape, dict):
            mask.paste(value, mask=Image.fromarray(runs(shape, size)))
            continue
        for polygon in shape or ():
            if len(polygon) >= 6:
                inside, corner = _inside(polygon, size)
                mask.paste(value, corner, inside)
    return mask


def _inside(polygon: Sequence[float], size: tuple[int, int]) -> "tuple[Image.Image, tuple[int, int]]":
    """The pixels whose centre is in a polygon, as a piece of the image, and the piece's upper left corner.

    Drawn five times as large, for Pillow draws outlines a pixel wide: of small shapes, 2 % and not 10 differ from what
    pycocotools draws.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    points = np.asarray(polygon[: len(polygon) // 2 * 2], np.float64).reshape(-1, 2)  # (P, 2)
    low = np.clip(np.floor(points.min(0)), 0, size).astype(int)
    high = np.clip(np.ceil(points.max(0)), low + 1, np.maximum(size, low + 1)).astype(int)
    width, height = (high - low).tolist()
    large = Image.new("1", (5 * width, 5 * height))
    ImageDraw.Draw(large).polygon([tuple(point) for point in (points - low) * 5 - 0.5], fill=1)
    return Image.fromarray(np.asarray(large)[2::5, 2::5].copy()), (int(low[0]), int(low[1]))


def runs(shape: dict[str, Any], size: tuple[int, int]) -> "NDArray[bool_]":
    """COCO's run lengths, plain or compressed, as (height, width): down the columns, zeros first.

    Raises ValueError on runs that don't fill the size.
    """
    import numpy as np

    counts = shape["counts"] if isinstance(shape["counts"], list) else decompress(shape["counts"])
    height, width = shape["size"]
    if sum(counts) != height * width or (width, height) != size or min(counts) < 0:
        raise ValueError(f"its run lengths fill {sum(counts)} of {size[0]} x {size[1]} pixels")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T.copy()


def decompress(text: str | bytes) -> list[int]:
    """Run lengths from COCO's text: five bits a character from 48 on, the low ones first, bit 32 where more follow.

    From the fourth on, a number is the difference to the one before the last (cocoapi, common/maskApi.c, rleFrString).
    """
    counts: list[int] = []
    number = shift = 0
    for code in text.encode() if isinstance(text, str) else text:
        bits = code - 48
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:  # negative
            number -= 1 << shift
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number = shift = 0
    return counts
