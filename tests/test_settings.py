import pytest

from ssbench.errors import UserError
from ssbench.settings import Settings, explain, make, parse_assignments, setting


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
