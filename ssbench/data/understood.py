"""How a source was understood, in one line: splits, classes, channels, depth, sizes, columns, what was left out."""

from collections.abc import Iterator, Mapping
from typing import Any

from ssbench.data import Dataset

SHOWN = 4  # names in a list


def sentence(data: Dataset) -> str:
    """`pets: 70 fit, 10 select, 20 test images (...); 2 classes (cat, dog); RGB, 8 bit; 64 px as they are; ...`."""
    return f"{data.ref.name}: {'; '.join(part for part in _parts(data) if part)}"


def _parts(data: Dataset) -> Iterator[str]:
    known = data.understood
    counts = ", ".join(
        f"{len(part)} {role}" for role, part in (("fit", data.fit), ("select", data.select), ("test", data.test))
    )
    origin = f"{known['origin']}; " if known.get("origin") else ""
    yield f"{counts} images ({origin}{data.roles})"
    yield from targets(data)
    yield pixels(known)
    yield sizes(known)
    yield columns(known)
    yield from known.get("said", ())
    yield left_out(data)


def targets(data: Dataset) -> Iterator[str]:
    """What a task can be asked of."""
    found = data.targets
    if "label" in found:
        yield f"{len(data.classes)} class{'es' * (len(data.classes) != 1)} ({listed(data.classes)})"
    if "labels" in found:
        yield f"several of {len(data.classes)} labels an image ({listed(data.classes)})"
    if "mask" in found:
        values = data.understood.get("mask_values", [])
        named = f" (values {listed(map(value, values))})" if values else ""
        void = data.understood.get("mask_void")
        yield f"masks of {data.mask_classes} class{'es' * (data.mask_classes != 1)}{named}" + (
            f", {value(void)} is none" if void is not None else ""
        )
    if "boxes" in found:
        count = len(data.box_classes)
        yield f"boxes of {count} class{'es' * (count != 1)} ({listed(data.box_classes)})"
    if "factors" in found:
        yield f"numbers {listed(data.factors)}"
    if "depth" in found:
        yield depth(data)
    if data.fit.groups:
        yield f"{len({*data.fit.groups, *data.select.groups, *data.test.groups})} groups"
    if not found:
        yield "no labels"


def depth(data: Dataset) -> str:
    """`maps of depth from 0.5 to 9.8, 12 % of pixels unknown`, of all parts."""
    known = data.understood
    if "depth_range" not in known:  # drawn
        maps = [part.targets["depth"] for part in (data.fit, data.select, data.test)]
        known = {"depth_range": (min(float(x.min()) for x in maps), max(float(x.max()) for x in maps))}
    low, high = known["depth_range"]
    unknown = 1 - known.get("depth_known", 1)
    return f"maps of depth from {low:.4g} to {high:.4g}" + (f", {unknown:.1%} of pixels unknown" if unknown else "")


def pixels(known: Mapping[str, Any]) -> str:
    """`RGB, 8 bit, transparency laid on grey`."""
    count = known["channels"]
    text = {1: "grey", 3: "RGB"}.get(count, f"{count} channels")
    scale = known.get("scale")
    text += f", values {scale[0]:g} to {scale[1]:g} read as 8 bit" if scale else ", 8 bit"
    text += ", the upper 8 of 16" if known.get("cut") else ""
    text += ", transparency laid on grey" if known.get("transparent") else ""
    text += f", {known['turned']} turned by their orientation tag" if known.get("turned") else ""
    text += f", of {known['frames']} files with several frames the first" if known.get("frames") else ""
    return text


def sizes(known: Mapping[str, Any]) -> str:
    """`shorter sides of 96 to 331 px (median 128), read at 128 px, crops from 256 px`."""
    size = known["size"]
    if "sides" not in known:
        return f"{size} px"
    low, middle, high = known["sides"]
    own = f"{low} px" if low == high else f"{low} to {high} px (median {middle})"
    larger = f", crops of training from {known['larger']} px" if known.get("larger") else ""
    return f"shorter sides of {own}, read at {size} px{larger}"


def columns(known: Mapping[str, Any]) -> str:
    """`columns image, diagnosis as label` of a table, `folder names as label` without one."""
    found = known.get("columns") or {}
    named = ", ".join(f"{name} as {role}" * (name != role) or name for role, name in found.items())
    return "columns " * ("image" in found) + named


def left_out(data: Dataset) -> str:
    """`left out: 30 files of other kinds (.txt 28, .mp4 2), 2 unreadable images`."""
    skipped = [f"{len(data.skipped)} unreadable images"] if data.skipped else []
    found = ", ".join([*data.understood.get("left_out", ()), *skipped])
    return f"left out: {found}" if found else ""


def listed(names: Any) -> str:
    """`a, b, c, d, ...`."""
    shown = [str(name) for name in names]
    return ", ".join(shown[:SHOWN]) + (", ..." if len(shown) > SHOWN else "")


def value(number: int) -> str:
    """A mask's value as it lies: a number, or a colour."""
    return f"#{number - 2**24:06x}" if number >= 2**24 else str(number)
