"""The encoder behind a record or a row: which one, out of the cache, into files."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ssbench.encoders.architecture import Architecture
from ssbench.encoders.card import Description, Result
from ssbench.encoders.encoder import Encoder
from ssbench.encoders.export import Format, check_parts, contents, described, plain, vector, weights_file
from ssbench.encoders.foreign import adopt
from ssbench.encoders.weights import weights_digest
from ssbench.errors import NotApplicable, UserError, near, one_line
from ssbench.results.groups import Line, Place, Recipe
from ssbench.results.naming import canonical
from ssbench.results.record import Record
from ssbench.results.store import Store, read_tensors, write_bytes

AGAIN = "run its cell again with --rerun"
CODE = ("version", "commit", "timm", "torch")
LISTED = 8  # candidates in an error
COSTS = ("images", "views", "steps", "prepare_seconds", "pretrain_seconds", "pretrain_gflops", "parameters")


def chosen(records: Sequence[Record], what: str, dataset: str = "", seed: int | None = None) -> Record:
    """The record that `what` names: an id, a start of one, or a record's file; or a method, a row of a table.

    A row's is the one of its lowest seed, unless `seed` says another: scores on the test split choose nothing here.
    `dataset` is what it was judged on. Raises UserError where nothing or several are meant, and for what is not done.
    """
    rows = [record for record in records if record.spec.pretraining.method == what and not record.spec.trial]
    if rows:
        return _first(rows, what, dataset, seed)
    name = Path(what).name.removesuffix(".json")
    found = [record for record in records if record.id.startswith(what) or name.endswith(f".{record.id}")]
    if not found:
        hint = near(
            what, {p.method for record in records if not ((p := record.spec.pretraining).init and p.budget is None)}
        )
        raise UserError(f"{what}: no record's id or file, and no method that has a record{hint}")
    if dataset or seed is not None:
        raise UserError(f"--dataset and --seed choose in a row, and {what} names a record; leave them out")
    if len(found) > 1:
        raise UserError(f"{what} begins the ids of {len(found)} records: {_listed(found)}")
    record = found[0]
    if record.status != "done":
        raise UserError(f"record {record.id} is {record.status} ({record.reason}): it judged no encoder; name another")
    return record


def _first(rows: list[Record], what: str, dataset: str, seed: int | None) -> Record:
    done = [record for record in rows if record.status == "done"]
    if not done:
        raise UserError(f"{what} has no record that is done: {rows[0].status} ({rows[0].reason}); run it again")
    names = {record.spec.data.name for record in done}
    found = [record for record in done if dataset in ("", record.spec.data.name)]
    if not found:
        raise UserError(f"--dataset {dataset}: {what} was not judged on it{near(dataset, names)}")
    seeds = sorted({record.spec.pretraining.seed for record in found})
    found = [record for record in found if seed in (None, record.spec.pretraining.seed)]
    if not found:
        raise UserError(f"--seed {seed}: {what} has the seeds {', '.join(map(str, seeds))}")
    found.sort(key=lambda r: (r.spec.pretraining.seed, r.spec.task, r.id))
    variants: dict[str, Record] = {}
    for record in found:
        alike = record.spec.pretraining.model_copy(update={"seed": 0}).digest()
        variants.setdefault(f"{alike} {record.spec.reading}", record)
    if len(variants) > 1:
        raise UserError(
            f"{what} stands for {len(variants)} rows; name a record of one: {_listed([*variants.values()])}"
        )
    return found[0]


def _listed(found: list[Record]) -> str:
    """Records by id, method, data, backbone, budget and seed; those alike in these also by what they differ in."""
    alike: dict[str, list[dict[str, Any]]] = {}
    for record in found:
        alike.setdefault(_called(record), []).append(_conditions(record))
    texts = []
    for record in found[:LISTED]:
        others, mine = alike[_called(record)], _conditions(record)
        values = {key: {canonical(one[key]) for one in others if key in one} for key in mine}
        apart = ", ".join(f"{key}={mine[key]}" for key in mine if len(values[key]) > 1)
        texts.append(called(record) + f" [{apart}]" * bool(apart))
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return "; ".join(texts) + more


def _conditions(record: Record) -> dict[str, Any]:
    spec, p = record.spec, record.spec.pretraining
    known = Line.of(p).shown() | Recipe.of(spec).shown() | Place.of(spec).shown()
    return known | record.spec.reading | {"task": spec.task}


def called(record: Record) -> str:
    """`1b3a94dee28b9e39 (mim-block on shapes, vit-nano, samples=64000, seed 0)`."""
    return f"{record.id} ({_called(record)})"


def _called(record: Record) -> str:
    spec, p = record.spec, record.spec.pretraining
    source = f", pretrained on {p.data.name}" if p.data != spec.data else ""
    return f"{p.method} on {spec.data.name}{source}, {p.backbone}, {p.effort}, seed {p.seed}"


def cached(store: Store, record: Record) -> Encoder:
    """The encoder that a record judged, out of the cache; raises UserError where it is not there any more."""
    p, method = record.spec.pretraining, _method(record)
    weights = store.cache / "encoders" / f"{p.digest()}.{record.pretrained.get('code', '')}.safetensors"
    if p.init and p.budget is None:
        raise UserError(f"record {record.id} judged {p.init} as it came: its weights are where they were")
    story, kept = _story(weights.with_suffix(".json")), read_tensors(weights)
    if story is None or kept is None:
        raise UserError(f"{weights}, the encoder of record {record.id}, is not there; {AGAIN}")
    if "architecture" not in story:
        raise UserError(f"{weights} is older than exports: nothing says what was built; {AGAIN}")
    if story["architecture"] is None:
        raise UserError(f"{method} can't be exported: timm builds no such network")
    architecture = Architecture(**story["architecture"])
    size = architecture.options.get("img_size", record.data["size"])
    try:
        check_parts(kept)
        encoder = (adopt if p.init else Encoder)(architecture.build(), kept["mean"], kept["std"], size)
        encoder.load_state_dict(kept)
    except NotApplicable as error:
        raise UserError(f"{method} can't be exported: {error}") from None
    except Exception as error:  # another timm may build another network, or refuse in ways of its own
        raise UserError(
            f"{weights} does not fit this timm's {architecture.name} ({one_line(error)}); {AGAIN}"
        ) from None
    if weights_digest(encoder) != record.pretrained.get("weights"):
        raise UserError(f"{weights} is not the encoder that record {record.id} judged; {AGAIN}")
    encoder.architecture = architecture
    return encoder.lead(story["made"].get("pooling", "")).read(**record.spec.reading).eval()


def _story(file: Path) -> dict[str, Any] | None:
    """What stands beside a cached encoder; None where that is nothing or cut off."""
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None


def _method(record: Record) -> str:
    return record.spec.pretraining.method


def describe(encoder: Encoder, record: Record, records: Sequence[Record]) -> Description:
    """What is to be said of an encoder that a record judged, with its scores in `records`; raises UserError."""
    p = record.spec.pretraining
    try:
        architecture = plain(encoder)
    except NotApplicable as error:
        raise UserError(f"{p.method} can't be exported: {error}") from None
    mean, std = (tuple(float(f"{x:.9g}") for x in one.flatten().tolist()) for one in (encoder.mean, encoder.std))
    mine = (p, record.spec.reading)
    same = [
        one
        for one in records
        if (one.spec.pretraining, one.spec.reading) == mine and one.status == "done"
        if not (one.spec.trial or one.spec.probe)
    ]
    return Description(
        architecture=architecture,
        mean=mean,  # 9 digits are all that float32 has
        std=std,
        size=record.data["size"],
        dim=encoder.dim,
        patch=encoder.patch,
        pooling=encoder.poolings[0],
        block=encoder.block,
        vector=vector(encoder),
        record=record.id,
        method=p.method,
        version=p.version,
        supervised=record.supervised,
        init=p.init,
        pretrained_on=p.data.name,
        judged_on=record.spec.data.name,
        backbone=p.backbone,
        budget=p.effort if p.budget else None,
        seed=p.seed,
        precision=p.precision,
        settings=p.settings,
        train=p.train or {},
        scores=tuple(result for one in same for result in _results(one)),
        costs={name: getattr(record.costs, name) for name in COSTS},
        warning=record.warning,
        code={key: record.pretrained[key] for key in CODE if key in record.pretrained},
    )


def _results(record: Record) -> list[Result]:
    spec = record.spec
    common: dict[str, Any] = {
        "record": record.id,
        "task": spec.task,
        "protocol": spec.protocol,
        "data": spec.data.name,
        "pooling": record.selected.get("pooling", ""),
    }
    return [
        Result(**common, metric=name, **score.model_dump(exclude={"kind", "floor"}))
        for name, score in record.scores.items()
    ]


@torch.no_grad()
def write(encoder: Encoder, found: Description, out: Path, format: Format) -> list[Path]:
    """Write an export, whole or not at all, and give its files; raises UserError.

    What is there is written over only where it is an export of the same weights: its description may be news.
    """
    files, weights = contents(encoder, found, out, format), weights_file(out, format)
    same = weights.is_file() and weights.read_bytes() == files[weights] and described(weights) is not None
    if not same:
        _refuse_taken(files, out, format)
    fresh = [file for file in files if not file.exists()]
    new_folder = not weights.parent.exists()
    try:
        for file, content in files.items():
            write_bytes(file, content)
    except BaseException as error:
        for file in fresh:
            with suppress(OSError):  # it is not there, or nothing can be
                file.unlink()
        if new_folder:
            with suppress(OSError):
                weights.parent.rmdir()
        if isinstance(error, OSError):
            raise UserError(f"--out {out} can't be written: {error.strerror or error}") from None
        raise
    return [*files]


def _refuse_taken(files: dict[Path, bytes], out: Path, format: Format) -> None:
    if format == "hf-folder":
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"--out {out}: it is there and is not this export; name a new folder")
        return
    if out.suffix != ".safetensors":
        raise UserError(f"--out {out}: name a file that ends in .safetensors, such as {out.name}.safetensors")
    if taken := [file for file in files if file.exists()]:
        raise UserError(f"--out {out}: {taken[-1]} is there and is not of this export; name another or remove it")
