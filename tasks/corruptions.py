"""The 15 common corruptions of ImageNet-C at five severities, on a batch at once (Hendrycks and Dietterich 2019).

Kinds, order and strengths are those of hendrycks/robustness (arXiv:1903.12261): ImageNet-C/create_c/make_imagenet_c.py,
whose images have 224 px, and make_cifar_c.py, 32 px. An image takes the strengths of the side that is nearer by ratio,
so from 85 px on ImageNet-C's. Lengths in pixels grow with the image's side. Numbers of noise, contrast, brightness and
quality have no length and stay. What is done otherwise than there:

frost: five pictures are drawn, needles of ice of about the brightness and tint of the five photographs, which are not
shipped. glass: a row is changed at once, not a pixel at a time; a pixel takes its neighbour's value, which is what
their swap does, for NumPy's rows are views. elastic: affine map and displacement are one reading, not two. motion and
snow: the one-sided Gaussian streak that bethgelab/imagecorruptions has in place of ImageMagick. zoom: as there. What
comes out is rounded, not cut off, and not stored as JPEG.

Any number of channels: grey is BT.601 of three and the mean of others; JPEG takes channels alone where they aren't
three. All random numbers are drawn on the CPU.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.rng import onto

FAMILIES = {
    "noise": ("gaussian", "shot", "impulse"),
    "blur": ("defocus", "glass", "motion", "zoom"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic", "pixelate", "jpeg"),
}
KINDS = tuple(kind for kinds in FAMILIES.values() for kind in kinds)
SEVERITIES = (1, 2, 3, 4, 5)
SMALL, LARGE = 32, 224  # px of the images that the two tables are for
CHUNK = 512 * 64**2  # pixels at once
LUMA = (0.299, 0.587, 0.114)
PICTURES = 5  # of frost
ICE = (0.87, 1.0, 1.07)  # frost's channels over its luminance, the mean of those photographs

Values = tuple[float, ...]

# Of each kind: make_imagenet_c.py's five, then make_cifar_c.py's.
STRENGTHS: dict[str, tuple[Sequence[Values], Sequence[Values]]] = {
    # deviation
    "gaussian": (((0.08,), (0.12,), (0.18,), (0.26,), (0.38,)), ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,))),
    # photons at full brightness
    "shot": (((60,), (25,), (12,), (5,), (3,)), ((500,), (250,), (100,), (75,), (50,))),
    # share of values
    "impulse": (((0.03,), (0.06,), (0.09,), (0.17,), (0.27,)), ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,))),
    # radius of the disc in px, deviation of its edge
    "defocus": (
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    ),
    # deviation of the blur in px, reach in px, rounds
    "glass": (
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    ),
    # radius and deviation in px
    "motion": (((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)), ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    # largest factor (exclusive), step
    "zoom": (
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
        ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    ),
    # mean, deviation and grain (px) of the flakes' noise, threshold, radius and deviation in px, share of the image
    "snow": (
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
    ),
    # share of the image, share of the frost
    "frost": (
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    ),
    # amount, decay an octave
    "fog": (
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    ),
    # added to the value of HSV
    "brightness": (((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)), ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,))),
    # what is left of it
    "contrast": (((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)), ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,))),
    # strength and deviation of the displacement, largest step of a corner, in sides of 244 and of 32 px
    "elastic": (
        ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    ),
    # share of the side
    "pixelate": (((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)), ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,))),
    # quality
    "jpeg": (((25,), (18,), (15,), (10,), (7,)), ((80,), (65,), (58,), (50,), (40,))),
}


def corrupt(images: Tensor, kind: str, severity: int, generator: torch.Generator) -> Tensor:
    """uint8 images (B, C, S, S) under one of KINDS at one of SEVERITIES, the same shape and type, on their device."""
    size = images.shape[-1]
    large = size**2 > SMALL * LARGE
    values = STRENGTHS[kind][0 if large else 1][severity - 1]
    scale = size / (LARGE if large else SMALL)
    return on_pixels(images, lambda x: OPERATIONS[kind](x, values, scale, generator))


def on_pixels(images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """uint8 images (B, C, S, S) of which some at a time were changed as floats in 0..1, and rounded."""
    chunks = images.split(max(CHUNK // images.shape[-1] ** 2, 1))
    return torch.cat([(change(chunk.float() / 255).clamp(0, 1) * 255).round().to(torch.uint8) for chunk in chunks])


# Each of these takes images (B, C, S, S) in 0..1, the values of STRENGTHS, what lengths in px grow by, and a generator.


def gaussian(x: Tensor, values: Values, scale: float, generator: torch.Generator) -> Tensor:
    return x + values[0] * onto(torch.randn(x.shape, generator=generator), x.device)


def shot(x: Tensor, values: Values, scale: float, generator: torch.Generator) -> Tensor:
    return onto(torch.poisson(x.cpu() * values[0], generator) / values[0], x.device)


def impulse(x: Tensor, values: Values, scale: float, generator: torch.Generator) -> Tensor:
    """Salt and pepper in equal shares, each channel by itself."""
    drawn = onto(torch.rand(x.shape, generator=generator), x.device)
    return torch.where(drawn < values[0], (drawn < values[0] / 2).float(), x)


def defocus(x: Tensor, values: Values, scale: float, generator: torch.Generator) -> Tensor:
    """A disc whose edge is softened on 3 x 3 px, and on 5 x 5 where its radius is above 8 px."""
    radius, soft = values[0] * scale, values[1]
    edge = 1 if radius <= 8 else 2
    reach = math.floor(radius) + edge
    across = torch.arange(-reach, reach + 1.0)
    disc = (across**2 + across[:, None] ** 2 <= radius**2).float()
    bell = torch.exp(-(torch.arange(-edge, edge + 1.0) ** 2) / (2 * soft**2))
    kernel = F.conv2d(disc[None, None], torch.outer(bell, bell)[None, None], padding=edge)
    padded = F.pad(x.flatten(0, 1)[:, None], [reach] * 4, "reflect")
    return F.conv2d(padded, (kernel / kernel.sum()).to(x.device)).view_as(x)


def glass(x: Tensor, values: Values, scale: float, generator: torch.Generator) -> Tensor:
    """Blurred, each pixel that of a place near by, row by row from below, and blurred again."""
    size, reach = x.shape[-1], max(round(values[1] * scale), 1)
    blur = bell(size, values[0] * scale, 4, "nearest").to(x.device)
    inner = torch.arange(reach + 1, size - reach + 1)
    source = torch.arange(size**2).view(1, size, size).repeat(len(x), 1, 1)  # whose value each pixel has
    for _ in range(int(values[2])):
        for row in range(size - reach, reach, -1):
            down, right = torch.randint(-reach, reach, (2, len(x), len(inner)), generator=generator)
            place = (row + down) * size + inner + right
            source[:, row, reach + 1 : size - reach + 1] = source.flatten(1).gather(1, place)
    index = onto(source, x.device).flatten(1)[:, None].expand(-1, x.shape[1], -1)
    return blur @ (blur @ x @ blur.T).flatten(2).gather(2, index).view_as(x) @ blur.T


def motion(x: Tensor, values: Values, scale: float, generator: torch.Generator) -> Tensor:
    angle = (torch.rand(len(x), generator=generator) - 0.5) * math.pi / 2
    return streak(x, values[0] * scale, values[1] * scale, angle)


def zoom(x: Tensor, values: Values, scale: float, generator: torch.Generator) -> Tensor:
    factors = np.arange(1, *values)
    return (x + sum(enlarged(x, factor) for factor in factors)) / (len(factors) + 1)


def snow(x: Tensor, values: Values, scale: float, generator: torch.Generator) -> Tensor:
    mean, deviation, grain, threshold, radius, sigma, share = values
    noise = mean + deviation * torch.randn(len(x), 1, *x.shape[2:], generator=generator)
    angle = (torch.rand(len(x), generator=generator) * 90 - 135) * math.pi / 180
    flakes = enlarged(noise, max(grain * scale, 1))
    flakes = flakes.where(flakes >= threshold, 0).clamp(0, 1)
    fallen = onto(streak(flakes, radius * scale, sigma * scale, angle), x.device)
    pale = share * x + (1 - share) * torch.maximum(x, grey(x) * 1.5 + 0.5)
    return pale + fallen + fallen.rot90(2, (2, 3))


def frost(x: Tensor, values: Values, scale: float, generator: torch.Generator) -> Tensor:
    """One of the pictures for each image, anywhere (they go round) and mirrored or not."""
    size = x.shape[-1]
    pictures = ice(size, generator)
    which, left, top, mirrored = (
        torch.randint(most, (len(x),), generator=generator) for most in (PICTURES, size, size, 2)
    )
    at = torch.arange(size)
    rows, columns = (at + top[:, None]) % size, (at * (1 - 2 * mirrored[:, None]) + left[:, None]) % size
    seen = onto(pictures[which[:, None, None], rows[:, :, None], columns[:, None]], x.device)[:, None]  # (B, 1, S, S)
    tint = x.new_tensor(ICE if x.shape[1] == 3 else (1.0,))[:, None, None]
    return values[0] * x + values[1] * (seen * tint).clamp(0, 1)


def fog(x: Tensor, values: Values, scale: float, generator: torch.Generator) -> Tensor:
    amount, decay = values
    most = x.amax((1, 2, 3), keepdim=True)
    mist = onto(plasma(len(x), x.shape[-1], decay, generator), x.device)[:, None]
    return (x + amount * mist) * most / (most + amount)


def brightness(x: Tensor, values: Values, scale: float, generator: torch.Generator) -> Tensor:
    """The largest channel is raised, hue and saturation stay; black becomes grey."""
    value = x.amax(1, keepdim=True)
    raised = (value + values[0]).clamp(0, 1)
    return torch.where(value > 0, x / value.clamp(min=1e-6) * raised, raised)


def contrast(x: Tensor, values: Values, scale: float, generator: torch.Generator) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return mean + values[0] * (x - mean)


def elastic(x: Tensor, values: Values, scale: float, generator: torch.Generator) -> Tensor:
    """Three corners of a square take a random step each, and pixels one that is smooth over the image."""
    count, size = len(x), x.shape[-1]
    unit = scale * (244 if size**2 > SMALL * LARGE else SMALL)
    strength, sigma, step = (value * unit for value in values)
    low, high = size // 2 - size // 3, size // 2 + size // 3
    corners = torch.tensor([[high, high], [high, low], [low, low]], dtype=torch.float32)  # x, y
    moved = corners + step * (2 * torch.rand(count, 3, 2, generator=generator) - 1)
    back = torch.linalg.solve(F.pad(moved, (0, 1), value=1), corners.expand(count, 3, 2))  # (B, 3, 2)
    smooth = bell(size, sigma, 3, "reflect")
    bend = strength * (smooth @ (2 * torch.rand(count, 2, size, size, generator=generator) - 1) @ smooth.T)
    at = torch.arange(float(size))
    grid = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1) + bend.permute(0, 2, 3, 1)  # (B, S, S, 2)
    read = (F.pad(grid, (0, 1), value=1).flatten(1, 2) @ back).view(count, size, size, 2) * 2 / (size - 1) - 1
    return F.grid_sample(x, onto(read, x.device), padding_mode="reflection", align_corners=True)


def pixelate(x: Tensor, values: Values, scale: float, generator: torch.Generator) -> Tensor:
    """Pillow's box filter down, which takes pixels whole, and nearest pixels up."""
    size = x.shape[-1]
    few = max(int(size * values[0]), 1)
    away = (torch.arange(size) + 0.5) * few / size - torch.arange(few)[:, None] - 0.5  # (few, S)
    taken = ((away > -0.5) & (away <= 0.5)).to(x)
    means = taken / taken.sum(1, keepdim=True)
    return F.interpolate(means @ x @ means.T, (size, size), mode="nearest-exact")


