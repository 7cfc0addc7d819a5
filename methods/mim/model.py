"""Masked image modelling: hide patches, predict them from the rest (MAE, He et al. 2021, arXiv:2111.06377)."""

from copy import deepcopy
from dataclasses import replace
from math import log
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ssbench.encoders.encoder import Encoder
from ssbench.errors import NotApplicable, UserError
from ssbench.method import Batch, Cached, Method, Recipe, View
from ssbench.rng import onto
from ssbench.teacher import cosine, follow

from .architectures import ARCHITECTURES, Architecture, MAEDecoder, Seen, take
from .content import MASKS
from .masks import hidden_count, split
from .measures import measures
from .objective import ranking
from .online import Heads
from .pairs import PAIRS, Follows, Pair
from .regularisers import REGULARISERS
from .settings import MIMSettings, named
from .targets import TARGETS, Paints, Prepares, Target, Terms

GREY = 0.5  # hidden patches in pictures


class Predicted(NamedTuple):
    """What came of one masked batch."""

    seen: Seen  # by the encoder
    asked: Tensor  # (B, h): the places predicted
    cost: Tensor  # (B, h): how far off each prediction is
    terms: Terms  # the target's own


class MIM(Method):
    """A mask says which patches are hidden, a target what they must predict, an architecture how.

    loss = reconstruction + reg_weight * a regulariser + pair_weight * what two views must agree on; each is logged.
    Any mask goes with any target and any architecture; what a combination can't do, it says in one line.
    """

    Settings = MIMSettings
    settings: MIMSettings
    target: Target
    predict: Architecture
    pair: Pair | None
    heads: Heads | None
    rank: MAEDecoder | None
    rank_teacher: MAEDecoder | None
    version = 3  # crops are torchvision's; iBOT's head and temperatures
    recipes = {"own/vit": Recipe("project: benchmarks/rates.py on shapes, vit-nano", {"lr": 3e-3})}

    @property
    def views(self) -> list[View]:
        s = self.settings
        jitter = (s.jitter, s.jitter, s.saturation or s.jitter, s.hue)
        crop = (s.crop_min, 1.0)
        first = View(crop=crop, flip=s.flip, jitter=jitter, jitter_p=s.jitter_p, grey=s.grey, blur=s.blur)
        return [first] if s.pair == "none" else [first, replace(first, blur=s.blur / 10, solarise=s.solarise)]

    def build(self) -> None:
        s, encoder = self.settings, self.encoder
        self.mask, target, arch = MASKS[s.mask], TARGETS[s.target], ARCHITECTURES[s.arch]
        self.regularise, pair = REGULARISERS[s.reg], PAIRS[s.pair]
        if encoder.patch is None:
            raise UserError(
                "masked image modelling needs patch tokens that can be dropped: take a ViT such as vit-nano"
            )
        if s.visible and s.arch == "simmim":
            raise UserError(
                "mim.arch=simmim encodes hidden places too, so mim.visible saves nothing: take mae or cross"
            )
        wanted = named(target) | named(pair)
        self.heads = Heads(encoder, **self._named(Heads)) if "heads" in wanted else None
        self.target = target(encoder, **self._named(target))
        self.predict = arch(encoder, self.target.out, **self._named(arch))
        self.pair = pair(encoder, **self._named(pair)) if pair else None
        self.wants = named(self.mask)
        self.rank = MAEDecoder(encoder, 1, **self._named(MAEDecoder)) if "difficulty" in self.wants else None
        self.teacher = deepcopy(encoder).requires_grad_(False) if s.taught else None
        self.rank_teacher = deepcopy(self.rank).requires_grad_(False) if self.rank else None
        blank = encoder.mean.new_zeros(1, encoder.mean.shape[1], *encoder.trunk.patch_embed.img_size)  # (1, C, H, W)
        rows, columns = encoder.grid(blank)
        for key, ratio in () if s.visible else (("ratio", s.ratio), ("ratio_end", s.ratio_end or s.ratio)):
            if ratio <= s.ratio_spread:
                raise UserError(f"mim.ratio_spread={s.ratio_spread} is not below mim.{key}={ratio}: set a smaller one")
            if int(rows * columns * (1 - ratio - s.ratio_spread)) <= 0:
                spread = f" with mim.ratio_spread={s.ratio_spread:g}" if s.ratio_spread else ""
                raise UserError(
                    f"mim.{key}={ratio:g}{spread} hides all {rows * columns} patches: set it lower, or backbone.patch"
                )
        try:
            self.hide(blank, torch.Generator(), 0.0)  # refuses now what it can't do
        except NotApplicable as error:
            raise UserError(f"mim.mask={s.mask}: {error}") from None

    def prepare(self, images: Tensor, cached: Cached) -> None:
        if isinstance(self.target, Prepares):
            self.target.prepare(images, cached)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        images, s = batch.views[0], self.settings  # (B, C, H, W)
        found = self._predicted(images, batch.generator, batch.progress)
        terms = {"reconstruction": found.cost.mean(), **found.terms}
        if self.rank is not None:
            expected = self.rank(found.seen, found.asked, self.encoder.grid(images))[..., 0]  # (B, h)
            terms["ranking"] = ranking(expected, found.cost)
        if self.regularise is not None:
            with torch.autocast(images.device.type, enabled=False):
                terms[s.reg] = s.reg_weight * self.regularise(found.seen.patches.float().mean(1))
        if self.pair is not None:
            agreed = self.pair(found.seen, batch.views[1], images, self.encoder, self._teacher)
            terms[s.pair] = s.pair_weight * agreed
        return terms

    def reconstruction(self, images: Tensor, generator: torch.Generator, progress: float) -> Tensor:
        """The first term alone."""
        return self._predicted(images, generator, progress).cost.mean()

    def _predicted(self, images: Tensor, generator: torch.Generator, progress: float) -> Predicted:
        visible, asked = self.hide(images, generator, progress)  # (B, v), (B, h)
        target, own = self.target(images, self.teacher)  # (B, N) or (B, N, d)
        seen = self.predict.see(self.encoder, images, visible)
        prediction = self.predict(seen, asked, self.encoder.grid(images))  # (B, h, out)
        return Predicted(seen, asked, self.target.loss(prediction, take(target, asked)), own)

    def hide(self, images: Tensor, generator: torch.Generator, progress: float) -> tuple[Tensor, Tensor]:
        """Positions of the visible patches (B, v), and of the hidden ones that are to be predicted (B, h)."""
        s, grid = self.settings, self.encoder.grid(images)
        count = self._count(grid[0] * grid[1], generator, progress)
        with torch.autocast(images.device.type, enabled=False):  # ranks of patches have no ties in float32
            mask = self.mask(images, grid, count, generator, **self.context(images, progress))  # (B, N)
        visible, hidden = split(mask, count)
        asked = max(int(count * s.asked), 1)
        if asked < count:
            order = torch.rand(hidden.shape, generator=generator).argsort(1)[:, :asked]
            hidden = hidden.gather(1, onto(order, hidden.device))
        return visible, hidden

    def _count(self, patches: int, generator: torch.Generator, progress: float) -> int:
        """How many patches each image of this step hides."""
        s = self.settings
        if s.visible:
            if s.visible >= patches:
                raise UserError(f"mim.visible={s.visible} hides nothing of {patches} patches: set a smaller number")
            return patches - s.visible
        ratio = s.ratio + (s.ratio_end - s.ratio) * progress if s.ratio_end else s.ratio
        if s.ratio_spread:
            ratio += s.ratio_spread * (2 * float(torch.rand((), generator=generator)) - 1)
        return hidden_count(patches, ratio)

    @torch.no_grad()
    def context(self, images: Tensor, progress: float) -> dict[str, Any]:
        """What the mask names: settings, or what has to be worked out."""
        known: dict[str, Any] = {**self._named(self.mask)}
        if "progress" in self.wants:
            known["progress"] = progress
        if "attention" in self.wants:
            known["attention"] = self._teacher.attention(images)
        if "difficulty" in self.wants:
            grid = self.encoder.grid(images)
            everywhere = torch.arange(grid[0] * grid[1], device=images.device).expand(len(images), -1)
            seen = Seen(*self._teacher.sequence(images), everywhere)
            assert self.rank_teacher is not None
            known["difficulty"] = self.rank_teacher.decode(seen, everywhere[:, :0], grid)[..., 0]  # HPM: nothing masked
        return known

    def _named(self, part: Any) -> dict[str, Any]:
        """The settings that a part names, and the heads."""
        known: dict[str, Any] = {name: getattr(self.settings, name) for name in MIMSettings.model_fields}
        known["heads"] = getattr(self, "heads", None)
        return {name: known[name] for name in named(part) & known.keys()}

    @property
    def _teacher(self) -> Encoder:
        assert self.teacher is not None
        return self.teacher

    def chance(self, images: int) -> dict[str, float]:
        s, found = self.settings, {}
        if self.target.choices:
            found["reconstruction"] = log(self.target.choices)
        if self.pair is not None:
            found[s.pair] = s.pair_weight * log(self.pair.choices or images)
        return found

    def after_step(self, progress: float) -> None:
        if self.teacher is None:
            return
        s = self.settings
        momentum = cosine(s.momentum, s.momentum_end, progress)
        follow(self.teacher, self.encoder, momentum)
        if self.rank is not None and self.rank_teacher is not None:
            follow(self.rank_teacher, self.rank, momentum)
        if self.heads is not None:
            self.heads.follow(momentum, progress)
        if isinstance(self.pair, Follows):
            self.pair.follow(momentum)

    def judged(self) -> Encoder:
        return self._teacher if self.settings.judge == "teacher" else self.encoder

    def picture(self, images: Tensor) -> Tensor | None:
        """Image, what is visible, and for targets that are pixels the visible patches with the predicted ones.

        The mask is that of the end of training, whenever the picture is taken.
        """
        patch, grid = self.encoder.patch, self.encoder.grid(images)
        assert patch is not None
        visible, _ = self.hide(images, torch.Generator().manual_seed(0), 1.0)
        shown = torch.zeros(len(images), grid[0] * grid[1], device=images.device).scatter_(1, visible, 1)
        panels = [self._pixels(images), self._painted(images, torch.full_like(images, GREY), shown)]
        if isinstance(self.target, Paints):
            _, hidden = split(1 - shown, shown.shape[1] - visible.shape[1])
            said = self.predict(self.predict.see(self.encoder, images, visible), hidden, grid)  # (B, h, out)
            true, _ = self.target(images, self.teacher)  # stands in the visible places
            true = nn.functional.one_hot(true, said.shape[-1]).to(said) if true.ndim == 2 else true
            predicted = self.target.paint(true.scatter(1, hidden[..., None].expand_as(said), said.to(true)), images)
            if predicted is not None:
                cells = predicted.unflatten(2, (patch, patch, -1)).unflatten(1, grid)  # (B, rows, columns, p, p, C)
                whole = cells.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)  # (B, C, H, W)
                panels.append(self._painted(images, self._pixels(whole), shown))
        return torch.stack(panels, 1)

    def _pixels(self, images: Tensor) -> Tensor:
        return (images * self.encoder.std + self.encoder.mean).clamp(0, 1)

    def _painted(self, images: Tensor, other: Tensor, shown: Tensor) -> Tensor:
        """Normalised `images` where `shown` (B, N), elsewhere `other`, which is in 0..1 as the result is."""
        cells = shown.unflatten(1, self.encoder.grid(images))[:, None]  # (B, 1, rows, columns)
        where = nn.functional.interpolate(cells, images.shape[-2:], mode="nearest").bool()
        return torch.where(where, self._pixels(images), other)

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        return measures(self, images, objects)
