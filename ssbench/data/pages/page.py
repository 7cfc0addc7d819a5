"""All that is known of some data, as it is used here, with pictures: the page of `ssbench data`."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ssbench.data import Dataset, Split, identify, load
from ssbench.data.leaks import Copied, Copy, all_copies
from ssbench.data.needs import refuse_copies, refuse_targets
from ssbench.data.pages import bars, counts, pictures
from ssbench.data.pages.bars import Bars, histogram
from ssbench.data.pages.written import Page, Picture, Section
from ssbench.data.suspicion import Suspicion
from ssbench.data.understood import columns, left_out, pixels, sentence, sizes
from ssbench.errors import UserError
from ssbench.registry import Entry, entries
from ssbench.registry import load as load_entry
from ssbench.spec import DataSettings

ROLES = ("fit", "select", "test")
PAIRS = 12  # copies that are pictured

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Opened:
    """Data that could be read, and the suspicions for which it is refused elsewhere."""

    source: str
    data: Dataset
    settings: DataSettings  # under which it was read: with what is suspicious allowed
    doubts: tuple[str, ...]

    @property
    def parts(self) -> dict[str, Split]:
        return {"fit": self.data.fit, "select": self.data.select, "test": self.data.test}

    def each(self, count: Callable[[Split], Sequence[float]]) -> list[tuple[float, ...]]:
        """For each class what `count` finds in fit, select and test."""
        return [*zip(*(count(part) for part in self.parts.values()))]


def page(source: str, settings: DataSettings, tell: Tell = lambda text: None) -> Page:
    """The facts, and pictures that are drawn when they are asked for; raises UserError where data can't be read."""
    one = opened(source, settings, tell)
    tell("looking for copies")
    found = all_copies(one.parts)
    doubts = [*one.doubts, *_doubted_for(found, one)]
    sections = [_parts(one), _samples(one), *_targets(one), _images(one), _copies(one, found), *_groups(one)]
    refused = [f"ssbench run refuses it: {doubt}" for doubt in doubts]
    tasks = _tasks(one, "what ssbench run refuses the data for stands above" if doubts else "")
    return Page(one.data.ref.name, (sentence(one.data), *refused), (*sections, tasks))


def opened(source: str, settings: DataSettings, tell: Tell = lambda text: None) -> Opened:
    """The data, read in spite of suspicions; raises UserError where it can't be read at all."""
    doubts: list[str] = []
    while True:
        try:
            found = load(source, settings, identify(source, settings), tell)
            return Opened(source, found, settings, tuple(doubts))
        except Suspicion as doubt:
            doubts.append(str(doubt))
            settings = settings.model_copy(update={"allow": (*settings.allow, doubt.name)})


def _doubted_for(found: Sequence[Copy], one: Opened) -> Iterator[str]:
    """Why `ssbench run` refuses the data for its copies, if it does."""
    test = [copy for copy in found if copy.role == "test"]
    counted = Copied(len(test), sum(copy.equal for copy in test), _example(one, test))
    try:
        refuse_copies(counted, len(one.data.test), one.source, one.settings)
    except UserError as doubt:
        yield str(doubt)


def _example(one: Opened, found: Sequence[Copy]) -> str:
    return "".join(f"{one.parts[c.role].keys[c.at]} of {one.parts[c.other].keys[c.of]}" for c in found[:1])


def _parts(one: Opened) -> Section:
    known = one.data.understood
    splits = ", ".join(f"{name} {count:,}" for name, count in known.get("splits", {}).items())
    origin = f" ({known['origin']})" if known.get("origin") else ""
    lines = [f"splits of the source: {splits}{origin}", f"parts: {one.data.roles}", columns(known)]
    lines += [*known.get("said", ()), left_out(one.data) or "left out: nothing"]
    if one.data.skipped:
        lines.append(f"the first unreadable image: {one.data.skipped[0]}")
    return Section("Parts", lines, ("part", "images"), [(role, f"{len(part):,}") for role, part in one.parts.items()])


