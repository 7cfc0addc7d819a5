"""What splits are called: folders, files and columns of other people's data. No torch."""

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
