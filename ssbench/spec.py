"""What one cell of the comparison is, completely; its hash is the cell's identity. Imports no torch.

Nothing that can't change the result (device, paths, workers) is in a spec. Data is named by its content's fingerprint.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from ssbench.errors import UserError, near
from ssbench.settings import Settings, setting

Unit = Literal["epochs", "samples", "steps", "flops", "seconds"]


class Frozen(BaseModel):
    """A typed value that is stored as JSON and never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def canonical(self) -> str:
        """One spelling for one value: sorted keys, no spaces."""
        return self._spelt

    @cached_property
    def _spelt(self) -> str:
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, whose spelling is its own."""
        made = super().model_copy(update=update, deep=deep)
        made.__dict__.pop("_spelt", None)
        return made

    def digest(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:16]


class Budget(Frozen):
    """How long every trained method of a table trains: the same number of images, steps, FLOPs or seconds for all."""

    unit: Unit = "samples"
    amount: float = 100_000

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """`samples=80000`, `epochs=10`, ...; raises UserError."""
        unit, _, amount = text.partition("=")
        if unit not in Unit.__args__:  # type: ignore[attr-defined]
            raise UserError(f"--budget {text}: unknown unit {unit!r}{near(unit, Unit.__args__)}")  # type: ignore[attr-defined]
        try:
            value = float(amount.replace("_", ""))
        except ValueError:
            raise UserError(f"--budget {text}: {amount!r} is not a number, such as {unit}=1000") from None
        if not 0 < value < float("inf"):
            raise UserError(f"--budget {text}: the amount must be above zero")
        return cls(unit=unit, amount=value)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.unit}={self.amount:g}" if self.amount < 1e5 else f"{self.unit}={self.amount:.0f}"


class Train(Settings):
    """How a method is trained: the recipe that all share under --recipe shared, of which others change some values."""

    batch: int = setting(
        64, "images a step", source="project: small nets learn most from many small steps", unit="images", ge=2
    )
    lr: float = setting(
        1.5e-3, "peak learning rate", source="project: common to all methods, MAE's range at 32 px", gt=0
    )
    weight_decay: float = setting(0.05, "AdamW weight decay, not on 1-d parameters", source="MAE, PRETRAIN.md", ge=0)
    beta2: float = setting(
        0.95, "AdamW second moment decay (the first is 0.9)", source="MAE, main_pretrain.py", gt=0, lt=1
    )
    warmup: float = setting(0.05, "share of the budget with a rising rate", source="MAE: 40 of 800 epochs", ge=0, lt=1)
    clip: float = setting(3.0, "largest gradient norm; 0: any", source="DINO, main_dino.py", ge=0)
    optimiser: Literal["adamw", "sgd", "lars"] = setting(
        "adamw", "adamw, or sgd and lars with a momentum of 0.9", source="MAE, main_pretrain.py"
    )
    scaling: Literal["none", "linear", "sqrt"] = setting(
        "none", "the rate is for 256 images a step, and grows so with them", source="project: one batch, one rate"
    )
    trust: float = setting(0.001, "LARS's trust coefficient", source="LARS, arXiv:1708.03888; SimCLR's eeta", gt=0)
    trust_clip: bool = setting(
        False, "whether LARS never goes above the rate itself", source="LARC; solo-learn, solo/utils/lars.py: clip_lr"
    )
    weight_decay_end: float = setting(
        0, "weight decay at the end, by a cosine; 0: constant", source="project; DINO 0.04 to 0.4", ge=0
    )

    @field_validator("optimiser")
    @classmethod
    def _adapts_something(cls, value: str, info: ValidationInfo) -> str:
        if value == "lars" and info.data.get("weight_decay") == 0:
            raise ValueError("it adapts the rates of what decays alone: set train.weight_decay above 0, or take sgd")
        return value

    @field_validator("weight_decay_end")
    @classmethod
    def _has_a_start(cls, value: float, info: ValidationInfo) -> float:
        if value and info.data.get("weight_decay") == 0:
            raise ValueError("it would change nothing where weight_decay is 0; set both, or neither")
        return value

    @model_serializer(mode="wrap")
    def _lean(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without defaults of what came after `clip`: identities are older than they are."""
        later, fields = ("optimiser", "scaling", "trust", "trust_clip", "weight_decay_end"), type(self).model_fields
        return {k: v for k, v in whole(self).items() if k not in later or v != fields[k].default}


class Space(Settings):
    """Where trials of tuning are drawn, the same for every method: from each range, uniformly in the logarithm."""

    version: ClassVar[int] = 1  # of the ranges and of how points are drawn in them
    lr: tuple[float, float] = setting(
        (1e-4, 1e-2), "peak learning rate", source="project: a decade and more around the shared 1.5e-3"
    )
    weight_decay: tuple[float, float] = setting(
        (1e-3, 0.5), "weight decay", source="project: it holds MAE's 0.05, PRETRAIN.md, and DINO's 0.04 to 0.4"
    )


