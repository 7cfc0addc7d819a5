"""A part of the images to pretrain on: nested, another one for each seed, and the rest as it was."""

from pathlib import Path

import pytest

from ssbench import api
from ssbench.data import Dataset
from ssbench.data.shares import parse, shared
from ssbench.errors import UserError
from ssbench.results.record import Record
from ssbench.results.table import build


@pytest.mark.parametrize(
    ("text", "share"), [("10%", "10%"), (" 2.5% ", "2.5%"), ("100%", ""), ("100.0%", ""), (".5%", "0.5%")]
)
def test_shares_have_one_spelling(text: str, share: str) -> None:
    assert parse(text) == share


@pytest.mark.parametrize("text", ["10", "0%", "101%", "-1%", "half", "%", ""])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--share .*: expected a share of the images to pretrain on, such as 10%"):
        parse(text)


def test_a_smaller_share_is_part_of_a_larger_one_and_seeds_have_their_own(tiny: Dataset) -> None:
    tenth, half, other = (shared(tiny, share, draw) for share, draw in (("10%", 0), ("50%", 0), ("50%", 1)))
    assert len(tenth.fit) == len(tiny.fit) // 10 and len(half.fit) == len(tiny.fit) // 2
    assert {*tenth.fit.keys} < {*half.fit.keys} < {*tiny.fit.keys} and {*half.fit.keys} != {*other.fit.keys}
    assert half.select is tiny.select and half.test is tiny.test and half.ref == tiny.ref
    assert len(shared(tiny, "0.001%", 0).fit) == 1


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> api.Results:
    """Rotation and its ceiling on 3 % and on all of the digits, for two epochs."""
    return api.run(
        "rotation",
        "knn",
        "digits",
        seeds=0,
        budget="epochs=2",
        share="3%,100%",
        set={"train.batch": 16},
        device="cpu",
        results=tmp_path_factory.mktemp("results"),
    )


def test_a_share_is_trained_on_and_all_is_judged(made: api.Results) -> None:
    def of(method: str, share: str) -> Record:
        (found,) = (
            one for one in made.records if (one.spec.pretraining.method, one.spec.pretraining.share) == (method, share)
        )
        return found

    some, whole = of("rotation", "3%"), of("rotation", "")
    fit = int(whole.data["fit"])
    assert whole.costs.steps == 2 * (fit // 16) and some.costs.steps == 2 * (round(0.03 * fit) // 16)
    assert some.data["fit"] == fit and some.details["bank"] == whole.details["bank"]
    assert of("supervised", "3%").costs.steps == some.costs.steps
    assert of("random-init", "").spec.pretraining.digest() not in {some.spec.pretraining.digest()}


def test_shares_never_share_a_table_and_the_title_says_which(made: api.Results) -> None:
    some, whole = sorted((table.title for table in build(made.store, made.controls)), key=len, reverse=True)
    assert "epochs=2 of 3% of the images" in some and "of the images" not in whole
    for table in build(made.store, made.controls):
        assert {row.name for row in table.rows} == {"rotation", "random-init", "raw-pixels", "supervised"}


def test_a_share_smaller_than_a_batch_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train.batch=64 is more than the 13 training images"):
        api.run("rotation", "knn", "digits", seeds=0, budget="steps=1", share="1%", device="cpu", results=tmp_path)
