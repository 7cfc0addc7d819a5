"""A listing -> uint8 arrays of one size in their roles. What is decided about a whole set is decided in its survey."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ssbench.data import depth, masks
from ssbench.data.labels import Classes, in_order
from ssbench.data.listing import Box, Label, Listing, Sample
from ssbench.data.pixels import Pixels, bytes_of, shown_size, to_size, upright
from ssbench.data.splits import Roles
from ssbench.data.stored import Arrays
from ssbench.data.survey import Survey, refuse_bad
from ssbench.data.suspicion import suspect
from ssbench.errors import UserError
from ssbench.spec import DataSettings

BLANK = 0.5  # share of images of one value that is refused
DARK = 32  # 8-bit data whose values end below this was counted from 0, such as 0 and 1, and not seen
HALF = 128  # 16-bit colour whose upper 8 bits end below this has lost a bit or more
BATCH = 256  # samples decoded at a time
DRAFT = 2  # times the side that is wanted, down to which JPEG files are made smaller as they are decoded
Tell = Callable[[str], None]


class Decoded(NamedTuple):
    """One sample's pixels."""

    image: NDArray[np.uint8]  # (C, S, S)
    larger: NDArray[np.uint8] | None  # (C, L, L)
    mask: NDArray[np.uint8] | None  # (S, S), numbers of values
    depth: NDArray[np.float32] | None  # (S, S)
    boxes: tuple[Box, ...]  # in px of S


@dataclass(frozen=True)
class Plan:
    """What is decoded for each sample."""

    pixels: Pixels
    larger: int  # px of what the crops of training are cut from; not above `pixels.size`: none
    whole: bool  # squashed to a square, as masks, depth and boxes want it; else the centre square
    masked: bool  # every image has a mask
    depth: bool  # and a map of depth


def decode(
    listing: Listing, found: Survey, roles: Roles, classes: Classes, settings: DataSettings, room: Arrays, tell: Tell
) -> dict[str, Any]:
    """Write each part's arrays, and give what goes with them: keys, groups, classes of boxes, values of masks, facts.

    Raises UserError naming an image that can't be read, unless such are skipped.
    """
    plan, where, values = planned(found, settings), _positions(roles), masks.Values()
    parts = {role: Part(role, len(at), plan, room) for role, (_, at) in roles.parts.items()}
    total, done, started = sum(samples.total for samples in listing.splits.values()), 0, time.monotonic()
    skipped = [*found.bad]

    def opened(one: tuple[str | None, Sample]) -> Decoded | Exception | None:
        return _opened(listing.where, one[1], plan, one[0], values, settings)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for split, samples in listing.splits.items():
            good = (sample for sample in samples.each() if sample.name not in found.bad)
            for batch in _batches((where.get((split, at)), sample) for at, sample in enumerate(good)):
                for (role, sample), result in zip(batch, pool.map(opened, batch)):
                    if isinstance(result, Exception):
                        refuse_bad(listing.where, sample, result, settings)
                        skipped.append(sample.name)
                    elif role is not None and result is not None:
                        parts[role].add(sample, result)
                done += len(batch)
                left = (time.monotonic() - started) * (total - done) / done
                tell(f"decoding {listing.where}: {done} of {total} images, {left:.0f} s left")
    kinds = sorted({box.label for part in parts.values() for each in part.boxes for box in each}, key=in_order)
    story = {
        "skipped": skipped,
        "larger": plan.larger if plan.larger > plan.pixels.size else 0,
        "box_classes": [str(kind) for kind in kinds],
        "parts": {role: part.close(classes, kinds, len(listing.numbers)) for role, part in parts.items()},
    }
    story |= _range(listing.where, [*parts.values()])
    story |= _doubt(listing.where, [*parts.values()], plan.pixels, found.facts["cut"], settings)
    if not values.counts:
        return story
    mapping = masks.mapped(listing.where, values, settings)
    for part in parts.values():
        part.map_masks(mapping)
    return story | {"mask_classes": mapping.classes, **mapping.facts}


