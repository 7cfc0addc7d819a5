"""Fewer labels are nested, stratified, the same everywhere, and others with another draw."""

import pytest
import torch

from ssbench.data import Split
from ssbench.data.labelled import labelled, parse
from ssbench.errors import UserError

COUNTS = (100, 40, 9, 1)


def split(times: int = 1) -> Split:
    label = torch.cat([torch.full((count * times,), one) for one, count in enumerate(COUNTS)])
    return Split(torch.zeros(len(label), 1, 1, 1), tuple(f"{i}.png" for i in range(len(label))), {"label": label})


def counts(labels: str, draw: int = 0) -> list[int]:
    part = split()
    return part.targets["label"][labelled(part, labels, draw, len(part))].bincount(minlength=4).tolist()


@pytest.mark.parametrize(
    ("text", "wanted"), [("5%", "5%"), (" 0.50 %", ""), ("4", "4"), ("100%", ""), ("10.0%", "10%")]
)
def test_a_share_or_a_number_a_class_is_spelled_in_one_way(text: str, wanted: str) -> None:
    if wanted or text == "100%":
        assert parse(text) == wanted
    else:
        with pytest.raises(UserError, match="expected a share such as 5%"):
            parse(text)


@pytest.mark.parametrize("text", ["0", "0%", "101%", "1.5", "-3", "few", ""])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=f"--labels {text}"):
        parse(text)


def test_a_share_is_of_each_class_and_none_vanishes() -> None:
    assert counts("10%") == [10, 4, 1, 1]
    assert counts("1%") == [1, 1, 1, 1]


def test_a_number_is_of_each_class_as_far_as_it_has_so_many() -> None:
    assert counts("4") == [4, 4, 4, 1]


def test_select_has_as_many_beside_fit_as_it_has_images() -> None:
    fit, select = split(10), split(1)
    label = select.targets["label"][labelled(select, "20", 0, len(fit))]
    assert label.bincount(minlength=4).tolist() == [2, 2, 2, 1]


def test_fewer_are_part_of_more_and_a_draw_is_another() -> None:
    part = split()
    few, more = ({*labelled(part, labels, 3, len(part)).tolist()} for labels in ("5%", "30%"))
    assert few < more
    assert few != {*labelled(part, "5%", 4, len(part)).tolist()}


def test_the_order_of_samples_changes_nothing() -> None:
    part = split()
    back = part.take([*range(len(part))][::-1])
    kept = {part.keys[at] for at in labelled(part, "10%", 0, len(part))}
    assert kept == {back.keys[at] for at in labelled(back, "10%", 0, len(part))}


def test_without_labels_the_share_is_of_all() -> None:
    part = Split(torch.zeros(50, 1, 1, 1), tuple(map(str, range(50))), {"mask": torch.zeros(50, 1, 1)})
    assert len(labelled(part, "10%", 0, 50)) == 5
