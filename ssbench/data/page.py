"""All that is known of some data, as it is used here, with pictures: the page of `ssbench data`."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ssbench.data import Dataset, Split, bars, identify, load, pictures
from ssbench.data.bars import Bars, histogram
from ssbench.data.copies import Looks, copies, joined, look, within
from ssbench.data.counts import box_counts, label_counts, mask_names, mask_shares
from ssbench.data.leaks import Copied
from ssbench.data.needs import refuse_copies, refuse_targets
from ssbench.data.suspicion import Suspicion
from ssbench.data.understood import pixels, sentence, sizes
from ssbench.data.written import Page, Section
from ssbench.errors import UserError
from ssbench.registry import Entry, entries
from ssbench.registry import load as load_entry
from ssbench.spec import DataSettings

ROLES = ("fit", "select", "test")
PAIRS = 12  # copies that are pictured

Tell = Callable[[str], None]


class Copy(NamedTuple):
    """An image that is a copy of one of a part that is trained or chosen on."""

    role: str
    at: int
    other: str  # role
    of: int
    equal: bool


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


def page(source: str, settings: DataSettings, drawn: bool = True, tell: Tell = lambda text: None) -> Page:
    """The facts, and pictures unless they are not to be `drawn`; raises UserError where the data can't be read."""
    one = opened(source, settings, tell)
    tell("looking for copies")
    found = all_copies(one.parts)
    doubts = [*one.doubts, *_copied_doubt(one, found, settings)]
    files = dict[str, bytes]()
    if drawn:
        tell("drawing")
        files = _drawn(one, found)
    sections = [
        _parts(one),
        _samples(one),
        *_targets(one),
        _images(one),
        _copies(one, found),
        *_groups(one),
        _tasks(one),
    ]
    shown = [
        section._replace(pictures=tuple(picture for picture in section.pictures if picture[0] in files))
        for section in sections
    ]
    said = (sentence(one.data), *(f"ssbench run refuses it: {doubt}" for doubt in doubts))
    return Page(one.data.ref.name, said, tuple(one for one in shown if one.lines or one.rows or one.pictures), files)


def all_copies(parts: Mapping[str, Split]) -> list[Copy]:
    """Images of each part that are copies of earlier ones of fit, of fit, and of fit and select."""
    looks = {role: look(part.images) for role, part in parts.items()}
    found = {later: first for first, later in reversed(within(looks["fit"]).tolist())}
    twins = [Copy("fit", at, "fit", of, _equal(looks["fit"], at, looks["fit"], of)) for at, of in sorted(found.items())]
    count = len(parts["fit"])
    for role, seen in (("select", ("fit",)), ("test", ("fit", "select"))):
        for at, of in enumerate(copies(joined([looks[one] for one in seen]), looks[role]).tolist()):
            other, place = ("fit", of) if of < count else ("select", of - count)
            if of >= 0:
                twins.append(Copy(role, at, other, place, _equal(looks[role], at, looks[other], place)))
    return twins


def _equal(some: Looks, at: int, others: Looks, of: int) -> bool:
    return some.exact[at] == others.exact[of]


def _copied_doubt(one: Opened, found: Sequence[Copy], settings: DataSettings) -> list[str]:
    """Why `ssbench run` refuses the data for its copies, if it does."""
    test = [copy for copy in found if copy.role == "test"]
    example = _example(one, test[0]) if test else ""
    try:
        refuse_copies(
            Copied(len(test), sum(copy.equal for copy in test), example), len(one.data.test), one.source, one.settings
        )
    except UserError as doubt:
        return [str(doubt)]
    return []


def _example(one: Opened, copy: Copy) -> str:
    return f"{one.parts[copy.role].keys[copy.at]} of {one.parts[copy.other].keys[copy.of]}"


def _parts(one: Opened) -> Section:
    known = one.data.understood
    splits = ", ".join(f"{name} {count}" for name, count in (known.get("splits") or {}).items())
    origin = f" ({known['origin']})" if known.get("origin") else ""
    lines = [f"splits of the source: {splits}{origin}" if splits else "", f"parts: {one.data.roles}"]
    columns = ", ".join(f"{name} as {role}" for role, name in (known.get("columns") or {}).items())
    left_out = [*known.get("left_out", ())]
    if one.data.skipped:
        left_out.append(f"{len(one.data.skipped)} unreadable images, such as {one.data.skipped[0]}")
    lines += [f"columns: {columns}" if columns else "", *known.get("said", ())]
    lines += [f"left out: {', '.join(left_out)}" if left_out else "left out: nothing"]
    rows = [(role, f"{len(part):,}") for role, part in one.parts.items()]
    return Section("Parts", tuple(line for line in lines if line), ("part", "images"), tuple(rows))


