"""Colorization: tell colours from lightness (Zhang et al. 2016, arXiv:1603.08511)."""

from functools import lru_cache
from math import log

import torch
import torch.nn.functional as F
from kornia.color import rgb_to_lab
from torch import Tensor, nn

from ssbench.errors import UserError
from ssbench.method import Batch, Cached, Method, Recipe, View
from ssbench.settings import Settings as Base
from ssbench.settings import setting

NEAREST, SIGMA = 5, 5.0  # bins of a soft target, and the Gaussian that weighs them: section 2.1
CHUNK = 256  # images at once, when the colours of all are counted


class Colorization(Method):
    """Cross-entropy of the colour at each place of the encoder's map, whose input is the lightness in all channels.

    A colour is the mean of the place's a and b in CIE Lab, and its target the five nearest bins, by a Gaussian of their
    distance. A place weighs by how rare its likeliest bin is among the training images: 1 / (0.5 p + 0.5 / bins), 1 on
    average. Without `prepare` all weigh alike.
    """

    class Settings(Base):
        bin: float = setting(10.0, "side of a bin of a and b", source="Colorization, section 2.1", ge=5, le=40)
        rebalance: float = setting(
            0.5, "share of equal weights; 1: no rebalancing", source="Colorization, section 2.2", gt=0, le=1
        )
        crop_min: float = setting(
            0.47, "smallest crop", source="richzhang/colorization: 176 of 256 px", unit="area", gt=0, le=1
        )

    settings: Settings
    bins: Tensor
    weight: Tensor
    guess: Tensor
    recipes = {
        "own/vit": Recipe("project: benchmarks/rates.py on shapes, vit-nano", {"lr": 7e-4}),
        "own/conv": Recipe("project: benchmarks/rates.py on shapes, resnet-nano", {"lr": 6e-3}),
        "imagenet/conv": Recipe(
            "richzhang/colorization, train/solver.prototxt and models/colorization_train_val_v2.prototxt; Adam",
            {"lr": 3e-5, "beta2": 0.99, "weight_decay": 1e-3, "batch": 40, "warmup": 0, "clip": 0},
        ),
    }

    @property
    def views(self) -> list[View]:
        return [View(crop=(self.settings.crop_min, 1.0))]

    def build(self) -> None:
        channels = self.encoder.mean.shape[1]
        if channels != 3:
            raise UserError(f"colorization tells red, green and blue, and these images have {channels} channels")
        bins = gamut(self.settings.bin)
        self.register_buffer("bins", bins)  # (Q, 2)
        self.register_buffer("weight", torch.ones(len(bins)))
        self.register_buffer("guess", torch.tensor(log(len(bins))))  # loss of the best constant answer
        self.head = nn.Conv2d(self.encoder.dim, len(bins), 1)

    def prepare(self, images: Tensor, cached: Cached) -> None:
        """Count how often each bin is a training image's."""
        grid = self._grid(images.shape[-1])
        name = f"colours of {grid[0]}x{grid[1]} places, bin {self.settings.bin:g}"
        joint = cached(name, lambda: _counted(images, grid, self.bins.cpu()))["joint"]  # (Q, Q)
        weight = 1 / torch.lerp(joint.sum(0), torch.tensor(1 / len(joint)), self.settings.rebalance)
        weight /= (joint.sum(1) * weight).sum()
        likely = weight @ joint  # (Q,): the best answer that is the same for all; sums to 1
        self.weight.copy_(weight)
        self.guess.copy_(-(likely * likely.clamp(min=1e-12).log()).sum())

    @torch.no_grad()
    def _grid(self, size: int) -> tuple[int, int]:
        training = self.encoder.training
        h, w = self.encoder.eval().map(self.encoder.mean.new_zeros(1, 3, size, size)).shape[-2:]
        self.encoder.train(training)
        return h, w

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        scores, target = self._told(batch.views[0])  # both (B, h, w, Q)
        surprise = -(target * scores.log_softmax(3)).sum(3)
        return {"colour": (self.weight[target.argmax(3)] * surprise).mean()}

    def _told(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and soft targets of normalised images (B, 3, S, S), both (B, h, w, Q)."""
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 tells few colours apart
            pixels = (images.float() * self.encoder.std + self.encoder.mean).clamp(0, 1)
            lab = rgb_to_lab(pixels)  # (B, 3, S, S)
            light = self.encoder.normalise((lab[:, :1] / 100).expand_as(lab))
        scores = self.head(self.encoder.map(light)).float().permute(0, 2, 3, 1)
        colours = F.adaptive_avg_pool2d(lab[:, 1:], scores.shape[1:3]).permute(0, 2, 3, 1)  # (B, h, w, 2)
        return scores, soft(colours, self.bins)

    def chance(self, images: int) -> dict[str, float]:
        return {"colour": float(self.guess)}

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        """Mean distance in a and b of the bins' mean under what is told, and that of grey."""
        scores, target = self._told(images)
        true = target @ self.bins
        told = scores.softmax(3) @ self.bins
        return {"colour_error": (told - true).norm(dim=3).mean().item(), "grey_error": true.norm(dim=3).mean().item()}


def soft(colours: Tensor, bins: Tensor) -> Tensor:
    """Colours (..., 2) -> (..., Q): the nearest bins by a Gaussian of their distance, which sum to 1."""
    apart = (colours[..., None, :] - bins).square().sum(-1)  # (..., Q)
    near, which = apart.topk(NEAREST, largest=False)
    return torch.zeros_like(apart).scatter(-1, which, (-near / (2 * SIGMA**2)).softmax(-1))


@lru_cache
def gamut(side: float) -> Tensor:
    """Centres (Q, 2) of the squares of this side that hold the a and b of some colour of sRGB."""
    level = torch.linspace(0, 1, 64)
    colours = torch.cartesian_prod(level, level, level).T.reshape(1, 3, -1, 1)
    return (rgb_to_lab(colours)[0, 1:, :, 0].T / side).round().unique(dim=0) * side


def _counted(images: Tensor, grid: tuple[int, int], bins: Tensor) -> dict[str, Tensor]:
    """Of uint8 images (N, 3, S, S): share of places by likeliest bin, in rows, spread as their soft targets are."""
    joint = torch.zeros(len(bins), len(bins))
    for some in images.split(CHUNK):
        colours = rgb_to_lab(some.cpu().float() / 255)[:, 1:]
        target = soft(F.adaptive_avg_pool2d(colours, grid).permute(0, 2, 3, 1).flatten(0, 2), bins)
        joint.index_add_(0, target.argmax(1), target)
    return {"joint": joint / joint.sum()}
