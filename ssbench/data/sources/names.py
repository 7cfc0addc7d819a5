"""What things are called in other people's data: splits, and the columns of tables, best first. No torch."""

import re
from collections.abc import Iterable

from ssbench.errors import UserError, near
from ssbench.spec import DataSettings

ROLES = {
    "train": ("train", "training", "trn", "trainset"),
    "val": ("val", "valid", "validation", "dev", "valset"),
    "test": ("test", "testing", "tst", "eval", "evaluation", "testset"),
}
_ROLE = {word: role for role, words in ROLES.items() for word in words}
_PLAIN = {"set", "data", "dataset", "split", "image", "images", "img", "imgs", "folder"}  # say nothing beside a role

IMAGE = (
    *("image", "img", "pixel_values", "photo", "picture", "images", "jpg", "jpeg", "png", "webp", "tif", "tiff"),
    *("file_name", "filename", "image_path", "img_path", "image_file", "path", "file", "file_path", "filepath"),
    *("filepaths", "image_name", "image_filename", "image_bytes", "image_data", "bytes", "content", "data"),
    *("image_id", "img_id", "file_id", "id", "id_code", "name", "image_index"),
)
MASK = (
    *("mask", "masks", "mask_path", "mask_file", "mask_file_name", "mask_filename"),
    *("segmentation", "segmentation_mask", "segmentation_path"),
)
LABEL = (
    *("label", "labels", "class", "classes", "category", "categories", "target", "targets", "species", "breed"),
    *("diagnosis", "tags", "tag", "class_name", "label_name", "category_name", "class_label", "class_id", "label_id"),
    *("category_id", "finding_labels"),  # the last of NIH's ChestX-ray14
)
SPLIT = ("split", "set", "subset", "partition", "phase", "usage", "data_set", "fold")
GROUPS = {
    "patient",
    "subject",
    "participant",
    "video",
    "site",
    "slide",
    "person",
    "identity",
    "specimen",
    "plant",
    "scene",
}


def words(name: str) -> list[str]:
    """The words of a name in small letters: `testA_images2017` has test, a, images, 2017."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+", name)]


def role(name: str) -> str:
    """train, val or test where that is all that a name says (`Training`, `test_set`, `train2017`), else nothing."""
    said = [word for word in words(name) if word not in _PLAIN and not re.fullmatch(r"(19|20)\d\d", word)]
    return _ROLE.get(said[0], "") if len(said) == 1 else ""


def hint(name: str) -> str:
    """The one split that a name speaks of among others: test for `seg_test` and `testA`, none for `train_test`."""
    said = {_ROLE[word] for word in words(name) if word in _ROLE}
    return said.pop() if len(said) == 1 else ""


def asked(settings: DataSettings, there: Iterable[str]) -> dict[str, str]:
    """The roles that `data.splits` gives to names: {"2019": "train"} for `train=2019`; empty where it says nothing.

    Raises UserError on what is no role, and on a name that is not `there`.
    """
    roles, there = {}, list(there)
    for text in settings.splits:
        part, _, name = text.partition("=")
        if part not in ROLES or not name:
            raise UserError(f"data.splits={text}: say which split is what, such as train=2019,test=2020")
        if name not in there:
            raise UserError(f"data.splits={text}: there is no {name!r}{near(name, there)}")
        roles[name] = part
    return roles


def groups(columns: Iterable[str]) -> str:
    """What is said of columns that may tell whose image it is, such as a patient's; nothing where there is none."""
    found = [name for name in columns if GROUPS & {*words(name)}]
    return f" (with --set data.group={found[0]} no {found[0]} is on two sides)" if found else ""


def plain(column: str) -> str:
    """A column's name as the lists here have it: `File Name` is file_name."""
    return "_".join(words(column))


def natural(names: Iterable[str], columns: Iterable[str]) -> list[str]:
    """The columns that are called so, in the order of `names`."""
    by_name: dict[str, str] = {}
    for column in columns:
        by_name.setdefault(plain(column), column)
    return [by_name[key] for name in names if (key := plain(name)) in by_name]
