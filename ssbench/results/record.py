"""What one run found: typed, versioned, complete, failures included. Field order is part of the format. No torch."""

import json
from hashlib import sha256
from typing import Any, Literal

from ssbench.encoders.presets import PRESETS
from ssbench.results.metrics import Kind
from ssbench.spec import Frozen, Spec

SCHEMA = 2


class Score(Frozen):
    """One metric of one cell."""

    value: float
    low: float  # 95 % interval over test samples, see ssbench/results/bootstrap.py
    high: float
    unit: str
    better: Literal["higher", "lower"]
    kind: Kind
    samples: int
    floor: float | None = None  # what the best constant answer scores; None: no such answer, or not recorded


class Costs(Frozen):
    """What it took. The pretraining's costs stand in each record that shares it."""

    images: int = 0  # images seen in pretraining
    views: float = 0  # views made of each
    steps: int = 0
    prepare_seconds: float = 0  # what had to be learned before training, in the run that made it
    pretrain_seconds: float = 0
    pretrain_gflops: float = 0  # forward and backward, by torch's flop counter (2 FLOPs a multiply-add)
    parameters: int = 0  # of the encoder
    task_seconds: float = 0
    peak_memory_mb: float = 0  # the process's largest up to the end of this cell; on CUDA, this cell's


class Record(Frozen):
    """A run's result. `predictions` names the compressed NumPy file beside it, `predictions_sha256` its content."""

    schema_version: int = SCHEMA
    id: str
    status: Literal["done", "not-applicable", "failed"]
    reason: str = ""  # why it is not done
    spec: Spec
    supervised: bool = False  # the method trains on labels
    headline: str = ""
    scores: dict[str, Score] = {}
    details: dict[str, Any] = {}  # what the task adds, such as the label resolution or the IoU of each class
    selected: dict[str, Any] = {}  # what was chosen on the held-out part, before the test split was opened
    sweep: list[dict[str, Any]] = []
    loss: list[dict[str, float]] = []  # the training log: step and each loss term
    measures: dict[str, float] = {}  # of the pretrained method itself: RankMe, then what the method adds
    health: list[dict[str, float]] = []  # along the training: step, share of clipped gradients, deviation, measures
    warning: str = ""  # why the pretrained method is to be taken for collapsed
    costs: Costs = Costs()
    data: dict[str, Any] = {}  # sizes of the splits, classes, images skipped
    environment: dict[str, str] = {}
    code: dict[str, str] = {}  # version and commit
    digests: dict[str, str] = {}  # part -> digest of its code, see ssbench/code.py; empty: of before there were any
    pretrained: dict[str, Any] = {}  # what made the encoder where, its weights' digest, what was built, `given` weights
    created: str
    predictions: str = ""
    predictions_sha256: str = ""
    confirmed: dict[str, str] = {}  # when and by which commit, `digests` being its code's, the same came out again
    earlier: list[dict[str, str]] = []  # the digests that it had before it was confirmed
    seals: dict[str, str] = {}  # field -> digest of its value, so that a change of what follows from nothing is seen


def seals(record: Record) -> dict[str, str]:
    """The digests of a record's fields as they are, without those of what is empty."""
    fields = record.model_dump(mode="json", exclude={"seals"})
    return {
        name: sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
        for name, value in fields.items()
        if value not in ("", {}, [])
    }


def upgraded(record: Record) -> Record:
    """A record of an older schema in today's, with today's identity.

    Schema 1 had no digests of code, and named a backbone's preset without its sizes, which have not changed since.
    """
    p = record.spec.pretraining
    preset = PRESETS[p.backbone].identity if p.backbone in PRESETS else {}
    spec = record.spec.model_copy(update={"pretraining": p.model_copy(update={"preset": preset})})
    return record.model_copy(update={"schema_version": SCHEMA, "id": spec.id, "spec": spec})
