"""Copies between parts of a data set: the same picture, saved again, resized, brightened, cut at the edges, mirrored.

First a perceptual hash finds what may be a copy: the signs of the lowest frequencies of a small grey picture, compared
by the number of differing bits (after pHash: Zauner, Implementation and Benchmarking of Perceptual Image Hash
Functions, 2010; there 64 bits against the median, here 120 against zero, so that a mirror flips known ones).
Look-alikes share those, so then the two thumbnails are laid over each other (Lucas and Kanade, An Iterative Image
Registration Technique with an Application to Stereo Vision, 1981) and must correlate in what is finer than their
overall composition.

Nothing here depends on the size of the images. Frames of a standing camera are copies, those of a moving one are not.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

RULE = 3  # changes with what counts as a copy, so that answers of an older one are not remembered
SIDE = 32  # px of a thumbnail
WAVES = 11  # frequencies a direction in the hash: 11 x 11 without the constant are 120 bits
BITS = 30  # that may differ: unrelated pairs differ in 60 +- 5.5, 99 % of pictures cut by 3 % a side in less than this
NEAREST = 8  # seen images looked at for each judged one: the cost stays bounded where all look alike
COARSE = 4  # frequencies a direction that are composition, such as a bright flower before a dark ground
DETAIL = 0.9  # least correlation of what is finer, in grey, of a picture with the same frame
CUT = 0.96  # of one that was cut at its edges: nothing else is lost by that
PLAIN = 0.985  # of a picture that is plain: few waves make its detail, and strangers share them
PLAIN_WAVES = 20  # such a picture has fewer: median 9 for digits of 8 x 8 px, 22 for easy shapes, 35 for photographs
APART = 0.25  # most difference left in colour once brightness is fitted, of what there is: copies 0.0 to 0.2 as a rule
FLAT = 3.0  # grey levels: images whose detail spreads less are compared exactly,
FEW = 5  # and so are those made of fewer waves, such as a ramp or one edge: moved and stretched, all are alike
REACH = 0.12  # half sides: how far thumbnails are moved and stretched at most
STILL = 0.02  # half sides: thumbnails moved and stretched less have the same frame
EDGE = 2  # px of a thumbnail's border that are not compared, since they may have been cut off
ROUNDS = 3  # of the registration
CHUNK = 1024  # images or pairs at once


class Looks(NamedTuple):
    """What is compared of N images."""

    bits: Tensor  # float32 (N, 120) of -1 and 1
    thumbs: Tensor  # uint8 (N, 3, 32, 32); grey images have three equal channels
    flat: Tensor  # bool (N,), almost constant or a mere ramp
    exact: tuple[bytes, ...]  # N digests of shape and pixels


def look(images: Tensor) -> Looks:
    """What is to be compared of uint8 images (N, C, S, S): their first three channels, or the first of fewer."""
    parts = []
    for part in images.split(CHUNK):
        shown = part[:, :3] if part.shape[1] >= 3 else part[:, :1].expand(-1, 3, -1, -1)  # (n, 3, S, S)
        small = F.interpolate(shown.float(), (SIDE, SIDE), mode="bicubic", antialias=True)  # (n, 3, 32, 32)
        grey, waves = small.mean(1), _waves(SIDE, WAVES)  # (n, 32, 32), (11, 32)
        bits = torch.where((waves @ grey @ waves.T).flatten(1)[:, 1:] > 0, 1.0, -1.0)  # (n, 120)
        fine = _detail(grey)
        flat = (fine.flatten(1).std(1) < FLAT) | (_richness(fine) < FEW)
        parts.append((bits, small.round().clamp(0, 255).to(torch.uint8), flat))
    bits, thumbs, flat = (torch.cat(column) for column in zip(*parts))
    return Looks(bits, thumbs, flat, tuple(map(_digest, images)))


def copies(seen: Looks, judged: Looks) -> Tensor:
    """Which seen image each judged one is a copy of, int64 (M,): the first equal one, or the most alike, or -1.

    Images of almost nothing (`flat`) are copies only where shape and pixels are equal.
    """
    found = {row: column for _, row, column in sorted(_search(judged, seen))}  # the most alike comes last
    first = _first(seen)
    found |= {i: first[digest] for i, digest in enumerate(judged.exact) if digest in first}
    return torch.tensor([found.get(i, -1) for i in range(len(judged.exact))], dtype=torch.int64)


def within(looks: Looks) -> Tensor:
    """Pairs of copies among some images, int64 (P, 2), the lower position first, in order.

    Of many copies of one picture each is in some pair, but not every two of them are.
    """
    pairs = {(min(pair), max(pair)) for _, *pair in _search(looks, looks)}
    first = _first(looks)
    pairs |= {(first[digest], i) for i, digest in enumerate(looks.exact) if first[digest] != i}
    return torch.tensor(sorted(pairs), dtype=torch.int64).reshape(-1, 2)


def _search(judged: Looks, seen: Looks) -> list[tuple[float, int, int]]:
    """Near copies, as they are or mirrored: how much alike, position in `judged`, position in `seen`."""
    found: list[tuple[float, int, int]] = []
    columns = (~seen.flat).nonzero()[:, 0]
    odd = torch.arange(WAVES).repeat(WAVES)[1:] % 2  # (120,) whether a wave is odd from left to right
    for rows in (~judged.flat).nonzero()[:, 0].split(CHUNK // 4):
        upright = judged.bits[rows], judged.thumbs[rows]
        for bits, thumbs in (upright, (upright[0] * (1 - 2 * odd), upright[1].flip(-1))):
            shared = bits @ seen.bits[columns].T  # (n, N): equal bits minus different ones
            if judged is seen:
                shared[rows[:, None] == columns] = -torch.inf
            most = shared.topk(min(NEAREST, len(columns)))
            row, rank = (most.values >= len(odd) - 2 * BITS).nonzero(as_tuple=True)
            column = columns[most.indices[row, rank]]
            for r, c in zip(row.split(CHUNK), column.split(CHUNK)) if len(row) else ():
                alike = _alike(seen.thumbs[c].float(), thumbs[r].float())
                hit = alike > 0
                found += zip(alike[hit].tolist(), rows[r[hit]].tolist(), c[hit].tolist())
    return found


def _digest(image: Tensor) -> bytes:
    return hashlib.blake2b(str(tuple(image.shape)).encode() + image.numpy().tobytes(), digest_size=16).digest()


def _first(looks: Looks) -> dict[bytes, int]:
    return {digest: i for i, digest in reversed([*enumerate(looks.exact)])}


def _waves(side: int, count: int) -> Tensor:
    """The lowest `count` rows (count, side) of the orthonormal discrete cosine transform."""
    places = (torch.arange(side) + 0.5) * (math.pi / side)
    rows = torch.cos(torch.arange(count)[:, None] * places)
    return rows / rows.norm(dim=1, keepdim=True)


def _detail(grey: Tensor) -> Tensor:
    """Grey pictures (P, S, S) without their lowest frequencies."""
    waves = _waves(grey.shape[-1], COARSE)
    return grey - waves.T @ (waves @ grey @ waves.T) @ waves


def _alike(some: Tensor, others: Tensor) -> Tensor:
    """The correlation of the detail of thumbnails (P, 3, 32, 32), as they are or laid over each other; 0: no copies."""
    pose = _pose(some.mean(1, keepdim=True), others.mean(1, keepdim=True))  # (P, 4)
    still = torch.zeros_like(pose)  # also tried, since the registration may go astray
    return torch.maximum(_alike_at(pose, some, others), _alike_at(still, some, others))


def _alike_at(pose: Tensor, some: Tensor, others: Tensor) -> Tensor:
    a, b = (x[:, :, EDGE:-EDGE, EDGE:-EDGE] for x in (_moved(some, pose), others))
    fine, its = _detail(a.mean(1)), _detail(b.mean(1))
    least = torch.where(pose.abs().amax(1) < STILL, DETAIL, CUT)
    least = torch.where(torch.minimum(_richness(fine), _richness(its)) < PLAIN_WAVES, PLAIN, least)
    shift, stretch = pose.split(2, 1)
    inside = (shift.abs() <= stretch.abs() + STILL).all(1) & (stretch.prod(1) > -(STILL**2))  # one frame in the other
    detail = _correlation(fine, its)
    return torch.where((detail >= least) & (_apart(a, b) <= APART) & inside, detail, 0.0)


def _apart(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of colour pictures (P, 3, S, S), contrast and brightness fitted, over their spread.

    Unlike a correlation, it is not blind to a ground that differs behind one strong figure.
    """
    a, b = (x - x.mean((2, 3), keepdim=True) for x in (a, b))
    gain = (a * b).sum((1, 2, 3), keepdim=True) / a.square().sum((1, 2, 3), keepdim=True).clamp_min(1e-6)
    return (b - gain * a).abs().mean((1, 2, 3)) / b.abs().mean((1, 2, 3)).clamp_min(1e-6)


