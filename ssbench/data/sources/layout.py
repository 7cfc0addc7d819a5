"""What folders say of the images in them: their split and their class. No torch."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ssbench.data.listing import Label
from ssbench.data.sources.files import few, printable
from ssbench.data.sources.names import asked, hint, role, words
from ssbench.data.sources.pairs import CERTAIN, MASKS, core, is_container
from ssbench.data.suspicion import suspect
from ssbench.spec import DataSettings

PARTS = ("train", "val", "test")


class Place(NamedTuple):
    """What an image's path says of it."""

    split: str  # train, val or test
    label: Label | tuple[Label, ...] | None


@dataclass
class Folder:
    """A folder with images in it, at some depth."""

    folders: dict[str, "Folder"] = field(default_factory=dict)
    loose: list[str] = field(default_factory=list)  # whole paths below the root

    def each(self) -> Iterator[str]:
        """The images at any depth."""
        yield from self.loose
        for folder in self.folders.values():
            yield from folder.each()


def tree(images: list[str]) -> Folder:
    """The folders of some paths."""
    root = Folder()
    for path in images:
        at = root
        for part in path.split("/")[:-1]:
            at = at.folders.setdefault(part, Folder())
        at.loose.append(path)
    return root


def understand(where: str, images: list[str], settings: DataSettings) -> tuple[dict[str, Place], str, list[str]]:
    """The place of each image, where the splits came from, and what was left out.

    Raises UserError on folders that can be read in two ways, saying both.
    """
    top = _unwrap(tree(images), {text.partition("=")[2] for text in settings.splits})
    if settings.splits:
        return _asked(where, top, settings)
    named = sorted((name for name in top.folders if role(name)), key=lambda name: PARTS.index(role(name)))
    rest = [name for name in top.folders if not role(name)]
    if named and not rest:
        return _splits(where, top, {name: role(name) for name in named}, settings), f"folders {_and(named)}", []
    if named and any(_unwrap(top.folders[name]).folders for name in named):
        text = f"{where}: {_and(named)} hold class folders and are read as splits; {few(rest)} would not be used"
        how = ",".join(f"{role(name)}={name}" for name in named)
        suspect(settings, "unused-folders", f"{text}; say which split is what, such as --set data.splits={how}")
        unused = sum(1 for name in rest for _ in top.folders[name].each())
        left_out = [f"{unused} images in the folders {few(rest)}, beside the splits"]
        return _splits(where, top, {name: role(name) for name in named}, settings), f"folders {_and(named)}", left_out
    _doubt_classes(where, top, settings)
    below = {part for folder in top.folders.values() for part in folder.folders}
    if below and all(role(part) for part in below) and all(_only_splits(folder) for folder in top.folders.values()):
        places = {
            path: Place(role(part), printable(name))
            for name, folder in top.folders.items()
            for part, split in folder.folders.items()
            for path in split.each()
        }
        places |= {path: Place("train", None) for path in top.loose}
        return places, f"folders {_and(sorted(below))} in each class", []
    _doubt_depth(where, top, settings)
    return _classes(top, "train"), "no splits: the whole folder", []


def parts(images: list[str], settings: DataSettings) -> tuple[dict[str, Place], str]:
    """Splits alone, by any folder on an image's path, and where they came from: a table has the labels."""
    folders = {part for path in images for part in path.split("/")[:-1]}
    roles = asked(settings, folders) or {name: role(name) for name in folders if role(name)}
    places, used = {}, set()
    for path in images:
        named = [part for part in path.split("/")[:-1] if part in roles]
        if named or not settings.splits:
            places[path] = Place(roles[named[-1]] if named else "train", None)
        used.update(named[-1:])
    names = sorted(used, key=lambda name: (PARTS.index(roles[name]), name))
    return places, f"folders {_and(names)}" if names else "no splits: the whole folder"


def has_classes(images: list[str]) -> bool:
    """Whether folders tell images apart otherwise than by splits."""
    classes = {tuple(p for p in path.split("/")[:-1] if not role(p) and not is_container(p)) for path in images}
    return len(classes) > 1


def _unwrap(folder: Folder, keep: Collection[str] = (), within: str = "") -> Folder:
    """The first folder below with something to tell apart: archive/images/ says nothing, a single class does.

    `keep` names folders that say something; `within` is the split that the folder is in, which may hold its own name.
    """
    above, split = within, bool(within)
    while len(folder.folders) == 1 and not folder.loose:
        name, only = next(iter(folder.folders.items()))
        again = name == above or (role(name) and role(name) == role(above))
        wraps = only.folders and not only.loose and not role(name) and name not in keep
        if not (is_container(name) or again or (wraps and not split)):
            break
        folder, above = only, name
    return folder


