"""Labels as they lie (names, numbers, several of them, none) -> classes and their numbers. No torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ssbench.data.listing import Label
from ssbench.data.suspicion import suspect
from ssbench.spec import DataSettings

Labels = Label | Sequence[Label] | None


@dataclass(frozen=True)
class Classes:
    """What the labels of a data set are: one an image, several, or none."""

    names: tuple[str, ...] = ()
    several: bool = False
    numbers: Mapping[Label, int] | None = None  # a label's class

    def of(self, label: Labels) -> tuple[int, ...]:
        """The classes of an image; none where it has no label."""
        numbers = self.numbers or {}
        return tuple(sorted({numbers[one] for one in _each(label)}))


def classes(labels: Iterable[Labels], names: Mapping[Label, str] | None = None) -> Classes:
    """The classes that occur, in the order of their numbers, else of their names.

    `names` are of labels that are numbers. Lists of which each has one label are one label an image.
    """
    found, several = set[Label](), False
    for label in labels:
        each, is_list = _each(label), not (label is None or isinstance(label, str | int | float))
        found.update(each)
        several |= is_list and len({*each}) != 1
    if not found:
        return Classes()
    order = sorted(found, key=in_order)
    called = [str((names or {}).get(one, one)) for one in order]
    return Classes(tuple(called), several, {label: number for number, label in enumerate(order)})


def doubt(where: str, found: Classes, settings: DataSettings) -> None:
    """Raises UserError on two classes whose names, of more than two letters, differ in case or spaces alone."""
    first: dict[str, str] = {}
    for name in found.names:
        same = first.setdefault(" ".join(name.split()).casefold(), name)
        if same != name and len(name) > 2:
            text = f"{where}: the classes {same!r} and {name!r} differ in case or spaces alone: write them alike"
            suspect(settings, "alike-classes", text)


def in_order(label: Label) -> tuple[bool, Label]:
    """Numbers by size, then names."""
    return isinstance(label, str), label


def _each(label: Labels) -> tuple[Label, ...]:
    if label is None:
        return ()
    return (label,) if isinstance(label, str | int | float) else tuple(label)
