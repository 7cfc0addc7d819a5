import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ssbench.errors import UserError
from ssbench.results.record import Record
from ssbench.results.store import Store, read_tensors, replacing, write_bytes, write_tensors
from ssbench.spec import DataRef, Spec

from . import records

DATA = DataRef(name="folder:my/photos", fingerprint="f0", settings={"image_size": 32})
ARRAYS = {
    "top1": {"predicted": np.array([0, 2, 1]), "truth": np.array([0, 1, 1], np.int16)},
    "loss": {"value": np.ones(3)},
}


def spec(method: str = "simclr", seed: int = 0) -> Spec:
    settings = {"temperature": 0.1, "sizes": [1, 2]}
    return records.spec(method, seed, data=DATA, settings=settings, backbone_settings={"patch": 0})


def record(method: str = "simclr", seed: int = 0, reason: str = "") -> Record:
    return records.failed(spec(method, seed), reason=reason)


def bare(found: Record | None, **changes: str) -> Record:
    """A record as it was before it was written."""
    assert found is not None and found.seals
    return found.model_copy(update={"seals": {}, **changes})


def test_what_is_written_is_read_back_whole(tmp_path: Path) -> None:
    write_bytes(tmp_path / "new" / "a.bin", b"\0one\n")
    assert (tmp_path / "new" / "a.bin").read_bytes() == b"\0one\n"