def _asked(where: str, top: Folder, settings: DataSettings) -> tuple[dict[str, Place], str, list[str]]:
    """As `data.splits` says, of folders at the top or in each class."""
    inside = {part for folder in top.folders.values() for part in folder.folders}
    wanted = {text.partition("=")[2] for text in settings.splits}
    if wanted & inside and not wanted & {*top.folders}:
        roles = asked(settings, inside)
        places = {
            path: Place(roles[part], printable(name))
            for name, folder in top.folders.items()
            for part, split in folder.folders.items()
            if part in roles
            for path in split.each()
        }
    else:
        roles = asked(settings, top.folders)
        places = _splits(where, top, roles, settings)
    unused = sum(1 for path in top.each() if path not in places)
    left_out = [f"{unused} images outside the folders of data.splits"] if unused else []
    return places, f"data.splits: {', '.join(settings.splits)}", left_out


def _splits(where: str, top: Folder, roles: dict[str, str], settings: DataSettings) -> dict[str, Place]:
    """Images of split folders; loose ones beside them are of no split's class, and of train."""
    places = {path: Place("train", None) for path in top.loose}
    for name, part in roles.items():
        folder = _unwrap(top.folders[name], within=name)
        _doubt_containers(f"{where}/{name}", [*folder.folders], settings)
        places |= _classes(folder, part)
    return places


def _classes(folder: Folder, split: str) -> dict[str, Place]:
    places = {path: Place(split, None) for path in folder.loose}
    for name, inside in folder.folders.items():
        places |= dict.fromkeys(inside.each(), Place(split, printable(name)))
    return places


def _only_splits(folder: Folder) -> bool:
    """Whether a class's images lie in train/, val/, test/ in it and no deeper."""
    inside = folder.folders.items()
    return not folder.loose and all(role(name) and not split.folders for name, split in inside)


def _doubt_classes(where: str, top: Folder, settings: DataSettings) -> None:
    """Folders that would be classes but whose names speak of splits, or of images and masks."""
    names = [*top.folders]
    speak = [name for name in names if hint(name)]
    if len({hint(name) for name in speak}) > 1 or (len(names) == 2 and any(role(name) for name in names)):
        text = f"{where}: the folders {few(names)} would be classes, but {_and(speak)} sound like splits"
        how = ",".join(f"{hint(name)}={name}" for name in speak)
        suspect(settings, "split-classes", f"{text}; say which split is what, such as --set data.splits={how}")
    _doubt_containers(where, names, settings)
    for name, folder in top.folders.items():
        again = [each for each in folder.folders if each in names]
        if again:
            text = f"{where}: the folders {few(names)} would be classes, but {name} holds {_and(again)} again"
            suspect(settings, "nested-classes", f"{text}; give {where}/{name}, or move one away")
    cores = {name: {core(file) for file in folder.each()} for name, folder in top.folders.items()}
    for name in (name for name in names if MASKS.intersection(words(name))):
        worded = any(word.isalpha() for stem in cores[name] for word in stem)  # 1.png, 2.png are in any class
        others = [each for each in names if cores[each] == cores[name] and not MASKS.intersection(words(each))]
        if others and (worded or CERTAIN.intersection(words(name))):
            text = f"{where}: the folders {few(names)} would be classes, but {name} has the file names of {others[0]}"
            suspect(settings, "pairs", f"{text}; where it has the masks: --set data.mask={name}")


def _doubt_containers(where: str, names: list[str], settings: DataSettings) -> None:
    bare = [name for name in names if is_container(name) or (words(name) and MASKS.issuperset(words(name)))]
    if any(is_container(name) for name in bare) and len(names) > 1:
        text = f"{where}: the folders {few(names)} would be classes, but {_and(bare)} sound like images and masks"
        how = "give the folder of images alone, or name that of masks, --set data.mask=FOLDER (of depth: data.depth)"
        suspect(settings, "pairs", f"{text}; {how}")


def _doubt_depth(where: str, top: Folder, settings: DataSettings) -> None:
    """Splits below what would be classes, in some of them or beside other folders; the same classes below each."""
    for name, folder in top.folders.items():
        parts = [part for part in folder.folders if role(part)]
        if len({role(part) for part in parts}) > 1 or (parts and len(parts) == len(folder.folders)):
            text = f"{where}: the folders {few(top.folders)} would be classes, but {name} holds {_and(parts)}"
            suspect(settings, "splits-inside", f"{text}, which are not read as splits; give one: {where}/{name}")
            return
    inside = [{*_unwrap(folder, within=name).folders} for name, folder in top.folders.items()]
    shared = sorted(set.intersection(*inside)) if inside else []
    if len(inside) > 1 and len(shared) > 1:  # years, folds, domains
        text = f"{where}: the folders {few(top.folders)} would be classes, but each holds {few(shared)}"
        first, last = min(top.folders), max(top.folders)
        how = (
            f"give one folder, {where}/{first}, or say which split is what: --set data.splits=train={first},test={last}"
        )
        suspect(settings, "shared-classes", f"{text}; where those are the classes, {how}")


def _and(names: list[str]) -> str:
    names = [printable(name) for name in names]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
