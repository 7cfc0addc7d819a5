"""What methods learn from, cost and give: words of the registry, numbers of the records."""

from pathlib import Path

from ssbench.registry import entries
from ssbench.results.character import character
from ssbench.results.record import Costs
from ssbench.results.store import Store
from ssbench.results.table import build

from .test_table import CONTROLS, make


def rows(store: Store) -> dict[str, dict[str, str]]:
    (frame,) = character(build(store, CONTROLS), store.all())
    return {of[0].text: dict(zip(frame.header, (value.text for value in of))) for of in frame.rows}


def costs(seconds: float, views: int = 2) -> Costs:
    return Costs(images=1000, views=views, pretrain_seconds=seconds, pretrain_gflops=50, parameters=10)


def test_kind_signal_cost_and_scores_stand_side_by_side(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name, seconds in (("simclr", 40.0), ("byol", 60.0), ("swav", 80.0)):
        make(store, name, 50.0, 51.0, 52.0, costs=costs(seconds))
    make(store, "a-plugins", 9.0, 9.5, 9.0, costs=costs(20.0))
    make(store, "supervised", 70.0, 70.5, 71.0, costs=costs(20.0, 1))
    make(store, "random-init", 20.0, 21.0, 20.5, costs=Costs(parameters=10))
    found = rows(store)
    simclr = found["simclr"]
    assert (simclr["kind"], simclr["signal"]) == ("contrastive", entries("methods")["simclr"].summary)
    assert (simclr["views"], simclr["GFLOPs / image"], simclr["time"]) == ("2", "0.05", "2.0")
    assert simclr["linear-probe top1 % ↑ (protocol 1)"] == "51.0 ± 1.0" and simclr["RankMe"] == "–"
    assert found["byol"]["time"] == "3.0" and found["supervised"]["time"] == "1.0"
    assert (found["a-plugins"]["kind"], found["a-plugins"]["signal"]) == ("–", "–")
    assert (found["random-init"]["views"], found["random-init"]["time"]) == ("–", "–")


def test_the_time_of_other_machines_is_not_compared(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("simclr", "byol", "swav", "supervised"):
        make(store, name, 50.0, 51.0, 52.0, costs=costs(40.0))
    for record in store.all():
        fast = record.spec.pretraining.method == "byol"
        where = {"device": "cuda", "accelerator": "H100"} if fast else {"device": "cpu"}
        arrays = {record.headline: store.arrays(record, record.headline)}
        store.write(record.model_copy(update={"environment": where}), arrays)
    found = rows(store)
    assert found["byol"]["time"] == "–" and found["simclr"]["time"] == "1.0"


def test_two_methods_are_no_comparison_of_kinds(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("simclr", "byol"):
        make(store, name, 50.0, 51.0, 52.0)
    assert character(build(store, CONTROLS), store.all()) == []
