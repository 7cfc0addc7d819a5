"""How far predictions are from what is hidden."""

from torch import Tensor


def lp(prediction: Tensor, target: Tensor, p: float) -> Tensor:
    """Mean of |difference|^p over values, hidden patches and images, in float32; 2 is MAE's, 1 SimMIM's.

    Every image hides the same number of patches, so this equals the mean over images of each image's mean.
    """
    return (prediction.float() - target.float()).abs().pow(p).mean()