def _richness(detail: Tensor) -> Tensor:
    """How many waves make up details (P, S, S): the participation ratio of their powers."""
    waves = _waves(detail.shape[-1], detail.shape[-1])
    power = (waves @ detail @ waves.T).square().flatten(1)
    return power.sum(1) ** 2 / power.square().sum(1).clamp_min(1e-6)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    return F.cosine_similarity(a.flatten(1), b.flatten(1))


def _pose(some: Tensor, others: Tensor) -> Tensor:
    """Shift and stretch (P, 4): x, y, x, y in half sides, that lay grey thumbnails (P, 1, 32, 32) over others.

    Least squares on the first order of shift, stretch, contrast and brightness, again and again.
    """
    places = (torch.arange(SIDE) + 0.5) * 2 / SIDE - 1  # (32,)
    pose = torch.zeros(len(some), 4)
    for _ in range(ROUNDS):
        moved = _moved(some, pose)
        dy, dx = (slope * SIDE / 2 for slope in torch.gradient(moved, dim=(2, 3)))
        terms = torch.stack([dx, dy, dx * places, dy * places[:, None], moved, torch.ones_like(moved)], -1)
        terms = terms[:, 0, EDGE:-EDGE, EDGE:-EDGE].flatten(1, 2)  # (P, 784, 6)
        aim = others[:, 0, EDGE:-EDGE, EDGE:-EDGE].reshape(len(others), -1, 1)
        size = terms.norm(dim=1, keepdim=True).clamp_min(1)  # (P, 1, 6); a slope may be zero everywhere
        terms = terms / size
        step = torch.linalg.solve(terms.mT @ terms + 1e-5 * torch.eye(6), terms.mT @ aim)[..., 0] / size[:, 0]  # (P, 6)
        pose = (pose + step[:, :4] / step[:, 4:5].clamp_min(0.3)).clamp(-REACH, REACH)
    return pose


def _moved(thumbs: Tensor, pose: Tensor) -> Tensor:
    shift, stretch = pose[:, :2, None], torch.diag_embed(1 + pose[:, 2:])
    grid = F.affine_grid(torch.cat([stretch, shift], 2), list(thumbs.shape), align_corners=False)
    return F.grid_sample(thumbs, grid, mode="bicubic", padding_mode="border", align_corners=False)


def joined(parts: Sequence[Looks]) -> Looks:
    """Those of several parts as one, in their order."""
    bits, thumbs, flat, exact = zip(*parts)
    return Looks(torch.cat(bits), torch.cat(thumbs), torch.cat(flat), tuple(one for part in exact for one in part))
