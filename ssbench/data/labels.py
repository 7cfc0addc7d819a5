"""Labels as they lie (names, numbers, several of them, none) -> classes and their numbers. No torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ssbench.data.listing import Label

Labels = Label | Sequence[Label] | None


@dataclass(frozen=True)
class Classes:
    """What the labels of a data set are: one an image, several, or none."""

    names: tuple[str, ...] = ()
    several: bool = False
    numbers: Mapping[Label, int] | None = None  # a label's class

    def of(self, label: Labels) -> tuple[int, ...]:
        """The classes of an image; none where it has no label."""
        if label is None or self.numbers is None:
            return ()
        return tuple(sorted({self.numbers[one] for one in (label if _is_list(label) else (label,))}))


def classes(labels: Iterable[Labels], names: Mapping[Label, str] | None = None) -> Classes:
    """The classes that occur, in the order of their numbers, else of their names.

    `names` are of labels that are numbers. Lists of which each has one label are one label an image.
    """
    found, several, listed = set[Label](), False, False
    for label in labels:
        each = label if _is_list(label) else () if label is None else (label,)
        found.update(each)
        listed |= _is_list(label)
        several |= len({*each}) > 1 or (_is_list(label) and not each)
    if not found:
        return Classes()
    order = sorted(found, key=in_order)
    called = [str((names or {}).get(one, one)) for one in order]
    return Classes(tuple(called), listed and several, {label: number for number, label in enumerate(order)})


def in_order(label: Label) -> tuple[bool, Label]:
    """Numbers by size, then names."""
    return isinstance(label, str), label


def _is_list(label: Labels) -> bool:
    return isinstance(label, Sequence) and not isinstance(label, str)
