"""Views that several families take."""

from ssbench.method import View


def asymmetric(crop_min: float, blur: float) -> list[View]:
    """BYOL's two views (utils/augmentations.py): the first is blurred more often, the second alone is solarised.

    Barlow Twins (main.py), VICReg (augmentations.py) and MoCo v3 (main_moco.py) have the same, with a `blur` of 1.
    """
    jitter = (0.4, 0.4, 0.2, 0.1)
    first = View(crop=(crop_min, 1.0), jitter=jitter, grey=0.2, blur=blur)
    return [first, View(crop=(crop_min, 1.0), jitter=jitter, grey=0.2, blur=blur / 10, solarise=0.2)]