class DataSettings(Settings):
    """How images are read."""

    image_size: int = setting(
        0,
        "side of the square images; 0: the median of their shorter sides, at most 224",
        source="project: never made larger; 224 is what most encoders see",
        unit="px",
        ge=0,
    )
    store_size: int = setting(
        0,
        "side at which fit is kept for the crops of training; 0: the images' own, at most twice image_size",
        source="project: a crop of half the side keeps its detail",
        unit="px",
        ge=0,
    )
    image: str = setting(
        "", "image column; empty: the one called so, else the only one", source="Hugging Face datasets"
    )
    label: str = setting(
        "", "label column; empty: label, class, species, ..., else the folders' names", source="Hugging Face datasets"
    )
    mask: str = setting("", "mask column; empty: the one called so, if any", source="Hugging Face datasets")
    depth: str = setting("", "depth column, or folder of maps named as images are", source="project: none is guessed")
    boxes: str = setting("", "box column; empty: the one called so, if any", source="Hugging Face datasets")
    numbers: tuple[str, ...] = setting((), "columns of numbers to predict", source="project: none is guessed")
    group: str = setting("", "column of what is never split: patient, video; empty: one called group", source="project")
    splits: tuple[str, ...] = setting(
        (), "which split is what, such as train=2019,test=2020; empty: by their names", source="project"
    )
    ignore_index: int = setting(
        -1,
        "mask or depth value that is none; -1: 255 beside two classes or more, and 0 in 16-bit depth",
        source="PASCAL VOC's 255",
        ge=-1,
        le=65535,
    )
    on_bad_image: Literal["error", "skip"] = setting("error", "what an unreadable image does", source="project")
    allow: tuple[str, ...] = setting((), "suspicions that are meant, by the names that refusals give", source="project")


class EncoderSettings(Settings):
    """How a named backbone is fitted to the data."""

    patch: int = setting(0, "patch size of a ViT; 0: the preset's, or timm's own", source="project", unit="px", ge=0)


class Reading(Settings):
    """What of a judged encoder is looked at, in every row alike."""

    pooling: str = setting("", "the headline's vector: mean, cls; empty: the encoder's", source="its authors' code")
    block: int = setting(0, "the block that is read, from 1, or from -1 back; 0: the last", source="its authors' code")


class DataRef(Frozen):
    """Data by name and content; where it lies is not part of what it is."""

    name: str
    fingerprint: str
    settings: dict[str, Any]
    version: int = 1  # of the rules by which it is read and split

    @model_serializer(mode="wrap")
    def _lean(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a `version` of 1: identities are older than it."""
        return {key: value for key, value in whole(self).items() if key != "version" or value != 1}


class Pretraining(Frozen):
    """All that a pretrained encoder follows from; cells that differ only in the task share it."""

    method: str
    owner: str
    version: int
    settings: dict[str, Any]
    backbone: str
    backbone_settings: dict[str, Any]
    data: DataRef
    budget: Budget | None  # None: the method does not train
    train: dict[str, Any] | None
    seed: int
    precision: str
    init: str = ""  # the given encoder whose weights it starts from; empty: random ones
    preset: dict[str, Any] = {}  # what the backbone's name stands for, where it is not timm's
    share: str = ""  # how much of fit's images it sees, such as `10%`; empty: all

    @property
    def part(self) -> str:
        """` of 10% of the images`, empty where it sees all."""
        return f" of {self.share} of the images" if self.share else ""

    @property
    def effort(self) -> str:
        """`samples=64000`, `samples=64000 of 10% of the images`, or `untrained`."""
        return f"{self.budget or 'untrained'}{self.part}"

    def named(self) -> dict[str, Any]:
        """What it is, in a line of a log."""
        known = {"pretraining": self.digest(), "method": self.method, "data": self.data.name, "backbone": self.backbone}
        share = {"share": self.share} if self.share else {}
        return known | {"budget": str(self.budget or "untrained"), **share, "seed": self.seed}

    @model_serializer(mode="wrap")
    def _lean(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `init`, `preset` and `share` where they are empty: identities are older than they are."""
        return {key: value for key, value in whole(self).items() if key not in ("init", "preset", "share") or value}


class Spec(Frozen):
    """One cell: a pretraining and the task that judges it."""

    pretraining: Pretraining
    task: str
    protocol: int  # the task's version
    task_owner: str
    task_settings: dict[str, Any]
    data: DataRef
    reading: dict[str, Any] = {}  # what was set of `Reading`
    labels: str = ""  # how much of what is labelled the task may see, `5%` or `4` a class; empty: all
    test_on: DataRef | None = None  # other data whose test split judges
    recipe: str = ""  # whose values `train` has, such as `own`, and what was set besides; empty: the shared ones
    probe: int = 0  # the seed of what the task draws, beside that of the pretraining; tables are made of 0
    trial: str = ""  # which point of tuning this is, judged on `select`; empty: an ordinary cell

    @model_serializer(mode="wrap")
    def _lean(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what is empty of the last six: identities are older than they are."""
        later = ("reading", "labels", "test_on", "recipe", "probe", "trial")
        return {key: value for key, value in whole(self).items() if key not in later or value}

    @property
    def id(self) -> str:
        return self.digest()
