"""How much features move when an image is changed: a profile over augmentations, a description and no ranking.

Invariance to what an augmentation changes is what contrastive pretraining asks for and what a task that needs it
suffers from (Xiao et al. 2021, arXiv:2008.05659); equivariance and invariance of features are compared in Lenc and
Vedaldi 2015, arXiv:1411.5908.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.features import Part
from ssbench.method import View
from ssbench.results.metrics import Metric
from ssbench.task import Bench, Outcome, Task, Work
from ssbench.training import views

from .corruptions import on_pixels

DEAD = 1e-5  # of the mean's length, under which a difference from it is one of rounding
WHOLE = (1.0, 1.0)  # the crop of the image itself is no crop

VIEWS = {  # SimCLR's, and BYOL's solarisation, at their strengths, each by itself and always
    "crop": View(crop=(0.2, 1.0), flip=0),
    "flip": View(crop=WHOLE, flip=1),
    "colour": View(crop=WHOLE, flip=0, jitter=(0.8, 0.8, 0.8, 0), jitter_p=1),
    "hue": View(crop=WHOLE, flip=0, jitter=(0, 0, 0, 0.2), jitter_p=1),
    "grey": View(crop=WHOLE, flip=0, grey=1),
    "blur": View(crop=WHOLE, flip=0, blur=1),
    "solarise": View(crop=WHOLE, flip=0, solarise=1),
}
COLOURED = ("hue", "grey")  # need three channels


def moved(turn: float, zoom: float, shift: float) -> Callable[[Tensor, torch.Generator], Tensor]:
    """Each image turned by up to `turn` radians, scaled by up to `zoom` either way, shifted by up to `shift` sides."""

    def change(x: Tensor, generator: torch.Generator) -> Tensor:
        drawn = 2 * torch.rand(len(x), 4, generator=generator) - 1
        angle, size = drawn[:, 0] * turn, torch.exp(drawn[:, 1] * math.log(zoom))
        theta = torch.empty(len(x), 2, 3)
        theta[:, 0, 0] = theta[:, 1, 1] = size * angle.cos()
        theta[:, 0, 1], theta[:, 1, 0] = -size * angle.sin(), size * angle.sin()
        theta[:, :, 2] = 2 * shift * drawn[:, 2:]
        grid = F.affine_grid(theta.to(x), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)

    return change


OTHERS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "translation": moved(0, 1, 0.125),
    "scale": moved(0, 4 / 3, 0),
    "rotation": moved(math.pi / 6, 1, 0),
    "quarter turn": lambda x, generator: x.rot90(1, (2, 3)),
    "upside down": lambda x, generator: x.flip(2),
    "noise": lambda x, generator: x + 0.1 * torch.randn(x.shape, generator=generator).to(x),
}


class Invariance(Task):
    """Per augmentation 100 * (1 - d / D), averaged over the images of the test; the headline averages augmentations.

    Features of the encoder's first pooling, less their mean on `fit`, are scaled to length 1. d is the squared
    distance of an image and its changed self, D the mean over pairs of different images: 100 where nothing moves, 0
    where an image and its changed self are as far apart as any two. Features that are all alike are 0, not 100.
    Higher is not better as such. Nothing is chosen; the sweep has the same profile on `select`.
    """

    needs = frozenset()
    metrics = (Metric("invariance", "%", "higher", "mean"),)

    def work(self, bench: Bench) -> Work:
        fit, select, test = bench.sizes
        return Work(fit + select + test, changed=(select + test) * len(names(bench.fit.images.shape[1])))

    def evaluate(self, bench: Bench) -> Outcome:
        mean = bench.fit.pooled().mean(0)
        sweep = [
            {"augmentation": name, "select_invariance": value.mean().item()}
            for name, value in profile(bench, bench.select, mean).items()
        ]
        selected = {"pooling": bench.fit.poolings[0], "centre": "fit"}
        found = profile(bench, bench.test(selected), mean)
        outcome = Outcome(selected, sweep)
        outcome.add("invariance", value=torch.stack([*found.values()]).mean(0))
        outcome.details["profile"] = {"augmentation": {name: value.mean().item() for name, value in found.items()}}
        return outcome


def names(channels: int) -> list[str]:
    """The augmentations of images with so many channels."""
    return [name for name in (*VIEWS, *OTHERS) if channels == 3 or name not in COLOURED]


def profile(bench: Bench, part: Part, mean: Tensor) -> dict[str, Tensor]:
    """How invariant each image is (N,), in %, by augmentation; `mean` (D,) is taken off features."""
    found, own = {}, directions(part.pooled(), mean)
    apart = 2 - 2 * (own.sum(0).square().sum() - own.square().sum()) / max(len(own) * (len(own) - 1), 1)
    for name in names(part.images.shape[1]):
        bench.progress(f"invariance: {name}")
        changed = augmented(part.images, name, bench.generator(name))
        away = (directions(part.changed(changed).pooled(), mean) - own).square().sum(1)
        found[name] = 100 * (1 - away / apart.clamp(min=1e-6)) if own.any() else torch.zeros_like(away)
    return found


def augmented(images: Tensor, name: str, generator: torch.Generator) -> Tensor:
    """uint8 images (N, C, S, S), each changed by numbers of its own."""

    def change(x: Tensor) -> Tensor:
        if name in OTHERS:
            return OTHERS[name](x, generator)
        return views.make(VIEWS[name], x, int(torch.randint(2**62, (1,), generator=generator)))

    return on_pixels(images, change)


def directions(features: Tensor, mean: Tensor) -> Tensor:
    """Features (N, D) less their mean, at length 1, and at 0 where the difference is one of rounding."""
    centred = features - mean
    length = centred.norm(dim=1, keepdim=True)
    return centred / length.clamp(min=1e-12) * (length > DEAD * mean.norm())