def _doubt(where: str, parts: Sequence["Part"], how: Pixels, cut: int, settings: DataSettings) -> dict[str, Any]:
    """Raises UserError where most images are of one value, and where some were `cut` to bits that hold little.

    Nearly black ones are stretched; that scale is given back.
    """
    count, blank = sum(len(part.samples) for part in parts), sum(part.blank for part in parts)
    top = max(part.top for part in parts)
    if blank > BLANK * count:
        suspect(settings, "blank-images", f"{where}: {blank} of {count} images have one value everywhere (0 is black)")
    if cut and 0 < top < HALF:
        suspect(
            settings,
            "cut-bits",
            f"{where}: {cut} images have 16 bits a colour and use the lower ones; the upper 8, which are read, reach "
            f"{top} of 255: store them as TIFF, or with 8 bits that are used",
        )
    if how.deep or not 0 < top < DARK:
        return {}
    table = (torch.arange(256) * (255 / top)).round().clamp(max=255).to(torch.uint8)
    for part in parts:
        for images in (part.images, part.larger):
            for image in () if images is None else images[: len(part.samples)]:
                image.copy_(table[image.long()])
    return {"scale": [0.0, float(top)]}


def _range(where: str, parts: Sequence["Part"]) -> dict[str, Any]:
    """The range of depth and the share of its pixels that is known; raises UserError where all have one value."""
    maps = [part.depth[: len(part.samples)] for part in parts if part.depth is not None]
    known = [one[one.isfinite()] for each in maps for one in each]
    if not known:
        return {}
    low, high = min(one.min().item() for one in known), max(one.max().item() for one in known)
    if low == high:
        raise UserError(f"{where}: depth is {low:g} wherever it is known (data.depth); there is nothing to predict")
    return {"depth_range": [low, high], "depth_known": sum(map(len, known)) / sum(each.numel() for each in maps)}


class Part:
    """The arrays of one role, filled sample by sample; big ones are in files from the start."""

    def __init__(self, role: str, count: int, plan: Plan, room: Arrays) -> None:
        self.role, self.count, self.plan, self.room = role, count, plan, room
        self.samples: list[Sample] = []
        self.boxes: list[tuple[Box, ...]] = []
        self.blank, self.top = 0, 0  # images of one value, and the largest value
        c, s = plan.pixels.channels, plan.pixels.size
        self.images = room.room(f"{role}.images", (count, c, s, s), "uint8")
        big = plan.larger if role == "fit" and plan.larger > s else 0
        self.larger = room.room(f"{role}.larger", (count, c, big, big), "uint8") if big else None
        self.masks: Tensor | None = None
        self.depth = room.room(f"{role}.depth", (count, s, s), "float32") if plan.depth else None

    def add(self, sample: Sample, found: Decoded) -> None:
        at, top = len(self.samples), int(found.image.max())
        self.blank += int(found.image.min()) == top
        self.top = max(self.top, top)
        self.images[at] = torch.from_numpy(found.image)
        if self.larger is not None and found.larger is not None:
            self.larger[at] = torch.from_numpy(found.larger)
        if found.mask is not None:
            if self.masks is None:
                self.masks = self.room.room(f"{self.role}.mask", (self.count, *found.mask.shape), "uint8")
            self.masks[at] = torch.from_numpy(found.mask)
        if self.depth is not None and found.depth is not None:
            self.depth[at] = torch.from_numpy(found.depth)
        self.samples.append(sample._replace(open=_closed, mask=None, depth=None))
        self.boxes.append(found.boxes)

    def map_masks(self, mapping: masks.Mapped) -> None:
        """From the numbers of values to classes."""
        if self.masks is not None:
            for mask in self.masks[: len(self.samples)]:
                mask.copy_(torch.from_numpy(mapping.table)[mask.long()])

    def close(self, classes: Classes, kinds: Sequence[Label], numbers: int) -> dict[str, Any]:
        """Write labels, boxes and numbers; keys and groups go with them."""
        count = len(self.samples)
        found = [classes.of(sample.label) for sample in self.samples]
        if classes.several:
            labels = self.room.room(f"{self.role}.labels", (count, len(classes.names)), "uint8")
            for at, each in enumerate(found):
                labels[at, [*each]] = 1
        elif classes.names:
            labels = self.room.room(f"{self.role}.label", (count,), "int64")
            labels[:] = torch.tensor([each[0] for each in found], dtype=torch.int64)
        if kinds:
            most = max(map(len, self.boxes), default=0)
            boxes = self.room.room(f"{self.role}.boxes", (count, most, 5), "float32")
            boxes[:] = -1
            for at, inside in enumerate(self.boxes):
                for slot, box in enumerate(inside):
                    boxes[at, slot] = torch.tensor([*box[:4], kinds.index(box.label)])
        if numbers:
            factors = self.room.room(f"{self.role}.factors", (count, numbers), "float32")
            factors[:] = torch.tensor([[*sample.numbers] for sample in self.samples]).view(count, numbers)
            if bad := [sample.name for sample, row in zip(self.samples, factors) if not row.isfinite().all()]:
                raise UserError(f"{bad[0]}: a number (data.numbers) is missing or not finite; leave out such rows")
        groups = [sample.group for sample in self.samples]
        return {"keys": [sample.key for sample in self.samples], "groups": groups if any(groups) else []}


