from typing import Literal

from ssbench.results.groups import groups
from ssbench.results.record import Record, Score
from ssbench.results.trunks import trunks
from ssbench.spec import Budget

from .records import done, failed, spec

CONTROLS = {"random-init": "floor", "supervised": "ceiling"}
Better = Literal["higher", "lower"]
METHODS = ("a", "b", "c", "d", "e", "f")


def record(method: str, backbone: str, value: float, seed: int = 0, better: Better = "higher") -> Record:
    score = Score(value=value, low=0, high=0, unit="%", better=better, kind="mean", samples=9)
    return done(spec(method, seed, backbone=backbone), "top1", score)


def both(better: Better = "higher") -> list[Record]:
    """Six methods and a control, in one order by `vit-nano` and in the opposite one by `resnet-nano`."""
    rows = [record(name, "vit-nano", place, seed, better) for place, name in enumerate(METHODS) for seed in (0, 1)]
    rows += [record(name, "resnet-nano", 9 - place, 0, better) for place, name in enumerate(METHODS)]
    return [*rows, *(record("random-init", trunk, 1, better=better) for trunk in ("vit-nano", "resnet-nano"))]


def test_methods_are_rows_and_backbones_columns_with_how_far_their_orders_agree() -> None:
    (frame,) = trunks(groups(both()), CONTROLS)
    assert frame.title == "shapes, samples=1000: knn top1 % ↑ (protocol 1) by backbone"
    assert frame.header == ("method", "resnet-nano", "vit-nano")
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in frame.rows}
    assert rows["a"] == ["9.0", "0.0 ± 0.0"] and rows["f"] == ["4.0", "5.0 ± 0.0"]
    assert list(rows) == [*METHODS, "random-init"], "a control that was not run has no row"
    assert frame.notes[0].startswith("the order by resnet-nano and by vit-nano: -1.00 n=6")


def test_lower_is_better_both_times_or_the_order_is_the_same() -> None:
    (frame,) = trunks(groups(both("lower")), CONTROLS)
    assert "-1.00" in frame.notes[0], "both backbones are turned alike"


def test_one_backbone_other_budgets_and_failed_runs_make_no_frame() -> None:
    one = [record(name, "vit-nano", 1) for name in METHODS]
    assert not trunks(groups(one), CONTROLS)
    other = spec("a", backbone="resnet-nano")
    assert not trunks(groups([*one, failed(other)]), CONTROLS)
    more = spec("a", backbone="resnet-nano", budget=Budget(unit="samples", amount=2000))
    assert not trunks(groups([*one, done(more, "top1", one[0].scores["top1"])]), CONTROLS)
