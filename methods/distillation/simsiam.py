"""SimSiam: a view predicts what the same network makes of another view (Chen and He 2020, arXiv:2011.10566)."""

from typing import Any

import torch
import torch.nn.functional as F
from timm.optim._param_groups import param_groups_weight_decay
from torch import Tensor, nn

from ssbench.method import Batch, Method, Recipe, View
from ssbench.settings import Settings as Base
from ssbench.settings import setting

from ..parts.heads import mlp
from ..parts.spread import spread


class SimSiam(Method):
    """Minus the cosine of a view's prediction and the other's projection, which gets no gradient, over both ways round.

    There is no teacher: a stopped gradient and a predictor of a constant rate keep the network from collapsing.
    """

    class Settings(Base):
        hidden: int = setting(512, "projector's hidden width", source="project: SimSiam 2048", ge=1)
        out: int = setting(512, "projector's output width", source="project: SimSiam 2048", ge=1)
        bottleneck: int = setting(128, "predictor's hidden width", source="out / 4, as SimSiam, builder.py", ge=1)
        crop_min: float = setting(0.2, "smallest crop", source="SimSiam, main_simsiam.py", unit="area", gt=0, le=1)
        # a blur at 32 px leaves little to see
        blur: float = setting(0.0, "probability of a blur", source="project: SimSiam 0.5", ge=0, le=1)

    settings: Settings
    recipes = {
        "own/conv": Recipe("project: benchmarks/rates.py on shapes, resnet-nano", {"lr": 3e-3}),
        "cifar/conv": Recipe(
            "solo-learn, scripts/pretrain/cifar/simsiam.yaml",
            {"optimiser": "sgd", "lr": 0.5, "scaling": "linear", "weight_decay": 1e-5, "batch": 256}
            | {"warmup": 0.01, "clip": 0},
            {"hidden": 2048, "out": 2048, "bottleneck": 512, "crop_min": 0.08, "blur": 0.5},
        ),
        "imagenet/conv": Recipe(
            "SimSiam, main_simsiam.py and README.md",
            {"optimiser": "sgd", "lr": 0.05, "scaling": "linear", "weight_decay": 1e-4, "batch": 512}
            | {"warmup": 0, "clip": 0},
            {"hidden": 2048, "out": 2048, "bottleneck": 512, "blur": 0.5},
        ),
    }

    @property
    def views(self) -> list[View]:
        s = self.settings
        return [View(count=2, crop=(s.crop_min, 1.0), jitter=(0.4, 0.4, 0.4, 0.1), grey=0.2, blur=s.blur)]

    def build(self) -> None:
        s = self.settings
        self.projector = mlp(self.encoder.dim, s.hidden, s.hidden, s.out, last_norm=True, affine=False)
        self.predictor = mlp(s.out, s.bottleneck, s.out)

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """The predictor's rate is constant."""
        parts = nn.ModuleList([self.encoder, self.projector])
        constant = param_groups_weight_decay(self.predictor, weight_decay)
        return [*param_groups_weight_decay(parts, weight_decay), *({**group, "constant": True} for group in constant)]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        z = [self.projector(self.encoder.pooled(view)) for view in batch.views]  # batch norms see one view at a time
        p = [self.predictor(one) for one in z]
        pairs = [(p[0], z[1]), (p[1], z[0])]  # each (B, out)
        cosines = torch.stack([F.cosine_similarity(p.float(), z.detach().float()).mean() for p, z in pairs])
        return {"simsiam": -cosines.mean()}

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        """`embedding std`, the paper's sign of collapse: of unit vectors, times sqrt(out); 1 all over, 0 collapsed."""
        return {"embedding std": spread(self.projector(self.encoder.pooled(images)))}