def jpeg(x: Tensor, values: Values, scale: float, generator: torch.Generator) -> Tensor:
    from torchvision.io import decode_jpeg, encode_jpeg

    planes = (x if x.shape[1] == 3 else x.flatten(0, 1)[:, None]).mul(255).round().to("cpu", torch.uint8)
    coded = encode_jpeg(list(planes), int(values[0]))
    return torch.stack([decode_jpeg(one) for one in coded]).to(x.device).view_as(x).float() / 255


OPERATIONS: dict[str, Callable[[Tensor, Values, float, torch.Generator], Tensor]] = {
    "gaussian": gaussian,
    "shot": shot,
    "impulse": impulse,
    "defocus": defocus,
    "glass": glass,
    "motion": motion,
    "zoom": zoom,
    "snow": snow,
    "frost": frost,
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "elastic": elastic,
    "pixelate": pixelate,
    "jpeg": jpeg,
}


def grey(x: Tensor) -> Tensor:
    """Luminance (B, 1, S, S)."""
    weights = x.new_tensor(LUMA) if x.shape[1] == 3 else x.new_full((x.shape[1],), 1 / x.shape[1])
    return (x * weights[:, None, None]).sum(1, keepdim=True)


def bell(size: int, sigma: float, truncate: float, mode: str) -> Tensor:
    """The Gaussian blur of a row of `size` pixels as a matrix (size, size); `mode` is SciPy's, for the border."""
    from scipy.ndimage import gaussian_filter1d

    return torch.from_numpy(
        gaussian_filter1d(np.eye(size), max(sigma, 1e-3), axis=0, mode=mode, truncate=truncate)
    ).float()


