"""Records -> one tidy pandas frame, a row for each record and metric. Tables and grids keep what a frame can't hold."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssbench.results.record import Record
from ssbench.results.store import Store

if TYPE_CHECKING:  # listing and parsing import no pandas
    import pandas as pd


def frame(results: str | Path) -> "pd.DataFrame":
    """All records of a results folder, in the order of their files; raises UserError on a file that is none, and
    where there is no such folder.

    Columns: id, status, reason and what the spec says (`method`, `task`, `data`, `backbone`, `budget`, `seed`, ...);
    `metric`, `headline` (whether it is the task's), `value`, its 95 % interval `low` and `high` over test samples,
    `floor`, `unit`, `better` and `samples`; and with a prefix each what was set and found: `set.`, `task.`, `train.`,
    `data.`, `backbone.`, `encoder.`, `cost.`, `measure.`. Trials of tuning are judged on `select`, and have a `trial`;
    what has another `probe` than 0 is the same encoder judged again: leave both out of means. A record without scores
    has one row without a metric.
    """
    return framed(Store.of_records(Path(results)).all())


def framed(records: Iterable[Record]) -> "pd.DataFrame":
    """The frame of these records, in their order."""
    import pandas as pd

    return pd.DataFrame([row for record in records for row in _rows(record)])


def _rows(record: Record) -> list[dict[str, Any]]:
    spec, p = record.spec, record.spec.pretraining
    known = {
        "id": record.id,
        "status": record.status,
        "reason": record.reason,
        "method": p.method,
        "version": p.version,
        "owner": p.owner,
        "supervised": record.supervised,
        "task": spec.task,
        "protocol": spec.protocol,
        "data": spec.data.name,
        "fingerprint": spec.data.fingerprint,
        "pretrained_on": p.data.name,
        "backbone": p.backbone,
        "init": p.init,
        "budget": p.budget and str(p.budget),
        "share": p.share,
        "precision": p.precision,
        "recipe": spec.recipe,
        "probe": spec.probe,
        "trial": spec.trial,
        "seed": p.seed,
        "created": record.created,
        "commit": record.code.get("commit"),
    }
    scopes: dict[str, dict[str, Any]] = {
        "set": p.settings,
        "task": spec.task_settings,
        "train": p.train or {},
        "data": spec.data.settings,
        "backbone": p.backbone_settings,
        "encoder": spec.reading,
        "cost": record.costs.model_dump(),
        "measure": record.measures,
    }
    more = {f"{scope}.{key}": value for scope, values in scopes.items() for key, value in values.items()}
    scores = [
        {"metric": name, "headline": name == record.headline, **score.model_dump(exclude={"kind"})}
        for name, score in record.scores.items()
    ]
    return [known | score | more for score in scores or [{"metric": None, "headline": None}]]