def test_who_has_the_old_file_open_goes_on_reading_it(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_bytes(file, b"old")
    with file.open("rb") as reader:
        write_bytes(file, b"new")
        assert reader.read() == b"old"
    assert file.read_bytes() == b"new"


def test_a_crash_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_bytes(file, b"old")
    with pytest.raises(RuntimeError, match="crash"), replacing(file) as path:
        path.write_bytes(b"half of the n")
        raise RuntimeError("crash")
    assert file.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [file]


def test_a_crash_before_anything_was_there_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a.txt") as path:
        path.write_bytes(b"half")
        raise KeyboardInterrupt
    assert not [*tmp_path.iterdir()]


def test_an_unfinished_file_is_no_record(tmp_path: Path) -> None:
    store = Store(tmp_path)
    file = store.write(record(), {})
    with replacing(file) as path:
        path.write_text("{")
        assert [*map(bare, store.all())] == [record()]
        path.write_text(file.read_text())


def test_a_replaced_file_can_be_read_by_others(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_tensors_come_back_whatever_their_layout(tmp_path: Path) -> None:
    tensors = {"turned": torch.arange(6.0).reshape(2, 3).T, "part": torch.arange(4)[::2]}
    write_tensors(tmp_path / "w.safetensors", tensors)
    found = load_file(tmp_path / "w.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], value) for name, value in tensors.items())


def test_a_record_is_found_by_its_cell_and_by_no_other(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.find(spec()) is None
    store.write(record(seed=1), {})
    assert bare(store.find(spec(seed=1))) == record(seed=1)
    assert store.find(spec(seed=2)) is None
    assert store.find(spec("swav", seed=1)) is None


def test_a_file_name_says_what_the_record_is_about_and_is_a_plain_name(tmp_path: Path) -> None:
    store = Store(tmp_path)
    file = store.write(record(seed=3), {})
    assert file.parent == store.records
    assert file.name == f"simclr.knn.folder-my_photos.s3.{spec(seed=3).id}.json"


def test_running_again_replaces_the_record(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(record(reason="first"), {})
    store.write(record(reason="second"), {})
    assert [one.reason for one in store.all()] == ["second"]


def test_all_records_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for method, seed in (("swav", 0), ("simclr", 1), ("simclr", 0)):
        store.write(record(method, seed), {})
    found = [(one.spec.pretraining.method, one.spec.pretraining.seed) for one in store.all()]
    assert found == [("simclr", 0), ("simclr", 1), ("swav", 0)]


def test_arrays_round_trip_with_their_types(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(record(), ARRAYS)
    (found,) = store.all()
    for metric, group in ARRAYS.items():
        arrays = store.arrays(found, metric)
        assert arrays.keys() == group.keys()
        for name, value in group.items():
            np.testing.assert_array_equal(arrays[name], value)
            assert arrays[name].dtype == value.dtype


def test_the_same_record_and_predictions_give_the_same_bytes(tmp_path: Path) -> None:
    stores = Store(tmp_path / "a"), Store(tmp_path / "b")
    for store in stores:
        store.write(record(), ARRAYS)
    one, two = ([(file.name, file.read_bytes()) for file in sorted(store.records.iterdir())] for store in stores)
    assert len(one) == 2
    assert one == two


@pytest.mark.parametrize("change", ["altered", "removed"])
def test_predictions_that_are_not_the_records_are_refused(tmp_path: Path, change: str) -> None:
    store = Store(tmp_path)
    store.write(record(), ARRAYS)
    (found,) = store.all()
    file = store.records / found.predictions
    if change == "removed":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] + b"\1")
    with pytest.raises(UserError, match=f"{file.name}.*{found.id}") as caught:
        store.arrays(found, "top1")
    assert "\n" not in str(caught.value)


def test_a_record_without_predictions_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not there"):
        Store(tmp_path).arrays(record(), "top1")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "Invalid JSON"),
        (b"", "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[]", "object"),
        (b"{}", "id: Field required"),
    ],
)
def test_a_corrupt_record_is_named_in_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    store = Store(tmp_path)
    file = store.write(record(), {})
    file.write_bytes(content)
    with pytest.raises(UserError, match=reason) as caught:
        store.all()
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_record_from_before_there_were_measures_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    file = store.write(record(), {})
    old = json.loads(file.read_text())
    del old["measures"], old["costs"]["prepare_seconds"]
    file.write_text(json.dumps(old))
    assert [*map(bare, store.all())] == [record()]


def test_a_record_of_another_version_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    file = store.write(record(), {})
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": 99}))
    with pytest.raises(UserError, match="99"):
        store.find(spec())


def first_schema(where: Store, one: Record) -> Path:
    """The files of a record as they were before digests and presets' sizes; gives the record's."""
    today = where.write(one, ARRAYS)
    (where.folder / "pictures").mkdir(exist_ok=True)
    raw = json.loads(today.read_text()) | {"schema_version": 1}
    del raw["digests"], raw["seals"]
    before = Spec.model_validate(raw["spec"])
    old = today.with_name(today.name.replace(one.id, before.id))
    raw |= {"id": before.id, "predictions": old.with_suffix(".npz").name}
    today.with_suffix(".npz").rename(old.with_suffix(".npz"))
    today.unlink()
    old.write_text(json.dumps(raw))
    (where.folder / "pictures" / f"{old.stem}.masks.png").write_bytes(b"png")
    return old


def test_records_of_the_first_schema_are_read_and_migrated_and_found_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old = [first_schema(store, record(seed=seed)) for seed in range(3)]
    read = store.all()
    assert store.older() == 3 and store.find(read[0].spec) is None
    assert all(one.schema_version == 2 and one.spec.pretraining.preset["embed_dim"] == 96 for one in read)
    assert len({one.id for one in read} | {file.stem.rpartition(".")[2] for file in old}) == 6
    assert store.upgrade() == 3 and store.older() == 0 and store.upgrade() == 0
    for one in read:
        found = store.find(one.spec)
        assert found is not None and found.id == one.spec.id
        assert bare(found, predictions=one.predictions) == one
        assert np.array_equal(store.arrays(found, "top1")["predicted"], ARRAYS["top1"]["predicted"])
    assert len([*store.records.iterdir()]) == 6
    assert {file.name.split(".")[-3] for file in (tmp_path / "pictures").iterdir()} == {one.id for one in read}


def test_a_migration_that_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    for seed in range(2):
        first_schema(store, record(seed=seed))
    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(Path, "unlink", lambda self, missing_ok=False: (_ for _ in ()).throw(KeyboardInterrupt))
        store.upgrade()
    assert store.upgrade() == 2
    assert len(store.all()) == 2 and len([*store.records.glob("*.npz")]) == 2


@pytest.mark.parametrize("name", ["p" * 250, "é" * 127], ids=["ascii", "two bytes"])
def test_a_long_folder_name_is_cut_in_the_records_name_and_found_again(tmp_path: Path, name: str) -> None:
    store, data = Store(tmp_path), DATA.model_copy(update={"name": f"folder:{name}"})
    first, second = (record(seed=seed) for seed in (0, 1))
    of = [one.model_copy(update={"spec": one.spec.model_copy(update={"data": data})}) for one in (first, second)]
    of = [one.model_copy(update={"id": one.spec.id}) for one in of]
    for one in of:
        assert one.id in store.write(one, ARRAYS).name
        assert store.find(one.spec) is not None
    assert {one.id for one in store.all()} == {one.id for one in of}


def test_the_pictures_of_a_long_name_have_room_too(tmp_path: Path) -> None:
    store, data = Store(tmp_path), DataRef(name="猫" * 70, fingerprint="f0", settings={})
    made = records.failed(records.spec("simclr", task="segmentation", data=data))
    store.write(made, {}, {"segmentation of a few": b"png"})
    assert store.find(made.spec) and len([*(tmp_path / "pictures").iterdir()]) == 1


def test_a_short_name_is_whole(tmp_path: Path) -> None:
    one = record()
    assert Store(tmp_path).write(one, {}).name == f"simclr.knn.folder-my_photos.s0.{one.id}.json"


@pytest.mark.parametrize("length", [0, 7, 60])
def test_tensors_that_are_cut_off_are_dropped_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, length: int
) -> None:
    file = tmp_path / f"w{length}.safetensors"
    assert read_tensors(file) is None and not caplog.records
    write_tensors(file, {"w": torch.ones(3, 2)})
    found = read_tensors(file)
    assert found is not None and torch.equal(found["w"], torch.ones(3, 2))
    file.write_bytes(file.read_bytes()[:length])
    assert read_tensors(file) is None and not file.exists()
    assert f"{file} can't be read and is made again" in caplog.text