def _samples(one: Opened) -> Section:
    channels, targets = one.data.fit.images.shape[1], one.data.targets
    what = {1: "grey", 2: "the first of 2 channels as grey", 3: "in colour"}
    said = what.get(channels, f"the first three of {channels} channels as red, green and blue")
    said += "; masks are tinted and outlined, but for the first class, and void is grey" if "mask" in targets else ""
    said += "; boxes have the names of their classes" if "boxes" in targets else ""
    shown = [("samples.png", f"Images of fit, spread over the classes, {said}.")]
    return Section("Samples", pictures=(*shown, ("legend.png", "Colours of the masks' classes.")))


def _targets(one: Opened) -> Iterator[Section]:
    """A section for each kind of target."""
    data, targets = one.data, one.data.targets
    if "label" in targets or "labels" in targets:
        counts = _per_part(one, lambda part: label_counts(part, len(data.classes)))
        at = sorted(range(len(data.classes)), key=lambda number: (-counts[number][0], number))
        most, least = counts[at[0]][0], counts[at[-1]][0]
        lines = [
            f"most images of fit: {data.classes[at[0]]} ({most:,}); fewest: {data.classes[at[-1]]} ({least:,}), "
            f"1 of {most / least:.1f}"
            if least
            else f"fit has no image of {data.classes[at[-1]]}"
        ]
        lines += (
            [f"labels of an image: {_range(data.fit.targets['labels'].sum(1).tolist())}"] if "labels" in targets else []
        )
        yield _counted(f"Classes ({len(data.classes)})", "class", data.classes, counts, lines, "classes.png")
    if "mask" in targets:
        shares = [[f"{100 * one:.3g} %" for one in row] for row in _per_part(one, lambda part: mask_shares(part, data))]
        names = mask_names(data)
        rows = tuple((name, *row) for name, row in zip(names.values(), shares))
        yield Section(
            f"Masks ({data.mask_classes} classes)", (), ("pixels of class", *ROLES), rows, (("masks.png", ""),)
        )
    if "boxes" in targets:
        counts = _per_part(one, lambda part: box_counts(part, len(data.box_classes)))
        many = _range((data.fit.targets["boxes"][..., 4] >= 0).sum(1).tolist())
        title = f"Boxes ({len(data.box_classes)} classes)"
        yield _counted(title, "boxes of", data.box_classes, counts, [f"boxes of an image: {many}"], "boxes.png")
    if "factors" in targets:
        rows = tuple(
            (name, *(f"{number:.4g}" for number in (column.min(), column.mean(), column.max())))
            for name, column in zip(data.factors, data.fit.targets["factors"].T)
        )
        yield Section("Numbers", (), ("number, in fit", "least", "mean", "most"), rows)


def _counted(
    title: str, of: str, names: Sequence[str], counts: Sequence[Sequence[float]], lines: Sequence[str], file: str
) -> Section:
    rows = tuple((name, *(f"{count:,.0f}" for count in row)) for name, row in zip(names, counts))
    return Section(title, tuple(lines), (of, *ROLES), rows, ((file, ""),))


def _per_part(one: Opened, count: Callable[[Split], Sequence[float]]) -> list[tuple[float, ...]]:
    """For each class what `count` finds in fit, select and test."""
    return [*zip(*(count(part) for part in one.parts.values()))]


def _range(numbers: Sequence[int]) -> str:
    return f"{min(numbers)} to {max(numbers)}, {sum(numbers) / len(numbers):.1f} in the mean of fit"


def _images(one: Opened) -> Section:
    known = one.data.understood
    modes = ", ".join(f"{mode} {count:,}" for mode, count in (known.get("modes") or {}).items())
    lines = [pixels(known), f"as they lie (Pillow's modes): {modes}" if modes else "", sizes(known)]
    if "shapes" in known:
        lines.append(f"{known['shapes']:,} different sizes{', all square' if known['square'] else ''}")
    return Section("Images", tuple(line for line in lines if line), pictures=(("sizes.png", ""),))


