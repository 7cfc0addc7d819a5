"""DINOv2: DINO's crops and iBOT's hidden patches at once, balanced and spread (Oquab et al. 2023, arXiv:2304.07193)."""

from math import log

import torch
from lightly.loss import KoLeoLoss
from torch import Tensor, nn

from ssbench.encoders.encoder import Encoder
from ssbench.errors import UserError
from ssbench.method import Batch, Method, Recipe, View
from ssbench.rng import onto
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.teacher import Teacher, cosine

from ..parts.assign import sinkhorn
from ..parts.heads import Prototypes
from .prototypes import agreement, crops, skipping, take, usage, vector, warmed

TAUGHT = 2  # the full-size crops
MASKED, RATIO = 0.5, (0.1, 0.5)  # share of them with hidden patches, and of patches (ssl_default_config.yaml)
SMALLEST, ASPECT, ROUNDS = 4, 0.3, 10  # patches of a block, and one side to the other (masking.py); blocks in all


class DINOv2(Method):
    """dino + ibot + koleo, of one student that sees half of the full-size crops with patches hidden.

    `dino`: each crop predicts the teacher's prototypes for each other full-size crop. `ibot`: hidden patches predict
    the teacher's for them, which sees all; crops without count as zero. `koleo`: images of a crop keep their distance.
    The teacher's are balanced by Sinkhorn (vitl14.yaml), over crops and over hidden patches; one head serves both
    (ssl_default_config.yaml).
    """

    class Settings(Base):
        # Sinkhorn leaves none of them without images: not more than there are crops to balance
        prototypes: int = setting(128, "what the head chooses from", source="project: two batches; 65536", ge=2)
        hidden: int = setting(512, "head's hidden width", source="project: DINOv2 2048", ge=1)
        bottleneck: int = setting(64, "width of the head's unit vectors", source="project: DINOv2 256", ge=1)
        momentum: float = setting(0.99, "the teacher's at the start", source="project: DINOv2 0.992", ge=0, le=1)
        temperature: float = setting(
            0.1, "divides the student's cosines", source="DINOv2, dino_clstoken_loss.py", ge=0.01
        )
        teacher_first: float = setting(0.04, "the same of the teacher at first", source="DINOv2, its config", ge=0.01)
        teacher_last: float = setting(0.07, "and after the warm-up", source="DINOv2, its config", ge=0.01)
        warmup: float = setting(0.3, "its length", source="DINOv2, 30 of 100 epochs", unit="budget", ge=0, le=1)
        iterations: int = setting(3, "Sinkhorn iterations", source="DINOv2, dino_clstoken_loss.py", ge=1)
        ibot: float = setting(1.0, "weight of the hidden patches", source="DINOv2, its config", ge=0)
        koleo: float = setting(0.1, "weight of the distances", source="DINOv2, its config", ge=0)
        freeze: float = setting(0.05, "last layer rests so long", source="project: DINOv2 1 epoch", unit="budget", ge=0)
        drop_path: float = setting(
            0.05, "chance that a block of the student is skipped", source="project: 3 blocks; 0.3 of 24", ge=0, lt=1
        )
        crop_min: float = setting(0.32, "smallest full-size crop", source="DINOv2, its config", unit="area", gt=0, le=1)
        local_crops: int = setting(4, "half-size crops", source="project: the work of one full crop; DINOv2 8", ge=0)
        # DINOv2's smallest of 0.05 would be 7 of 32 px: too little to tell an object by
        local_min: float = setting(0.14, "smallest half-size crop", source="as swav: 0.05", unit="area", gt=0, le=1)
        local_max: float = setting(0.32, "largest half-size crop", source="DINOv2, its config", unit="area", gt=0, le=1)
        # a blur at 32 px leaves little to see
        blur: float = setting(0.0, "blur of the first crop, as dino.blur", source="project: DINOv2 1", ge=0, le=1)

    settings: Settings
    version = 2  # lengths of prototypes are learned, and all blocks are skipped alike
    recipes = {
        "imagenet/vit": Recipe(
            "DINOv2, ssl_default_config.yaml on 4 nodes (README.md), with train/vitl14.yaml's Sinkhorn",
            {"lr": 2e-3, "scaling": "sqrt", "weight_decay": 0.04, "weight_decay_end": 0.4, "beta2": 0.999}
            | {"batch": 2048, "warmup": 0.1},
            {"prototypes": 65536, "hidden": 2048, "bottleneck": 256, "momentum": 0.992, "freeze": 0.01}
            | {"drop_path": 0.3, "local_crops": 8, "local_min": 0.05, "blur": 1.0},
        ),
    }

    @property
    def views(self) -> list[View]:
        s = self.settings
        return crops((s.crop_min, 1.0), (s.local_min, s.local_max), s.local_crops, s.blur)

    def build(self) -> None:
        s = self.settings
        if not self.encoder.has_tokens:
            raise UserError("dinov2 needs patch tokens that can be hidden: take a ViT such as vit-nano")
        if s.local_min > s.local_max:
            raise UserError(f"dinov2.local_min={s.local_min} is above dinov2.local_max={s.local_max}; lower it")
        self.head = Prototypes(self.encoder.dim, s.hidden, s.bottleneck, s.prototypes, lengths=True)
        self.mask_token = nn.Parameter(torch.zeros(self.encoder.dim))
        self.teacher = Teacher(self.encoder, self.head)
        self.distance = KoLeoLoss()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        s, encoder = self.settings, self.encoder
        large, small = torch.cat(batch.views[:TAUGHT]), batch.views[TAUGHT:]
        order = torch.randperm(len(large), generator=batch.generator)  # in which the first have hidden patches
        back, large = onto(order.argsort(), large.device), large[onto(order, large.device)]
        masked = int(len(large) * MASKED)
        hidden = onto(hide(masked, encoder.grid(large), batch.generator), large.device)  # (M, n)
        codes, patch_codes = self._taught(large, hidden, batch.progress)  # (2 * B, K), (M * n, K)
        with skipping(encoder.trunk, s.drop_path, uniform=True):
            parted = encoder.sequence_with_masks(large[:masked], hidden, self.mask_token)
            whole = encoder.sequence(large[masked:])
            local = [encoder.pooled(torch.cat(small))] if small else []
        vectors = torch.cat([vector(encoder, parted), vector(encoder, whole)])[back]  # (2 * B, D)
        said = self.head(torch.cat([vectors, *local]))  # (V * B, K)
        patches = self.head(take(parted.patches, hidden).flatten(0, 1))  # (M * n, K)
        with torch.autocast(large.device.type, enabled=False):  # the head's outputs are float32
            views, taught = said.unflatten(0, (len(batch.views), -1)), codes[back].unflatten(0, (TAUGHT, -1))
            surprise = -(patch_codes * (patches / s.temperature).log_softmax(1)).sum(1).mean()
            near = torch.stack([self.distance(one) for one in vectors.float().chunk(TAUGHT)]).sum()
            return {
                "dino": agreement(views / s.temperature, taught),
                "ibot": s.ibot * surprise * masked / len(large),
                "koleo": s.koleo * near,
            }

    @torch.no_grad()
    def _taught(self, large: Tensor, hidden: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """The teacher's balanced codes for crops, and for the hidden patches of the first of them."""
        s, encoder, head = self.settings, self.teacher.encoder, self.teacher.parts[1]
        temperature = warmed(s.teacher_first, s.teacher_last, s.warmup, progress)
        found = encoder.sequence(large)
        patches = take(found.patches[: len(hidden)], hidden).flatten(0, 1)
        codes = [sinkhorn(head(one), temperature, s.iterations) for one in (vector(encoder, found), patches)]
        return codes[0], codes[1]

    def chance(self, images: int) -> dict[str, float]:
        guessed = log(self.settings.prototypes)
        return {"dino": guessed, "ibot": self.settings.ibot * MASKED * guessed}

    def before_step(self, progress: float) -> None:
        if progress < self.settings.freeze:
            for weight in self.head.last_layer.parameters():
                weight.grad = None

    def after_step(self, progress: float) -> None:
        self.teacher.follow(cosine(self.settings.momentum, 1.0, progress))

    def judged(self) -> Encoder:
        return self.teacher.encoder

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        return usage((self.teacher(images).float() / self.settings.teacher_last).softmax(1))


def hide(images: int, grid: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Places (images, n) to hide, of a number n that is drawn for all: blocks, and what they leave missing at random.

    Areas are uniform from SMALLEST to n patches and logs of the aspect up to ASPECT (DINOv2, masking.py). Patches of
    earlier blocks come first, so that those of the last one are what is trimmed to n.
    """
    rows, columns = grid
    ratio = RATIO[0] + (RATIO[1] - RATIO[0]) * float(torch.rand((), generator=generator))
    count = max(int(rows * columns * ratio), 1)
    smallest = min(SMALLEST, count)
    size, stretch, down, across = torch.rand(4, images, ROUNDS, 1, generator=generator)
    area, aspect = smallest + size * (count - smallest), ASPECT ** (2 * stretch - 1)
    height = (area * aspect).sqrt().round().clamp(1, rows)
    width = (area / aspect).sqrt().round().clamp(1, columns)
    top, left = (down * (rows - height + 1)).floor(), (across * (columns - width + 1)).floor()
    row, column = torch.arange(rows * columns) // columns, torch.arange(rows * columns) % columns
    inside = (row >= top) & (row < top + height) & (column >= left) & (column < left + width)  # (images, ROUNDS, N)
    first = torch.where(inside.any(1), inside.int().argmax(1), ROUNDS)  # (images, N): in which block
    return (first + torch.rand(first.shape, generator=generator)).argsort(1)[:, :count]
