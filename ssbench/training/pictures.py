"""Pictures of what a method does to a few images, kept along its training."""

import math
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssbench.errors import one_line, warn
from ssbench.method import Method
from ssbench.results.store import write_bytes
from ssbench.rng import derive
from ssbench.training.loop import undisturbed

IMAGES = 8  # how many are pictured
SIDE = 96  # pixels that an image is at least enlarged to
GAP = 2  # white pixels between cells


def keep(method: Method, images: Tensor, folder: Path, seed: int, step: int) -> None:
    """Write `<step>.png` of uint8 images (B, C, S, S) into `folder`.

    Nothing where the method makes no picture, and a word where it fails.

    Every step's picture draws the same random numbers, so that pictures of one training differ by what was learned.
    """
    for file in of(folder):
        if int(file.stem) > step:  # left by a training of these weights' name that went another way
            file.unlink()
    try:
        with undisturbed(method, derive(seed, "picture")):
            panels = method.picture(method.encoder.normalise(images.to(method.encoder.mean.device)))
        drawn = draw(panels) if panels is not None else None
    except Exception as error:  # a plugin may fail in any way, and its training is worth more
        warn(f"{type(method).__name__}.picture is left out: {type(error).__name__}: {one_line(error)}")
        return
    if drawn is not None:
        write_bytes(folder / f"{step:06d}.png", drawn)


def of(folder: Path) -> list[Path]:
    """The pictures of one training, in the order of their steps."""
    return sorted(folder.glob("[0-9]*.png"), key=lambda file: int(file.stem))


def draw(panels: Tensor) -> bytes:
    """Panels (B, K, C, H, W) in 0..1 -> a PNG of B rows and K columns; raises ValueError unless C is 1 or 3."""
    if panels.ndim != 5 or panels.shape[2] not in (1, 3):
        raise ValueError(f"a picture is (B, K, C, H, W) with 1 or 3 channels, not {tuple(panels.shape)}")
    pixels = (panels.detach().cpu().float().nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8)
    cells = pixels.expand(-1, -1, 3, -1, -1).permute(0, 1, 3, 4, 2).numpy()  # (B, K, H, W, 3)
    factor = max(1, math.ceil(SIDE / min(cells.shape[2:4])))
    cells = cells.repeat(factor, 2).repeat(factor, 3)
    rows, columns, height, width, _ = cells.shape
    page = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for row, column in np.ndindex(rows, columns):
        top, left = row * (height + GAP), column * (width + GAP)
        page[top : top + height, left : left + width] = cells[row, column]
    content = BytesIO()
    Image.fromarray(page).save(content, "PNG")
    return content.getvalue()
