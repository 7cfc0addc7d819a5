"""`digits`: scikit-learn's 1,797 handwritten digits, 8 x 8 and grey, made larger; nothing is downloaded."""

import hashlib

from ssbench.data import Source, Split, held_out
from ssbench.errors import UserError
from ssbench.spec import DataSettings

SIZE = 32  # px, by default
BRIGHTEST = 16  # of the values 0..16 in the data


def identify(argument: str, settings: DataSettings) -> tuple[str, str]:
    """The name and the fingerprint of the pixels and labels; raises UserError on `digits:anything`."""
    from sklearn.datasets import load_digits  # slow to import

    if argument:
        raise UserError(f"digits:{argument}: digits takes no argument")
    digits = load_digits()
    content = digits.images.astype("uint8").tobytes() + digits.target.astype("uint8").tobytes()
    return "digits", hashlib.sha256(content).hexdigest()[:16]


def read(argument: str, settings: DataSettings) -> Source:
    """One split, grey images (1797, 1, S, S), enlarged bicubically."""
    import torch
    import torch.nn.functional as F
    from sklearn.datasets import load_digits

    digits, side = load_digits(), settings.image_size or SIZE
    images = torch.from_numpy(digits.images).float()[:, None] * (255 / BRIGHTEST)  # (N, 1, 8, 8)
    images = F.interpolate(images, (side, side), mode="bicubic", antialias=True)  # (N, 1, S, S)
    labels = torch.from_numpy(digits.target).long()
    pixels = images.round().clamp(0, 255).to(torch.uint8)
    train = Split(pixels, tuple(map(str, range(len(labels)))), {"label": labels})
    return Source(held_out("digits", {"train": train}), classes=tuple("0123456789"))
