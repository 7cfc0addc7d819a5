"""What a hidden patch must predict. A target is a function: (images (B, C, H, W), patch in px) -> (B, N, d).

Images are normalised by the data's mean and deviation; patches are in row-major order.
"""

from collections.abc import Callable

from torch import Tensor

from ssbench.errors import UserError

Target = Callable[[Tensor, int], Tensor]

EPSILON = 1e-6  # added to a patch's variance (MAE, models_mae.py)


def pixels(images: Tensor, patch: int) -> Tensor:
    """The pixels of each patch, (B, N, patch * patch * C), in the order row, column, channel."""
    cut = images.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))  # (B, C, rows, patch, columns, patch)
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def pixels_normed(images: Tensor, patch: int) -> Tensor:
    """Pixels with each patch's own mean 0 and variance 1, over all its channels together (MAE, He et al. 2021).

    The variance is the unbiased one, as in MAE's code. Raises UserError on patches of a single value.
    """
    values = pixels(images.float(), patch)
    if values.shape[-1] == 1:
        raise UserError("mim.target=pixels-normed needs more than one value a patch: take mim.target=pixels")
    return (values - values.mean(-1, keepdim=True)) / (values.var(-1, keepdim=True) + EPSILON).sqrt()


TARGETS: dict[str, Target] = {"pixels": pixels, "pixels-normed": pixels_normed}