def streak(x: Tensor, radius: float, sigma: float, angle: Tensor) -> Tensor:
    """The mean of each image's (B, C, S, S) copies at whole pixels along a ray, one-sided Gaussian weights.

    `angle` is (B,), in radians from right to down; the border is repeated.
    """
    size, reach = x.shape[-1], 2 * round(radius)
    steps = torch.arange(reach + 1.0)
    weights = torch.exp(-(steps**2) / (2 * sigma**2))
    away = torch.stack([angle.sin(), angle.cos()])[..., None] * steps  # (2, B, L)
    places = (torch.ceil(away - 0.5).long() + reach).tolist()
    seen = torch.zeros_like(x)
    for one, image, downs, rights in zip(seen, F.pad(x, [reach] * 4, "replicate"), *places):
        for weight, down, right in zip((weights / weights.sum()).tolist(), downs, rights):
            one.add_(image[:, down : down + size, right : right + size], alpha=weight)
    return seen


def enlarged(x: Tensor, factor: float) -> Tensor:
    """The middle of each image, read bilinearly from the centre of its first pixel to that of its last."""
    size = x.shape[-1]
    inner = math.ceil(size / factor)
    start, outer = (size - inner) // 2, round(inner * factor)
    middle = x[..., start : start + inner, start : start + inner]
    wide = F.interpolate(middle, (outer, outer), mode="bilinear", align_corners=True)
    cut = (outer - size) // 2
    return wide[..., cut : cut + size, cut : cut + size]


