from ssbench.departures import Compared, Departure, page, said
from ssbench.methods import COMPARED, METHODS

ONE = Compared("someone/something: loss.py", (Departure("mask", "0.6 | 0.7", "0.5", "so few patches"),))


def test_a_departure_is_a_line_and_a_row() -> None:
    assert said(ONE)[1] == "departs in mask: published 0.6 | 0.7; here 0.5 (so few patches)"
    row = "| `one` | someone/something: loss.py | mask | 0.6 \\| 0.7 | 0.5 | so few patches |"
    assert row in page({"one": ONE}).splitlines()


def test_none_found_is_not_the_same_as_not_compared() -> None:
    assert said(Compared("paper"))[-1] == "departures: none found" and said(None) == ["compared with: nothing yet"]
    text = page({"faithful": Compared("paper"), "new": None})
    assert "| `faithful` | paper | none found |" in text and text.endswith("Not compared yet: `new`.")


def test_every_method_has_been_compared() -> None:
    assert COMPARED.keys() == METHODS.keys()
