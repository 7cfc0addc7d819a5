"""Who trains, who chooses, who judges: `fit`, `select` and `test`, by hashes of keys, by class, and by group. No torch.

Rule 2 (`VERSION`): samples stand in the order of their classes, within a class in the order of their hashes, and every
tenth place is `select`, two more are `test` where the source has none. So each class is split within one sample of its
share, the same on every machine, wherever the source lies. What has a group is placed with its group. Rule 1 (`tenth`)
took samples by their hash alone, whatever their class, with the source's name in it: drawn data keeps it.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ssbench.data.suspicion import suspect
from ssbench.errors import UserError
from ssbench.spec import DataSettings

VERSION = 2
PARTS = 10
SELECT, TEST = (0,), (2, 7)  # places of ten; never neighbours, so that of two of a class one is in fit


class Row(NamedTuple):
    """What the splits need to know of a sample."""

    key: str
    classes: tuple[int, ...] = ()
    group: str = ""
    content: str = ""  # equal ones stay on one side


@dataclass(frozen=True)
class Roles:
    """For each role the split it is of, and the positions there; and how that came about."""

    parts: Mapping[str, tuple[str, tuple[int, ...]]]
    how: str
    said: tuple[str, ...] = ()  # what a reader should know: classes too small to split, and the like


def roles(where: str, splits: Mapping[str, Sequence[Row]], names: Sequence[str], settings: DataSettings) -> Roles:
    """Roles of the samples of splits called train, val and test; raises UserError where there are too few.

    `names` are of the classes. Where some have classes, those without are left out, and so is a split without any: it
    can't be judged.
    """
    kept, said = _labelled(splits, bool(names))
    how = []
    if "train" not in kept and "val" in kept:
        kept["train"] = kept.pop("val")
        how.append("there is no train: fit is the source's val")
    if "train" not in kept:
        raise UserError(
            f"{where} has no split called train; it has {', '.join(splits) or 'none'}: say which is what, such as "
            "--set data.splits=train=NAME,test=OTHER"
        )
    if "test" not in kept and "val" in kept:
        kept["test"] = kept.pop("val")
        how.append("test is the source's val")
    split, positions = kept["train"]
    rows = [splits[split][at] for at in positions]
    held: dict[str, tuple[int, ...]] = {} if "test" in kept else {"test": TEST}
    held |= {} if "val" in kept else {"select": SELECT}
    place = places(rows) if held else []
    for role, at in held.items():
        kept[role] = split, [position for position, one in zip(positions, place) if one in at]
        how.append(f"{role} is a fixed {'fifth' if role == 'test' else 'tenth'} of train")
    taken = {position for role in held for position in kept[role][1]}
    kept["fit"] = split, [position for position in positions if position not in taken]
    parts = {"fit": kept["fit"], "select": kept.get("val") or kept["select"], "test": kept["test"]}
    found = {role: [splits[name][at] for at in positions] for role, (name, positions) in parts.items()}
    groups = {row.group for row in rows} - {""}
    if not all(found.values()):
        of = f" of {len(names)} classes" * bool(names) + f" in {len(groups)} groups" * bool(groups)
        raise UserError(f"{where} is too small to be split into fit, select and test: {len(rows)} training images{of}")
    if groups and held:
        how.append("no group is on two sides")
    equal = len(rows) - len({row.content or row.key for row in rows})
    if equal and held:
        said.append(f"{equal} images are equal to others, and stay beside them")
    _refuse_shared_groups(where, found, settings)
    said += _gaps(where, found, names, settings)
    made = {role: (name, tuple(positions)) for role, (name, positions) in parts.items()}
    return Roles(made, "; ".join(how) or "the source's own splits", tuple(said))


def places(rows: Sequence[Row]) -> list[int]:
    """The place of each sample among PARTS; that of a class's only sample, or group, is one of fit's.

    What has a group goes with it, and of images with equal contents one goes with the other.
    """
    units: dict[str, list[int]] = defaultdict(list)
    twins = Counter(row.content for row in rows if row.content)
    for at, row in enumerate(rows):
        equal = f"equal|{row.content}" if twins[row.content] > 1 else f"sample|{row.key}"
        units[f"group|{row.group}" if row.group else equal].append(at)
    common = Counter(one for row in rows for one in row.classes)
    stratum = {name: _stratum([rows[at] for at in of], common) for name, of in units.items()}
    sizes = Counter(stratum.values())
    order = sorted(units, key=lambda name: (stratum[name], _hash(name)))
    if len(order) > PARTS:  # fewer groups than that need them all
        order = [name for name in order if sizes[stratum[name]] > 1 or stratum[name] < 0]
    found = [PARTS - 1] * len(rows)
    for number, name in enumerate(order):
        for at in units[name]:
            found[at] = number % PARTS
    return found


def tenth(name: str, key: str) -> int:
    """Rule 1: which of ten fixed parts a sample is in; 0 is `select`, 1 and 2 are `test` where there is none."""
    return int(hashlib.sha256(f"{name}|{key}".encode()).hexdigest()[:8], 16) % PARTS


def _stratum(rows: Sequence[Row], common: Mapping[int, int]) -> int:
    """The class that some samples are placed by: what most are, each counted by the rarest of its own; -1 is none."""
    rarest = Counter(min(row.classes, key=lambda one: (common[one], one)) if row.classes else -1 for row in rows)
    return min(rarest, key=lambda one: (-rarest[one], one))


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _labelled(
    splits: Mapping[str, Sequence[Row]], labelled: bool
) -> tuple[dict[str, tuple[str, list[int]]], list[str]]:
    """The positions of each split that count, beside its name, and what is said of the others."""
    kept, said = {}, []
    for name, rows in splits.items():
        positions = [at for at, row in enumerate(rows) if row.classes or not labelled]
        lost = len(rows) - len(positions)
        if positions:
            kept[name] = name, positions
            said += [f"{lost} images of {name} without a label are left out"] * bool(lost)
        elif rows:
            said.append(f"{name} is left out: none of its {lost} images has a label")
    return kept, said


def _refuse_shared_groups(where: str, parts: Mapping[str, Sequence[Row]], settings: DataSettings) -> None:
    groups = {role: {row.group for row in rows} - {""} for role, rows in parts.items()}
    for one, other in (("fit", "test"), ("select", "test"), ("fit", "select")):
        shared = sorted(groups[one] & groups[other])
        if shared:
            suspect(
                settings,
                "shared-groups",
                f"{where}: {len(shared)} groups (as {shared[0]!r}) are in both {one} and {other}, by its own splits",
            )


def _gaps(where: str, parts: Mapping[str, Sequence[Row]], names: Sequence[str], settings: DataSettings) -> list[str]:
    """Classes that a part lacks; raises UserError on those that nothing in fit is of."""
    has = {role: {one for row in rows for one in row.classes} for role, rows in parts.items()}
    said = []
    for role in ("select", "test"):
        unseen, lacks = sorted(has[role] - has["fit"]), sorted(has["fit"] - has[role])
        if unseen:
            suspect(
                settings,
                "unseen-classes",
                f"{where}: {role} has images of {_listed(unseen, names)}, and fit has none",
            )
        if lacks:
            said.append(f"{role} has no image of {_listed(lacks, names)}")
    return said


def _listed(numbers: Sequence[int], names: Sequence[str]) -> str:
    """`class 'rare'`, `3 classes (a, b, c)`, `900 classes (a, b, c, ...)`."""
    if len(numbers) == 1:
        return f"class {names[numbers[0]]!r}"
    shown = ", ".join(names[one] for one in numbers[:3])
    return f"{len(numbers)} classes ({shown}{', ...' if len(numbers) > 3 else ''})"
