"""Which encoder a word names, that it is the one that was judged, and that files come whole or not at all."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from ssbench.encoders.encoder import Encoder
from ssbench.encoders.export import Format
from ssbench.encoders.weights import weights_digest
from ssbench.errors import UserError
from ssbench.results import export, store
from ssbench.results.export import cached, chosen, describe, write
from ssbench.results.record import Costs, Record, Score
from ssbench.results.store import Store, write_bytes, write_tensors
from ssbench.spec import Budget, DataRef

from .records import CREATED, SHAPES, spec

PHOTOS = DataRef(name="photos", fingerprint="f1", settings={})
TOP1 = Score(value=47.12, low=45, high=49, unit="%", better="higher", kind="accuracy", samples=200, floor=12.5)


def record_of(
    method: str, seed: int = 0, task: str = "knn", on: DataRef = SHAPES, status: str = "done", **changes: Any
) -> Record:
    usual: dict[str, Any] = {
        "settings": {"ratio": 0.5},
        "backbone_settings": {"patch": 0},
        "budget": Budget(unit="steps", amount=5),
        "train": {"lr": 0.001},
    }
    of = spec(method, seed, task, about={"data": on}, **usual | changes)
    return Record(
        id=of.id,
        status=status,  # type: ignore[arg-type]
        reason="" if status == "done" else "it broke",
        spec=of,
        headline="top1",
        scores={"top1": TOP1},
        costs=Costs(images=320, steps=5, parameters=340_000),
        selected={"pooling": "mean"},
        data={"size": 16},
        pretrained={"code": "c0de"},
        created=CREATED,
    )


ROWS = [
    *[record_of("mim", seed, task) for seed in (2, 1) for task in ("linear-probe", "knn")],
    record_of("mim", 0, status="failed"),
    record_of("simclr", 0, backbone="vit-micro"),
    record_of("simclr", 0),
    record_of("simclr", 0, settings={"ratio": 0.75}),
    record_of("swav", 0),
    record_of("swav", 0, on=PHOTOS, data=PHOTOS),
    record_of("broken", 0, status="failed"),
]


def test_a_record_is_named_by_its_id_a_start_of_it_or_its_file() -> None:
    for record in [one for one in ROWS if one.status == "done"]:
        for what in (record.id, record.id[:6], f"results/records/mim.knn.shapes.s1.{record.id}.json"):
            assert chosen(ROWS, what) is record


def test_a_row_is_its_lowest_seed_that_is_done_unless_another_is_asked_for() -> None:
    assert chosen(ROWS, "mim").spec.pretraining.seed == 1
    assert chosen(ROWS, "mim", seed=2).spec.pretraining.seed == 2
    assert chosen(ROWS, "swav", dataset="photos").spec.data == PHOTOS


@pytest.mark.parametrize(
    ("what", "dataset", "seed", "message"),
    [
        ("mimm", "", None, "mimm: no record's id or file, and no method that has a record; did you mean mim"),
        ("mim", "cifar", None, "--dataset cifar: mim was not judged on it; known: shapes"),
        ("mim", "", 7, "--seed 7: mim has the seeds 1, 2"),
        ("broken", "", None, r"broken has no record that is done: failed \(it broke\)"),
        (ROWS[0].id, "", 2, "--dataset and --seed choose in a row, and .* names a record; leave them out"),
        (ROWS[4].id, "", None, r"is failed \(it broke\)"),
        ("", "", None, f"begins the ids of {len(ROWS)} records: .* and {len(ROWS) - 8} more"),
    ],
)
def test_what_names_no_record_or_several_is_one_clear_line(
    what: str, dataset: str, seed: int | None, message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        chosen(ROWS, what, dataset, seed)
    assert "\n" not in str(error.value)


def test_rows_that_differ_in_data_are_listed_with_it() -> None:
    with pytest.raises(UserError, match="swav stands for 2 rows; name a record of one: ") as error:
        chosen(ROWS, "swav")
    for record, data in ((ROWS[8], "shapes"), (ROWS[9], "photos")):
        assert f"{record.id} (swav on {data}, vit-nano, steps=5, seed 0)" in str(error.value)


def test_rows_that_differ_in_settings_alone_are_told_apart() -> None:
    with pytest.raises(UserError) as error:
        chosen(ROWS, "simclr")
    for record in ROWS[5:8]:
        assert record.id in str(error.value)
    assert f"{ROWS[5].id} (simclr on shapes, vit-micro, steps=5, seed 0);" in f"{error.value};"
    assert f"{ROWS[7].id} (simclr on shapes, vit-nano, steps=5, seed 0) [ratio=0.75]" in str(error.value)


def kept(where: Store, record: Record, encoder: Encoder, **story: Any) -> Record:
    """An encoder in the cache, as training leaves it, and the record of judging it."""
    file = where.cache / "encoders" / f"{record.spec.pretraining.digest()}.c0de.safetensors"
    write_tensors(file, encoder.state_dict())
    assert encoder.architecture is not None
    told = {"trained": {}, "made": {}, "architecture": asdict(encoder.architecture)} | story
    write_bytes(file.with_suffix(".json"), json.dumps(told).encode())
    made = {
        "weights": weights_digest(encoder),
        "version": "0.1.0",
        "commit": "e4ba3f8",
        "device": "cpu",
        "code": "c0de",
    }
    return record.model_copy(update={"pretrained": made})


def test_the_cached_encoder_is_the_judged_one_and_is_described(tmp_path: Path, untrained: Encoder) -> None:
    where = Store(tmp_path)
    record = kept(where, record_of("mim"), untrained)
    others = [record_of("mim", task="linear-probe"), record_of("mim", task="finetune", status="failed"), ROWS[0]]
    encoder = cached(where, record)
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(encoder.pooled(x), untrained.eval().pooled(x))
    found = describe(encoder, record, [record, *others])
    assert [(one.task, one.pooling) for one in found.scores] == [("knn", "mean"), ("linear-probe", "mean")]
    assert found.record == record.id and found.code == {"version": "0.1.0", "commit": "e4ba3f8"}
    assert torch.equal(torch.tensor(found.mean), untrained.mean.flatten())
    assert (found.size, found.patch, found.pooling, found.block) == (16, 4, "mean", 0)


def test_what_the_cache_can_not_give_is_one_clear_line(tmp_path: Path, untrained: Encoder) -> None:
    where, record = Store(tmp_path), record_of("mim")
    file = where.cache / "encoders" / f"{record.spec.pretraining.digest()}.c0de.safetensors"
    with pytest.raises(UserError, match=r"is not there; run its cell again with --rerun"):
        cached(where, record)
    with pytest.raises(UserError, match=r"mim can't be exported: timm builds no such network"):
        cached(where, kept(where, record, untrained, architecture=None))
    judged = kept(where, record, untrained)
    with pytest.raises(UserError, match=rf"is not the encoder that record {record.id} judged; run"):
        cached(where, judged.model_copy(update={"pretrained": judged.pretrained | {"weights": "0"}}))
    assert untrained.architecture is not None
    with pytest.raises(UserError, match=r"does not fit this timm's vit_tiny_patch16_224"):
        cached(where, kept(where, record, untrained, architecture=asdict(untrained.architecture) | {"options": {}}))
    untrained.extra = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"mim can't be exported: it has parts of its own"):
        cached(where, kept(where, record, untrained))
    file.with_suffix(".json").write_text('{"trained": {}, "made": {}}')
    with pytest.raises(UserError, match=r"is older than exports"):
        cached(where, record)
    file.with_suffix(".json").write_text("{")
    with pytest.raises(UserError, match=r"is not there"):
        cached(where, record)


FORMATS = [("one.safetensors", "safetensors"), ("folder", "hf-folder")]


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.mark.parametrize(("out", "format"), FORMATS)
def test_the_same_export_is_written_again_and_another_is_not(
    tmp_path: Path, untrained: Encoder, out: str, format: Format
) -> None:
    record, file = kept(Store(tmp_path / "results"), record_of("mim"), untrained), tmp_path / "out" / out
    found = describe(untrained, record, [record])
    written = write(untrained, found, file, format)
    first = files(tmp_path / "out")
    assert len(first) == len(written) == 3 and all(one.is_file() for one in written)
    write(untrained, found, file, format)
    assert files(tmp_path / "out") == first
    write(untrained, found.model_copy(update={"scores": ()}), file, format)  # it was judged since
    changed = files(tmp_path / "out")
    assert changed != first
    untrained.trunk.norm.bias.data += 1
    with pytest.raises(UserError, match=rf"--out .*{out}: .*is there and is not"):
        write(untrained, found, file, format)
    assert files(tmp_path / "out") == changed


@pytest.mark.parametrize("taken", ["one.safetensors", "one.json", "one.md"])
def test_nothing_of_others_is_written_over(tmp_path: Path, untrained: Encoder, taken: str) -> None:
    record = kept(Store(tmp_path / "results"), record_of("mim"), untrained)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / taken).write_text("mine")
    with pytest.raises(UserError, match=f"{taken} is there and is not of this export"):
        write(untrained, describe(untrained, record, [record]), tmp_path / "out" / "one.safetensors", "safetensors")
    assert files(tmp_path / "out") == {taken: b"mine"}


def test_names_that_the_format_can_not_have_are_refused(tmp_path: Path, untrained: Encoder) -> None:
    record = kept(Store(tmp_path / "results"), record_of("mim"), untrained)
    found = describe(untrained, record, [record])
    with pytest.raises(UserError, match=r"name a file that ends in \.safetensors, such as .*one\.safetensors"):
        write(untrained, found, tmp_path / "one", "safetensors")
    (tmp_path / "file").write_text("mine")
    for out, format in (("file", "hf-folder"), ("file/one.safetensors", "safetensors"), ("file/new", "hf-folder")):
        with pytest.raises(UserError, match="--out"):
            write(untrained, found, tmp_path / out, format)  # type: ignore[arg-type]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(("out", "format"), FORMATS)
def test_an_export_that_breaks_leaves_nothing(
    tmp_path: Path, untrained: Encoder, out: str, format: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = kept(Store(tmp_path / "results"), record_of("mim"), untrained)
    found = describe(untrained, record, [record])

    def full(file: Path, content: bytes) -> None:
        if file.suffix == ".safetensors":
            raise OSError(28, "No space left on device")
        store.write_bytes(file, content)

    monkeypatch.setattr(export, "write_bytes", full)
    with pytest.raises(UserError, match=rf"{out} can't be written: No space left on device"):
        write(untrained, found, tmp_path / "out" / out, format)
    assert not files(tmp_path / "out") and not (tmp_path / "out" / "folder").exists()