def _samples(one: Opened) -> Section:
    data, channels = one.data, one.data.fit.images.shape[1]
    what = {1: "grey", 2: "the first of 2 channels as grey", 3: "in colour"}
    said = what.get(channels, f"the first three of {channels} channels as red, green and blue")
    said += "; masks are tinted and outlined, but for the first class" if "mask" in data.targets else ""
    said += "; boxes have the names of their classes where there is room" if "boxes" in data.targets else ""
    shown = [Picture("samples.png", f"Images of fit, spread over the classes, {said}.", lambda: pictures.samples(data))]
    if channels not in (1, 3):
        shown.append(Picture("channels.png", "Each channel of some of them.", lambda: pictures.channels(data)))
    if {"mask", "boxes"} & data.targets:
        shown.append(Picture("legend.png", "Colours of masks and boxes.", lambda: pictures.legend(_inks(data))))
    return Section("Samples", pictures=shown)


def _inks(data: Dataset) -> list[tuple[str, pictures.Colour]]:
    """What the colours of masks and boxes stand for."""
    found = [(f"box {name}", pictures.colour(number)) for number, name in enumerate(data.box_classes)]
    if "mask" not in data.targets:
        return found
    first, *others = counts.mask_names(data).items()
    void = {data.ignore_index: pictures.VOID}
    inks = [(f"mask {name}", void.get(number, pictures.colour(number))) for number, name in others]
    return [(f"mask {first[1]}: not tinted", (255, 255, 255)), *inks, *found]


def _targets(one: Opened) -> Iterator[Section]:
    """A section for each kind of target."""
    data, targets = one.data, one.data.fit.targets
    if "label" in targets or "labels" in targets:
        found = one.each(lambda part: counts.label_counts(part, len(data.classes)))
        lines = [_balance(data.classes, [row[0] for row in found])]
        if "labels" in targets:
            lines.append(f"labels of an image: {_range(targets['labels'].sum(1).tolist())}")
        yield _classes("Labels", "images of", data.classes, found, lines)
    if "mask" in targets:
        yield _masks(one)
    if "boxes" in targets:
        found = one.each(lambda part: counts.box_counts(part, len(data.box_classes)))
        lines = [f"boxes of an image: {_range((targets['boxes'][..., 4] >= 0).sum(1).tolist())}"]
        across = Counter(map(round, counts.longer_sides(data.fit)))
        more = [histogram("longer sides of boxes in fit, px", across)] if across else []
        yield _classes("Boxes", "boxes of", data.box_classes, found, lines, more)
    if "factors" in targets:
        numbers = [(column.min(), column.mean(), column.max()) for column in targets["factors"].T]
        rows = [(name, *(f"{number:.4g}" for number in row)) for name, row in zip(data.factors, numbers)]
        yield Section("Numbers", header=("number, in fit", "least", "mean", "most"), rows=rows)


def _classes(
    title: str,
    of: str,
    names: Sequence[str],
    found: Sequence[tuple[float, ...]],
    lines: Sequence[str],
    more: Sequence[Bars] = (),
) -> Section:
    """How many each class has in each part; the picture shows the most first."""
    order = sorted(range(len(names)), key=lambda at: (-sum(found[at]), at))
    ranked = Bars(f"{of} each class", tuple(names[at] for at in order), tuple(found[at] for at in order))
    shown = Picture(f"{title.lower()}.png", "", lambda: bars.draw([ranked, *more]))
    rows = [(name, *(f"{count:,.0f}" for count in row)) for name, row in zip(names, found)]
    return Section(f"{title} ({_many(len(names), 'class', 'classes')})", lines, (of, *ROLES), rows, [shown])


def _masks(one: Opened) -> Section:
    names = [*counts.mask_names(one.data).values()]
    found = one.each(lambda part: [100 * share for share in counts.mask_shares(part, one.data)])
    panel = Bars("% of fit's pixels", tuple(names), tuple(row[:1] for row in found), ".3g")
    rows = [(name, *(f"{share:.3g}" for share in row)) for name, row in zip(names, found)]
    shown = Picture("masks.png", "", lambda: bars.draw([panel]))
    return Section(f"Masks ({one.data.mask_classes} classes)", (), ("% of pixels", *ROLES), rows, [shown])


