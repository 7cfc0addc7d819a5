"""What a score is made of, and what is lost on other data, as tables."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from ssbench import api
from ssbench.results.groups import groups
from ssbench.results.profiles import profiles
from ssbench.results.record import Record

CONTROLS = {"random-init": "floor"}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Record]:
    """Of two seeds: all labels and two a class, on its own test and on the same images as other data."""
    folder: Path = tmp_path_factory.mktemp("results")
    return api.run(
        "random-init", "knn", "digits", labels="2,100%", test_on="digits", seeds="0,1", results=folder
    ).records


def test_a_profile_is_a_table_of_rows_by_points(records: Sequence[Record]) -> None:
    own = [record for record in records if not record.spec.labels and not record.spec.test_on]
    made = [
        record.model_copy(update={"details": {"profile": {"size": {"1": [10.0, 8.0, 12.0], "2": 20.0 + seed}}}})
        for seed, record in enumerate(own)
    ]
    (frame,) = profiles(groups(made), CONTROLS)
    assert frame.header == ("method", "1", "2")
    (row,) = frame.rows
    assert [value.text for value in row] == ["random-init", "10.0 ± 0.0 (8.0 to 12.0)", "20.5 ± 0.7"]
    assert frame.slug == "digits-vit-nano-untrained-knn-1-by-size"
    assert "by size" in frame.title and frame.title.startswith("digits, ")


def test_other_tests_stand_beside_their_own_with_what_is_lost(records: Sequence[Record]) -> None:
    def moved(record: Record) -> Record:
        if not record.spec.test_on:
            return record
        score = record.scores["top1"]
        by = 4.0 + record.spec.pretraining.seed
        return record.model_copy(update={"scores": {"top1": score.model_copy(update={"value": score.value - by})}})

    frames = profiles(groups(map(moved, records)), CONTROLS)
    assert [frame.header for frame in frames] == [("method", "its own test", "digits", "drop")] * 2
    assert [frame.rows[0][3].text for frame in frames] == ["4.5 ± 0.7", "4.5 ± 0.7"]


def test_the_same_images_as_other_data_score_the_same(records: Sequence[Record]) -> None:
    for frame in profiles(groups(records), CONTROLS):
        assert frame.rows[0][3].text == "0.0 ± 0.0"


def test_records_say_how_many_labels_were_seen(records: Sequence[Record]) -> None:
    few, full = ([r for r in records if r.spec.labels == labels] for labels in ("2", ""))
    assert {(record.data["fit"], record.data["select"]) for record in few} == {(20, 10)}
    assert all(record.data["fit"] > 1000 for record in full)
    assert all(record.data["classes"] == 10 for record in few)