def _closed() -> Image.Image:
    raise RuntimeError("its pixels were decoded")


def planned(found: Survey, settings: DataSettings) -> Plan:
    """The larger side follows from the originals, at most twice the size, unless it is set."""
    every = [one for seen in found.seen.values() for one in seen]
    size = found.pixels.size
    own = sorted(min(one.size) for one in every)[len(every) // 2]
    larger = settings.store_size or min(own, 2 * size)
    masked, deep = any(one.masked for one in every), any(one.depth for one in every)
    whole = masked or deep or any(one.boxes is not None for one in every)
    return Plan(found.pixels, larger, whole, masked, deep)


def _positions(roles: Roles) -> Mapping[tuple[str, int], str]:
    return {(split, at): role for role, (split, positions) in roles.parts.items() for at in positions}


def _batches(samples: Iterator[tuple[str | None, Sample]]) -> Iterator[list[tuple[str | None, Sample]]]:
    while batch := [*islice(samples, BATCH)]:
        yield batch


def _opened(
    where: str, sample: Sample, plan: Plan, role: str | None, values: masks.Values, settings: DataSettings
) -> Decoded | Exception | None:
    """The pixels of a sample that has a role; an error is given back, since those of the samples before come first."""
    if role is None:
        return None
    try:
        raw, side = sample.open(), plan.pixels.size
        larger = plan.larger if role == "fit" and plan.larger > side else 0
        if plan.masked and sample.mask is None:
            raise ValueError("it has no mask, and others have")
        if plan.depth and sample.depth is None:
            raise ValueError("it has no depth map, and others have")
        deep = depth.read(where, sample, raw, side, settings) if sample.depth is not None else None
        mask = masks.read(where, sample, raw, side, values, settings) if sample.mask is not None else None
        size = shown_size(raw)
        if isinstance(raw, Image.Image):
            raw.draft(None, (DRAFT * max(side, larger),) * 2)
            upright(raw)
        planes = bytes_of(raw, plan.pixels)
        scale = side / size[0], side / size[1]
        boxes = tuple(
            box._replace(x0=box.x0 * scale[0], y0=box.y0 * scale[1], x1=box.x1 * scale[0], y1=box.y1 * scale[1])
            for box in sample.boxes or ()
        )
        big = to_size(planes, larger, plan.whole) if larger else None
        return Decoded(to_size(planes, side, plan.whole), big, mask, deep, boxes)
    except Exception as error:  # decoders raise whatever broken bytes lead them to
        return error
