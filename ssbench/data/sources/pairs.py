"""Masks beside images: images/ and masks/, at the top or in each split or around the splits, or 1.png and 1_mask.png.

Two folders belong together where their paths are the same but for the words that say image or mask, and two files
where their stems are. No torch.
"""

import re
from collections import Counter, defaultdict
from functools import cache
from itertools import product
from os.path import commonprefix
from typing import NamedTuple

from ssbench.data.sources.files import few
from ssbench.data.sources.names import words
from ssbench.data.suspicion import suspect
from ssbench.spec import DataSettings

IMAGES = {"image", "images", "img", "imgs"}
MASKS = {
    *("mask", "masks", "label", "labels", "annotation", "annotations", "annot", "annots", "gt", "gts", "seg", "segs"),
    *("segmentation", "segmentations", "segmentationclass", "groundtruth", "truth", "trimap", "trimaps"),
}
CERTAIN = {"masks", "annotations", "segmentation", "segmentations", "truth", "groundtruth", "trimaps"}  # hardly classes
_SILENT = {"jpeg", "jpg", "png", "class", "raw", "binary", "ground"}
_SAYS = "mask|masks|label|labels|annotation|segmentation|seg|gt|groundtruth|l"  # 1_L.png: CamVid
_AFTER = re.compile(rf"(.+?)[ _.-]+(?:{_SAYS})(?:[ _.-]*(\d+))?", re.IGNORECASE)
_BEFORE = re.compile(rf"(?:{_SAYS})[ _.-]+(.+)", re.IGNORECASE)


class Pairs(NamedTuple):
    """Which image has which mask, and all files that are masks, those without an image too."""

    masks: dict[str, str]
    files: set[str]


def find(where: str, images: list[str], settings: DataSettings) -> Pairs:
    """The masks among image files below one root.

    Raises UserError where two folders must be images and masks and don't match, and where two offer a mask.
    """
    pairs = _beside(images)
    places: dict[str, list[str]] = defaultdict(list)
    for file in images:
        if file not in pairs.files:
            places[file.rpartition("/")[0]].append(file)
    by_skeleton = defaultdict(list)
    chosen = settings.mask if any(settings.mask in place.split("/") for place in places) else ""
    for place in places:
        if not _is_mask(place, chosen):
            by_skeleton[_skeleton(place, "")].append(place)
    for place, files in places.items():
        if not _is_mask(place, chosen):
            continue
        partners = by_skeleton.get(_skeleton(place, chosen), [])
        if chosen and not partners:  # the user's word: any image of that name
            partners = [each for each in places if not _is_mask(each, chosen)]
        if partners:
            _match(where, place, files, {each: places[each] for each in partners}, pairs, settings)
    return pairs


def maps(images: list[str], files: list[str], chosen: str) -> dict[str, str]:
    """The file of each image's name, below a folder `chosen` beside or in place of one of the image's folders.

    A file that would be of several images is of none.
    """
    by_place = {(*file.split("/")[:-1], _stem(file)): file for file in files}
    found: dict[str, str] = {}
    for image in images:
        *parts, _ = image.split("/")
        for skip, at in product((0, 1), range(len(parts) + 1)):
            if file := by_place.get((*parts[:at], chosen, *parts[at + skip :], _stem(image))):
                found.setdefault(image, file)
    uses = Counter(found.values())
    return {image: file for image, file in found.items() if uses[file] == 1}


def _match(
    where: str, place: str, files: list[str], partners: dict[str, list[str]], pairs: Pairs, settings: DataSettings
) -> None:
    """Add what a folder of masks says of the images in `partners`, where half of either match."""
    images = [file for inside in partners.values() for file in inside]
    exact, loose, short = defaultdict(list), defaultdict(list), defaultdict(list)
    end, mask_end = _common_end(images), _common_end(files)
    for file in images:
        exact[_stem(file)].append(file)
        loose[core(file)].append(file)
        short[_stem(file).removesuffix(end)].append(file)
    found: dict[str, str] = {}
    for mask in files:
        near = [loose[core(mask)], short[_stem(mask).removesuffix(mask_end)]]
        for image in exact.get(_stem(mask)) or next((files for files in near if len(files) == 1), ()):
            found.setdefault(image, mask)
    if 2 * len(found) < min(len(files), len(images)):
        named = [each for each in partners if _is_images(each)]
        if named:
            text = (
                f"{where}: {few(named)} and {place} look like images and masks, but {len(found)} of {len(files)} masks"
            )
            suspect(settings, "pairs", f"{text} have the name of an image; name them alike, or give one folder")
        return
    twice = next((image for image in found if image in pairs.masks), "")
    if twice:
        text = f"{where}: {twice} has two masks, {pairs.masks[twice]} and {found[twice]}"
        suspect(settings, "masks", f"{text}; name the folder with --set data.mask={place.rpartition('/')[2]}")
    pairs.masks.update((image, mask) for image, mask in found.items() if image not in pairs.masks)
    pairs.files.update(files)


def _beside(images: list[str]) -> Pairs:
    """Pairs within one folder: 1.png with 1_mask.png, mask_1.png; 1_mask_2.png is a further mask of it."""
    by_stem = {file.rpartition(".")[0]: file for file in images}
    masks: dict[str, str] = {}
    files = set()
    for file in images:
        folder, slash, name = file.rpartition("/")
        after, before = _AFTER.fullmatch(_stem(name)), _BEFORE.fullmatch(_stem(name))
        stems = [after[1]] if after else [before[1], f"image_{before[1]}", f"img_{before[1]}"] if before else []
        image = next((by_stem[key] for stem in stems if (key := folder + slash + stem) in by_stem), "")
        if image:
            files.add(file)
            if after and after[2]:
                continue
            masks.setdefault(image, file)
    return Pairs(masks, files)


def is_container(name: str) -> bool:
    """Whether a folder's name says only that images are in it."""
    said = [word for word in words(name) if word not in _SILENT]
    return bool(said) and all(word in IMAGES for word in said)


def _is_images(place: str) -> bool:
    return any(is_container(part) for part in place.split("/"))


def _is_mask(place: str, chosen: str) -> bool:
    """By the deepest folder that says image or mask: Kvasir-SEG/images holds images."""
    parts = place.split("/")
    if chosen:
        return chosen in parts
    says = [MASKS.intersection(_words(part)) for part in parts if (IMAGES | MASKS).intersection(_words(part))]
    return bool(says and says[-1])


def _skeleton(place: str, chosen: str) -> tuple[str, ...]:
    """The path of a folder without the words that say image or mask: images/train and train/masks are both train."""
    parts = []
    for part in place.split("/"):
        said = set(_words(part))
        if part == chosen:
            continue
        if said & (IMAGES | MASKS):
            part = " ".join(word for word in _words(part) if word not in IMAGES | MASKS | _SILENT)
        parts.append(part.lower())
    return tuple(part for part in parts if part)


@cache
def _words(part: str) -> tuple[str, ...]:
    return tuple(words(part))


def _stem(file: str) -> str:
    name = file.rpartition("/")[2]
    return name.rpartition(".")[0] or name


def core(file: str) -> tuple[str, ...]:
    """The words of a file's name that say neither image nor mask."""
    return tuple(word for word in words(_stem(file)) if word not in IMAGES | MASKS)


def _common_end(files: list[str]) -> str:
    """What all names end in, from a mark on: `_L` or `_manual1`, nothing for a single file."""
    ends = commonprefix([_stem(file)[::-1] for file in files])[::-1] if len(files) > 1 else ""  # noqa: RUF071
    found = re.search(r"[ _.-].*", ends)
    return found[0] if found else ""
