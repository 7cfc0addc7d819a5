"""Records -> files that other programs read: CSV, Parquet, and the Hugging Face hub's model-index. No torch."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from io import BytesIO
from math import isnan
from pathlib import Path
from statistics import fmean
from typing import Any

from ssbench.errors import UserError
from ssbench.results.codes import for_a_mean
from ssbench.results.frame import framed
from ssbench.results.record import Record
from ssbench.results.store import write_bytes

ROWS = {  # ending -> what a row is
    ".csv": "rows, one a record and metric",
    ".parquet": "rows, one a record and metric",
    ".jsonl": "lines, one a reading of a training",
    ".yaml": "models",
}
KIND = "image-feature-extraction"  # what the hub calls it, whatever the task that judges


def write_results(records: Sequence[Record], out: Path) -> int:
    """Write all records to a file with an ending of ROWS, whole or not at all, and give its number of rows.

    CSV and Parquet have a row for each record and metric, as `ssbench.frame`; JSON lines what was read along each
    training; YAML a model for each pretraining and its headlines, means over seeds. Raises UserError.
    """
    if out.suffix not in ROWS:
        raise UserError(f"{out}: name a file that ends in {', '.join(ROWS)}, or a tracker, such as tensorboard:FOLDER")
    if out.suffix == ".jsonl":
        lines = readings(records)
        write_bytes(out, "".join(json.dumps(line) + "\n" for line in lines).encode())
        return len(lines)
    if out.suffix == ".yaml":
        models = model_index(records)
        import yaml

        write_bytes(out, yaml.safe_dump({"model-index": models}, sort_keys=False, allow_unicode=True).encode())
        return len(models)
    frame = framed(records)
    if out.suffix == ".csv":
        write_bytes(out, frame.to_csv(index=False).encode())
        return len(frame)
    for name in (name for name in frame if frame[name].dtype == object):  # Parquet's columns have one type
        if len({type(value) for value in frame[name].dropna()}) > 1 or frame[name].map(_nested).any():
            frame[name] = frame[name].map(_json)
    content = BytesIO()
    frame.to_parquet(content, index=False)
    write_bytes(out, content.getvalue())
    return len(frame)


def readings(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Of each pretraining once: its loss terms and then how it fared, step by step, with what it was."""
    each = {record.spec.pretraining.digest(): record for record in records if record.status == "done"}
    made = []
    for _, record in sorted(each.items()):
        known = record.spec.pretraining.named()
        for kind, points in (("loss", record.loss), ("health", record.health)):
            made += [{**known, "of": kind, **point} for point in points]
    return made


def _nested(value: Any) -> bool:
    return isinstance(value, list | dict | tuple)


def _json(value: Any) -> str | None:
    missing = value is None or (isinstance(value, float) and isnan(value))
    return None if missing else json.dumps(value, default=str)


def seeds_of(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records that differ in their seed alone, done by one code, by what else they are."""
    kin: dict[str, list[Record]] = defaultdict(list)
    for record in (one for one in records if one.status == "done"):
        p = record.spec.pretraining.model_copy(update={"seed": 0})
        kin[record.spec.model_copy(update={"pretraining": p}).digest()].append(record)
    return {key: for_a_mean(found) for key, found in kin.items()}


def model_index(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The hub's metadata of models: one for each pretraining, its seeds together, a result for each headline."""
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    means: dict[tuple[str, str], dict[tuple[str, str, str], list[float]]] = defaultdict(dict)
    refs = {(record.spec.data.name, record.spec.data.digest()) for record in records}
    names = Counter(name for name, _ in refs)
    called = {digest: f"{name} ({digest})" if names[name] > 1 else name for name, digest in refs}
    for kind, seeds in seeds_of(one for one in records if not (one.spec.trial or one.spec.probe)).items():
        spec, p, headline = seeds[0].spec, seeds[0].spec.pretraining, seeds[0].headline
        parts = [p.method, p.backbone, f"on {p.data.name}", p.effort, spec.recipe]
        more = f", labels of {spec.labels}" * bool(spec.labels)
        more += f", tested on {spec.test_on.name}" if spec.test_on else ""
        asked = f"{spec.task}, protocol {spec.protocol}{more}: {headline}"
        one = " ".join(filter(None, parts)), p.model_copy(update={"seed": 0}).digest()
        means[one][called[spec.data.digest()], asked, kind] = [record.scores[headline].value for record in seeds]
    alike = Counter(name for name, _ in means)
    found: list[dict[str, Any]] = []
    for (name, digest), scores in sorted(means.items()):
        results = [
            EvalResult(
                task_type=KIND,
                dataset_type=data,
                dataset_name=data,
                metric_type=asked.rpartition(" ")[2],
                metric_name=f"{asked}, mean of {len(values)}",  # the hub has one task for all of them
                metric_value=round(fmean(values), 4),
            )
            for (data, asked, _), values in sorted(scores.items())
        ]
        found += eval_results_to_model_index(name + f" ({digest})" * (alike[name] > 1), results)
    return found
