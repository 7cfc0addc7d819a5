"""DINO: crops predict which prototypes a slow teacher sees in other crops (Caron et al. 2021, arXiv:2104.14294)."""

from math import log

import torch
from lightly.loss import DINOLoss
from torch import Tensor

from ssbench.encoders.encoder import Encoder
from ssbench.errors import UserError
from ssbench.method import Batch, Method, Recipe, View
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.teacher import Teacher, cosine

from ..parts.heads import Prototypes
from .prototypes import crops, skipping, usage, warmed

TAUGHT = 2  # the full-size crops, of which the teacher tells what is in them
PUBLISHED = {"prototypes": 65536, "hidden": 2048, "bottleneck": 256, "teacher_last": 0.04, "momentum": 0.996}
PUBLISHED |= {"freeze": 0.01, "local_crops": 8, "local_min": 0.05, "blur": 1.0}


class DINO(Method):
    """Cross-entropy of the student's prototypes in each crop with the teacher's in each other full-size crop.

    The teacher is centred by the mean of its earlier outputs and sharpened. It is what is judged.
    """

    class Settings(Base):
        prototypes: int = setting(256, "what the head chooses from", source="project: small data; DINO 65536", ge=2)
        hidden: int = setting(512, "head's hidden width", source="project: DINO 2048", ge=1)
        bottleneck: int = setting(64, "width of the head's unit vectors", source="project: DINO 256", ge=1)
        momentum: float = setting(0.99, "the teacher's at the start", source="project: DINO 0.996", ge=0, le=1)
        temperature: float = setting(0.1, "divides the student's cosines", source="DINO, main_dino.py", ge=0.001)
        teacher_first: float = setting(0.04, "the same of the teacher at first", source="DINO, main_dino.py", ge=0.001)
        # README.md's 0.07 left the loss at log K for all of 300 steps on shapes
        teacher_last: float = setting(0.04, "and after the warm-up", source="DINO, main_dino.py", ge=0.001)
        warmup: float = setting(
            0.3, "its length", source="DINO, README.md: 30 of 100 epochs", unit="budget", ge=0, le=1
        )
        centring: float = setting(0.9, "the centre's momentum", source="DINO, main_dino.py", ge=0, lt=1)
        freeze: float = setting(0.05, "last layer rests so long", source="project: DINO 1 epoch", unit="budget", ge=0)
        drop_path: float = setting(
            0.05, "most that blocks of the student are skipped", source="project: 3 blocks; DINO 0.1 of 12", ge=0, lt=1
        )
        crop_min: float = setting(0.4, "smallest full-size crop", source="DINO, main_dino.py", unit="area", gt=0, le=1)
        local_crops: int = setting(4, "half-size crops", source="project: the work of one full crop; DINO 8", ge=0)
        # DINO's smallest of 0.05 would be 7 of 32 px: too little to tell an object by
        local_min: float = setting(
            0.14, "smallest half-size crop", source="as swav: DINO 0.05", unit="area", gt=0, le=1
        )
        local_max: float = setting(0.4, "largest half-size crop", source="DINO, main_dino.py", unit="area", gt=0, le=1)
        # a blur at 32 px leaves little to see
        blur: float = setting(
            0.0,
            "blur of the first crop; a tenth for the second, half for small ones",
            source="project: DINO 1",
            ge=0,
            le=1,
        )

    settings: Settings
    recipes = {
        "own/vit": Recipe("project: benchmarks/rates.py on shapes, vit-nano", {"lr": 3e-3}),
        "own/conv": Recipe("project: benchmarks/rates.py on shapes, resnet-nano", {"lr": 6e-3}),
        "cifar/conv": Recipe(
            "solo-learn, scripts/pretrain/cifar/dino.yaml",
            {"optimiser": "lars", "trust": 0.02, "lr": 0.3, "scaling": "linear", "weight_decay": 1e-6, "batch": 256}
            | {"trust_clip": True, "warmup": 0.01, "clip": 0},
            {"prototypes": 4096, "hidden": 2048, "bottleneck": 256, "momentum": 0.9995, "freeze": 0.001}
            | {"teacher_last": 0.07, "warmup": 0, "drop_path": 0, "local_crops": 0, "crop_min": 0.08},
        ),
        "imagenet/vit": Recipe(
            "DINO, README.md, vanilla ViT-S/16, 100 epochs, main_dino.py's defaults",
            {"lr": 5e-4, "scaling": "linear", "weight_decay": 0.04, "weight_decay_end": 0.4, "beta2": 0.999}
            | {"batch": 512, "warmup": 0.1},
            {**PUBLISHED, "drop_path": 0.1},
        ),
        "imagenet/conv": Recipe(
            "DINO, README.md, ResNet-50",
            {"optimiser": "sgd", "lr": 0.03, "scaling": "linear", "weight_decay": 1e-4, "batch": 512, "warmup": 0.1},
            {**PUBLISHED, "drop_path": 0, "crop_min": 0.14, "local_max": 0.14},
        ),
    }

    @property
    def views(self) -> list[View]:
        s = self.settings
        return crops((s.crop_min, 1.0), (s.local_min, s.local_max), s.local_crops, s.blur)

    def build(self) -> None:
        s = self.settings
        if s.local_min > s.local_max:
            raise UserError(f"dino.local_min={s.local_min} is above dino.local_max={s.local_max}; lower it")
        self.head = Prototypes(self.encoder.dim, s.hidden, s.bottleneck, s.prototypes)
        self.teacher = Teacher(self.encoder, self.head)
        self.criterion = DINOLoss(s.prototypes, student_temp=s.temperature, center_momentum=s.centring)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        sizes = [batch.views[:TAUGHT], batch.views[TAUGHT:]]
        with skipping(self.encoder.trunk, self.settings.drop_path):
            told = [self.head(self.encoder.pooled(torch.cat(seen))) for seen in sizes if seen]
        students = torch.cat(told)  # (V * B, K)
        teachers = self.teacher(torch.cat(batch.views[:TAUGHT]))  # (2 * B, K)
        said, taught = students.chunk(len(batch.views)), teachers.chunk(TAUGHT)
        with torch.autocast(students.device.type, enabled=False):  # the head's outputs are float32
            return {"dino": self.criterion(taught, said, teacher_temp=self._temperature(batch.progress))}

    def chance(self, images: int) -> dict[str, float]:
        return {"dino": log(self.settings.prototypes)}

    def before_step(self, progress: float) -> None:
        if progress < self.settings.freeze:
            for weight in self.head.last_layer.parameters():
                weight.grad = None

    def after_step(self, progress: float) -> None:
        self.teacher.follow(cosine(self.settings.momentum, 1.0, progress))

    def judged(self) -> Encoder:
        return self.teacher.encoder

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        centred = self.teacher(images) - self.criterion.center.flatten()  # (B, K)
        return usage((centred / self._temperature(1.0)).softmax(1))

    def _temperature(self, progress: float) -> float:
        s = self.settings
        return warmed(s.teacher_first, s.teacher_last, s.warmup, progress)