def _balance(names: Sequence[str], found: Sequence[float]) -> str:
    most, least = (pick(range(len(names)), key=lambda at: found[at]) for pick in (max, min))
    if found[most] == found[least]:
        return f"in fit {'each class has' if len(names) > 1 else 'it has'} {_many(int(found[most]), 'image', 'images')}"
    ratio = f": 1 to {found[most] / found[least]:.1f}" if found[least] else ""
    return f"in fit {names[most]} has most images, {found[most]:,}, and {names[least]} fewest, {found[least]:,}{ratio}"


def _range(numbers: Sequence[int]) -> str:
    return f"{min(numbers)} to {max(numbers)}, {sum(numbers) / len(numbers):.1f} in the mean of fit"


def _many(count: int, one: str, more: str) -> str:
    return f"{count:,} {one if count == 1 else more}"


def _images(one: Opened) -> Section:
    known = one.data.understood
    lines, shown = [pixels(known), sizes(known)], list[Picture]()
    if "modes" in known:
        modes = ", ".join(f"{mode} {count:,}" for mode, count in known["modes"].items())
        square = ", all square" if known["square"] else ""
        lines += [f"as they lie: {modes}; {_many(known['shapes'], 'size', 'sizes')}{square}"]
    if known.get("shapes", 1) > 1:
        panels = [
            histogram("shorter sides of images, px", dict(known["sides_counted"])),
            histogram("width / height of images", dict(known["ratios_counted"])),
        ]
        shown.append(Picture("sizes.png", "", lambda: bars.draw(panels)))
    return Section("Images", lines, pictures=shown)


def _copies(one: Opened, found: Sequence[Copy]) -> Section:
    rows = []
    for role, seen in zip(ROLES, ("earlier ones of fit", "fit", "fit or select")):
        own = [copy for copy in found if copy.role == role]
        equal = sum(copy.equal for copy in own)
        near = len(own) - equal
        rows.append((role, f"{len(one.parts[role]):,}", seen, f"{equal:,}", f"{near:,}", _example(one, own)))
    header = ("part", "images", "copies of", "equal in pixels", "near", "for example")
    shown = sorted(found, key=lambda copy: (-ROLES.index(copy.role), copy.equal))[:PAIRS]
    each = [
        (one.parts[c.role], c.at, one.parts[c.other], c.of, f"{c.role}, {'equal to' if c.equal else 'near'} {c.other}")
        for c in shown
    ]
    what = f"{len(shown)} of {_many(len(found), 'copy', 'copies')}, on the left, of what is on the right."
    drawn = Picture("copies.png", what, lambda: pictures.pairs(each, one.data))
    return Section("Copies", (), header, rows, [drawn] if found else [])


def _groups(one: Opened) -> Iterator[Section]:
    if not one.data.fit.groups:
        return
    rows, seen = [], Counter[str]()
    for role, part in one.parts.items():
        sizes_of = Counter(part.groups)
        (name, most), *_ = sizes_of.most_common(1)
        rows.append((role, f"{len(sizes_of):,}", f"{name or 'none'} ({most:,})"))
        seen.update(sizes_of.keys() - {""})
    shared = [name for name, parts in seen.items() if parts > 1]
    line = f"on two sides: {len(shared)}" + (f", such as {min(shared)}" if shared else "")
    yield Section("Groups", (line,), ("part", "groups", "the largest (images)"), rows)


def _tasks(one: Opened, line: str) -> Section:
    """Which tasks the data allows, and why not the others, in the words of `ssbench run`."""
    rows = [(name, *why_not(one, entry)) for name, entry in entries("tasks").items()]
    return Section("Tasks", [line] if line else [], ("task", "allowed", "why not"), rows)


def why_not(one: Opened, entry: Entry) -> tuple[str, str]:
    """`yes`, or `no` and the reason."""
    try:
        refuse_targets(entry.name, load_entry(entry).needs, one.source, one.data, one.settings)
    except UserError as reason:
        return "no", str(reason)
    return "yes", ""
