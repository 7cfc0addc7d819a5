"""Maps of images that are larger than what an encoder was trained on, put together from those of overlapping windows.

As mmsegmentation's test mode `slide` does with scores (mmseg/models/segmentors/encoder_decoder.py, slide_inference):
windows of one size, the last one flush with the border, the mean where they overlap. Of a linear head on standardised
places, the scores of a mean of maps are the mean of the scores: to average maps is to average scores, place by place.
Two things differ. The head learns from such maps too, not from crops; and scores are upsampled once, over the whole
image, where mmsegmentation upsamples them within each window.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch
from pydantic import SerializerFunctionWrapHandler, model_serializer
from torch import Tensor

from ssbench.encoders.encoder import Encoder
from ssbench.errors import NotApplicable, one_line
from ssbench.settings import Settings, setting


class Windowed(Settings):
    """Of tasks that read maps of windows."""

    window: int = setting(
        0,
        "side of the windows that an image's map is made of, 2/3 of it apart; 0: the image is one",
        source="mmsegmentation's test mode slide, 640 px and 426 apart in configs/beit on ADE20K; project: off",
        unit="px",
        ge=0,
    )

    @model_serializer(mode="wrap")
    def _lean(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a window of 0: identities are older than it."""
        return {key: value for key, value in whole(self).items() if key != "window" or value}


def origins(side: int, window: int, stride: int) -> list[int]:
    """Where windows start along a side, in px: 2/3 of a window apart, in whole places of `stride` px.

    mmsegmentation's configs for ADE20K have 426 of 640 px (configs/beit/beit-base_upernet_8xb2-160k_ade20k-640x640.py)
    and 341 of 512 (configs/convnext/convnext-base_upernet_8xb2-amp-160k_ade20k-512x512.py); MAE's has a half.
    """
    step = max(window * 2 // 3 // stride, 1) * stride
    return [*range(0, side - window, step), side - window]


def stitched(images: Tensor, window: int, at: Sequence[int], read: Callable[[Tensor], Tensor]) -> Tensor:
    """The map (N, D, h, w) of images (N, C, S, S), of what `read` gives of windows that start `at`, down and across.

    Raises ValueError where windows don't start at places; `misfit` says so before.
    """
    corners, side = [*product(at, at)], images.shape[-1]
    cut = torch.cat([images[:, :, y : y + window, x : x + window] for y, x in corners])
    count = max(len(images) * side**2 // window**2, 1)  # as many pixels a pass as the images have
    found = torch.cat([read(some) for some in cut.split(count)])  # (K * N, D, k, k)
    stride, rest = divmod(window, places := found.shape[-1])
    if rest or any(start % stride for start in (*at, side)):
        raise ValueError(f"windows of {window} px with {places} x {places} places do not tile images of {side} px")
    total = found.new_zeros(len(images), found.shape[1], side // stride, side // stride)
    seen = torch.zeros_like(total[0, 0])
    for one, (y, x) in zip(found.chunk(len(corners)), corners):
        here = (..., slice(y // stride, y // stride + places), slice(x // stride, x // stride + places))
        total[here] += one
        seen[here] += 1
    return total / seen


def misfit(encoder: Encoder, side: int, window: int) -> str:
    """Why windows can't make the map of images of `side` px, and what to set; empty where they can.

    Raises NotApplicable of an encoder without a map.
    """
    if encoder.local or not 0 < window < side:
        return ""
    stride, rest = divmod(side, whole := _places(encoder, side))
    if rest:
        return f"its map has {whole} x {whole} places for images of {side} px, no whole number of pixels each; take 0"
    if window % stride:
        lower = window // stride * stride
        return f"a place of its map is {stride} px wide; take {f'{lower} or ' if lower else ''}{lower + stride}"
    try:
        found = _places(encoder, window)
    except NotApplicable:
        raise
    except Exception as error:  # timm's networks refuse sizes in ways of their own
        return f"it can't take images of {window} px ({one_line(error)}); take 0"
    if found * stride != window:
        return f"its map has {found} x {found} places for {window} px and {whole} x {whole} for {side} px; take 0"
    return ""


@torch.no_grad()
def _places(encoder: Encoder, side: int) -> int:
    """Places along a side of the map of a blank image."""
    return encoder.eval().map(encoder.mean.new_zeros(1, encoder.mean.shape[1], side, side)).shape[-1]
