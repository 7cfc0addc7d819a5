"""Records made by hand: a test says what it is about, and the rest is as here."""

from collections.abc import Mapping
from typing import Any

from ssbench.results.record import Record, Score
from ssbench.spec import Budget, DataRef, Pretraining, Spec

SHAPES = DataRef(name="shapes", fingerprint="f0", settings={})
UNTRAINED = ("given", "random-init", "raw-pixels")
CREATED = "2025-01-01T00:00:00+00:00"


def spec(
    method: str,
    seed: int = 0,
    task: str = "knn",
    data: DataRef = SHAPES,
    about: Mapping[str, Any] | None = None,
    **pretraining: Any,
) -> Spec:
    """A vit-nano, after 1,000 samples where its method trains; `about` changes the spec, `pretraining` what it has."""
    trained = method not in UNTRAINED
    usual: dict[str, Any] = {
        "method": method,
        "owner": "ssbench",
        "version": 1,
        "settings": {},
        "backbone": "vit-nano",
        "backbone_settings": {},
        "data": data,
        "budget": Budget(unit="samples", amount=1000) if trained else None,
        "train": {"lr": 1e-3} if trained else None,
        "seed": seed,
        "precision": "float32",
    }
    told: dict[str, Any] = {"task": task, "protocol": 1, "task_owner": "ssbench", "task_settings": {}, "data": data}
    return Spec(pretraining=Pretraining(**usual | pretraining), **told | dict(about or {}))


def done(of: Spec, headline: str, score: Score, **more: Any) -> Record:
    """A record with one score."""
    return Record(
        id=of.id, status="done", spec=of, headline=headline, scores={headline: score}, created=CREATED, **more
    )


def failed(of: Spec, **more: Any) -> Record:
    """A record without a score."""
    return Record(id=of.id, status="failed", spec=of, created=CREATED, **more)
