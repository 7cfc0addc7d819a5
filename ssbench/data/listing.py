"""What a source lists before a pixel is decoded: samples as they lie, and how the source was understood. No torch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from numpy import generic
    from numpy.typing import NDArray
    from PIL import Image

Label = str | int | bool | float
Raw = "Image.Image | NDArray[generic]"  # an image file as Pillow opens it, or the bands (H, W, C) that it can't hold


class Box(NamedTuple):
    """A box in pixels of the image as it is to be seen (upright), and what is in it."""

    x0: float
    y0: float
    x1: float
    y1: float
    label: Label


class Sample(NamedTuple):
    """A sample that is not decoded yet. `open` may raise whatever broken bytes lead a decoder to."""

    key: str  # its path below the source, or its position in the split: the same wherever the source lies
    name: str  # what a message calls it
    open: "Callable[[], Image.Image | NDArray[generic]]"  # Pillow decodes pixels when they are first asked for
    label: Label | Sequence[Label] | None = None  # one, several, or none known
    mask: "Callable[[], Image.Image] | None" = None
    boxes: Sequence[Box] | None = None
    numbers: Sequence[float] = ()
    depth: "Callable[[], NDArray[generic]] | None" = None  # (H, W), as its file has it
    group: str = ""  # a patient, video or site: never on two sides of a split


class Samples(NamedTuple):
    """A split that is not decoded yet; it may be gone through more than once, always in the same order."""

    total: int
    each: Callable[[], Iterator[Sample]]


@dataclass(frozen=True)
class Listing:
    """All that a source knows before pixels are decoded."""

    where: str  # what messages call the source: `folder:PHOTOS`
    splits: Mapping[str, Samples]  # under train, val, test
    names: Mapping[Label, str] | None = None  # of labels that are numbers, such as a ClassLabel's; None: they say it
    numbers: tuple[str, ...] = ()  # what each number of a sample is
    origin: str = ""  # where the splits came from: `folders Training and Testing`
    columns: Mapping[str, str] = field(default_factory=dict)  # image, label, mask, ... -> what was taken for it
    left_out: tuple[str, ...] = ()  # what was not read, and why: `30 files of other kinds (.txt 28, .mp4 2)`
