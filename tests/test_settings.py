from hashlib import sha256
from pathlib import Path

import pytest

from ssbench.errors import UserError
from ssbench.settings import File, Settings, explain, file_of, make, parse_assignments, setting


class Example(Settings):
    temperature: float = setting(0.1, "softmax temperature", source="a paper", gt=0)
    ks: tuple[int, ...] = setting((10, 20), "neighbours", source="a paper", unit="samples")


def test_strings_become_the_type_of_the_field() -> None:
    made = make(Example, {"temperature": "5e-1", "ks": "1,2,3"}, "example")
    assert made == Example(temperature=0.5, ks=(1, 2, 3))
    assert make(Example, {"ks": "7"}, "example") == Example(ks=(7,))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temprature": "1"}, r"unknown setting example\.temprature; did you mean temperature\?"),
        ({"temperature": "warm"}, r"example\.temperature=warm: .*valid number"),
        ({"temperature": "-1"}, r"example\.temperature=-1: .*greater than 0"),
        ({"temperature": "nan"}, r"example\.temperature=nan"),
        ({"ks": "1,two"}, r"example\.ks\.1=two: .*valid integer"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(values: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(Example, values, "example")


def test_assignments_are_sorted_by_scope() -> None:
    parsed = parse_assignments(["train.lr=1e-3", "mim.mask=block", "train.batch = 8"])
    assert parsed == {"train": {"lr": "1e-3", "batch": "8"}, "mim": {"mask": "block"}}


@pytest.mark.parametrize("text", ["lr=1", "train.lr", ".lr=1", "train.=1", "="])
def test_what_is_not_an_assignment_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"scope\.key=value"):
        parse_assignments([text])


def test_an_explanation_gives_default_type_unit_help_and_source() -> None:
    assert explain(Example, {})[0] == "temperature=0.1 (float): softmax temperature [a paper]"
    assert explain(Example, {"ks": (5,)})[1] == "ks=5 (tuple[int, ...], samples): neighbours [fixed by the preset]"


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Example().temperature = 1.0


class Weighted(Settings):
    weights: File = setting("", "where they lie", source="none")


def test_a_file_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    file.write_bytes(b"one")
    first = make(Weighted, {"weights": str(file)}, "mine")
    assert first.weights == f"{file}@{sha256(b'one').hexdigest()[:16]}" and file_of(first.weights) == file
    assert make(Weighted, first.model_dump(), "mine") == first
    file.write_bytes(b"other")
    assert make(Weighted, {"weights": str(file)}, "mine").weights == f"{file}@{sha256(b'other').hexdigest()[:16]}"
    with pytest.raises(UserError, match=r"^mine\.weights=.*: the file's digest is \w+, these are other weights$"):
        make(Weighted, first.model_dump(), "mine")


def test_what_is_no_file_stays_as_it_is() -> None:
    assert make(Weighted, {}, "mine").weights == ""
    assert make(Weighted, {"weights": "nowhere.pth"}, "mine").weights == "nowhere.pth"