def _copies(one: Opened, found: Sequence[Copy]) -> Section:
    rows = []
    for role, seen in zip(ROLES, ("earlier ones of fit", "fit", "fit or select")):
        own = [copy for copy in found if copy.role == role]
        equal = sum(copy.equal for copy in own)
        example = _example(one, own[0]) if own else ""
        count = len(one.parts[role])
        rows.append((role, f"{count:,}", seen, str(equal), str(len(own) - equal), example))
    header = ("part", "images", "copies of", "equal in pixels", "near", "for example")
    return Section("Copies", (), header, tuple(rows), (("copies.png", "Copies, and what they are copies of."),))


def _groups(one: Opened) -> Iterator[Section]:
    if not one.data.fit.groups:
        return
    rows = []
    for role, part in one.parts.items():
        (name, most), *_ = Counter(part.groups).most_common(1)
        rows.append((role, f"{len({*part.groups}):,}", f"{name or 'no group'} ({most:,} images)"))
    has = [{*part.groups} - {""} for part in one.parts.values()]
    shared = len(has[0] & has[1] | has[0] & has[2] | has[1] & has[2])
    yield Section(
        "Groups", (f"groups in more than one part: {shared}",), ("part", "groups", "the largest"), tuple(rows)
    )


def _tasks(one: Opened) -> Section:
    """Which tasks the data allows, and why not the others, in the words of `ssbench run`."""
    rows = tuple((name, *why_not(one, entry)) for name, entry in entries("tasks").items())
    return Section("Tasks", (), ("task", "allowed", "why not"), rows)


def why_not(one: Opened, entry: Entry) -> tuple[str, str]:
    """`yes`, or `no` and the reason."""
    try:
        refuse_targets(entry.name, load_entry(entry).needs, one.source, one.data, one.settings)
    except UserError as reason:
        return "no", str(reason)
    return "yes", ""


def _drawn(one: Opened, found: Sequence[Copy]) -> dict[str, bytes]:
    """Pictures by the name of their files."""
    data, targets = one.data, one.data.targets
    files = {"samples.png": pictures.samples(data)}
    if "mask" in targets:
        names = mask_names(data)
        shares = _per_part(one, lambda part: [100 * share for share in mask_shares(part, data)])
        files["legend.png"] = pictures.legend(names)
        only = [(row[0],) for row in shares]
        files["masks.png"] = bars.draw([Bars("pixels of each class in fit", tuple(names.values()), tuple(only), " %")])
    if "label" in targets or "labels" in targets:
        files["classes.png"] = bars.draw(
            [
                _ranked(
                    "images of each class",
                    data.classes,
                    _per_part(one, lambda part: label_counts(part, len(data.classes))),
                )
            ]
        )
    if "boxes" in targets:
        counts = _per_part(one, lambda part: box_counts(part, len(data.box_classes)))
        across = [
            max(x1 - x0, y1 - y0)
            for box in data.fit.targets["boxes"].tolist()
            for x0, y0, x1, y1, kind in box
            if kind >= 0
        ]
        panels = [_ranked("boxes of each class", data.box_classes, counts)]
        panels += [histogram("longer sides of boxes in fit, px", Counter(map(round, across)))] if across else []
        files["boxes.png"] = bars.draw(panels)
    known = data.understood
    if "sides_counted" in known:
        sides, ratios = (dict(known[name]) for name in ("sides_counted", "ratios_counted"))
        files["sizes.png"] = bars.draw(
            [histogram("shorter sides of images, px", sides), histogram("width / height of images", ratios)]
        )
    if found:
        shown = sorted(found, key=lambda copy: -ROLES.index(copy.role))[:PAIRS]
        each = [(one.parts[c.role], c.at, one.parts[c.other], c.of, _pair(c)) for c in shown]
        files["copies.png"] = pictures.pairs(each, data)
    return files


def _pair(copy: Copy) -> str:
    return f"{copy.role}, {'equal to' if copy.equal else 'near'} one of {copy.other}"


def _ranked(title: str, names: Sequence[str], counts: Sequence[tuple[float, ...]]) -> Bars:
    """Most first."""
    order = sorted(range(len(names)), key=lambda at: (-sum(counts[at]), at))
    return Bars(title, tuple(names[at] for at in order), tuple(counts[at] for at in order))