def plasma(count: int, size: int, decay: float, generator: torch.Generator) -> Tensor:
    """Diamond-square height maps (count, size, size) in 0..1, the beginnings of ones that go round.

    An octave's random part is less than that before it by the square of `decay`.
    """
    side = 1 << (size - 1).bit_length()
    heights, step, amount = torch.zeros(count, side, side), side, 1.0

    def between(total: Tensor) -> Tensor:
        return total / 4 + amount * (2 * torch.rand(total.shape, generator=generator) - 1)

    while step >= 2:
        half = step // 2
        corner, centre = heights[:, ::step, ::step], heights[:, half::step, half::step]
        rows, columns = corner + corner.roll(-1, 1), corner + corner.roll(-1, 2)
        centre.copy_(between(rows + rows.roll(-1, 2)))
        heights[:, ::step, half::step] = between(centre + centre.roll(1, 1) + columns)
        heights[:, half::step, ::step] = between(centre + centre.roll(1, 2) + rows)
        step, amount = half, amount / decay**2
    low, high = heights.amin((1, 2), keepdim=True), heights.amax((1, 2), keepdim=True)
    return ((heights - low) / (high - low))[:, :size, :size]


def ice(size: int, generator: torch.Generator) -> Tensor:
    """Drawn pictures of frost (PICTURES, size, size), which go round: at each place the strongest of six needles.

    A needle is noise that is smooth along one direction, for about an eighth of the image, and fine across.
    """
    turn = torch.arange(6) * math.pi / 6 + torch.rand(PICTURES, 1, generator=generator) * math.pi  # (P, 6)
    high = torch.fft.fftfreq(size)[:, None] * size  # cycles an image
    wide = torch.fft.rfftfreq(size) * size
    along = turn.cos()[..., None, None] * wide + turn.sin()[..., None, None] * high  # (P, 6, S, S // 2 + 1)
    across = turn.cos()[..., None, None] * high - turn.sin()[..., None, None] * wide
    gain = torch.exp(-((along / 4) ** 2)) * across.abs() / (1 + (across / 12) ** 2) ** 1.25
    noise = torch.fft.rfft2(torch.randn(PICTURES, 6, size, size, generator=generator))
    needles = torch.fft.irfft2(noise * gain, s=(size, size))
    needles = (needles / needles.std((2, 3), keepdim=True)).amax(1)  # (P, S, S), each about 1.3 with deviation 0.6
    level = 0.35 + 0.45 * torch.rand(PICTURES, 1, 1, generator=generator)
    return (level + 0.2 * (needles - 1.3)).clamp(0, 1)
