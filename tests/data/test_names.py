"""What splits are called."""

import pytest

from ssbench.data.sources.names import asked, groups, hint, role
from ssbench.errors import UserError
from ssbench.spec import DataSettings


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("TRN", "train"),
        ("training_set", "train"),
        ("train2017", "train"),
        ("train_images", "train"),
        ("valid", "val"),
        ("Validation", "val"),
        ("dev", "val"),
        ("tst", "test"),
        ("Testing", "test"),
        ("Evaluation", "test"),
        ("test-set", "test"),
        ("train_station", ""),
        ("testA", ""),
        ("trainer", ""),
        ("train_val", ""),
        ("2017", ""),
        ("images", ""),
        ("画像", ""),
        ("", ""),
    ],
)
def test_a_name_says_its_role_in_any_case_and_usual_variants(name: str, expected: str) -> None:
    assert role(name) == expected


def test_a_hint_is_a_role_among_other_words() -> None:
    assert [hint(name) for name in ("seg_train", "testA", "contest", "train_test")] == ["train", "test", "", ""]


def test_the_users_word_names_any_split() -> None:
    settings = DataSettings(splits=("train=2018", "train=2019", "test=2020"))
    assert asked(settings, ["2018", "2019", "2020"]) == {"2018": "train", "2019": "train", "2020": "test"}
    assert asked(DataSettings(), ["2019"]) == {}


def test_a_wrong_word_is_refused_with_what_is_there() -> None:
    with pytest.raises(UserError, match="say which split is what"):
        asked(DataSettings(splits=("holdout=2019",)), ["2019"])
    with pytest.raises(UserError, match="there is no '2020'; did you mean 2019"):
        asked(DataSettings(splits=("test=2020",)), ["2019"])


def test_a_column_that_may_be_a_group_is_named_with_what_keeps_it_on_one_side() -> None:
    assert groups(["age", "patient_id", "sex"]) == " (with --set data.group=patient_id no patient_id is on two sides)"
    assert groups(["age", "website"]) == "" == groups([])
