"""Equal cost: each method takes its own number of steps, and they take as many FLOPs as the first one's."""

from pathlib import Path
from typing import Any

import pytest

import ssbench
from ssbench.api import request
from ssbench.errors import UserError
from ssbench.matching import matched
from ssbench.results.store import Store
from ssbench.spec import Budget


def run(results: Path, **asked: Any) -> "ssbench.Results":
    usual: dict[str, Any] = {"methods": "simclr,mim-random", "tasks": "knn", "dataset": "digits", "seeds": 0}
    return ssbench.run(**usual | {"set": {"train.batch": 16}, "results": results, "match": "flops"} | asked)


def test_all_get_what_the_first_takes_in_steps_of_their_own(tmp_path: Path) -> None:
    found = {one.spec.pretraining.method: one for one in run(tmp_path, budget="steps=6").records}
    first, cheap = found["simclr"], found["mim-random"]
    assert first.spec.pretraining.budget == cheap.spec.pretraining.budget
    budget = first.spec.pretraining.budget
    assert budget is not None and budget.unit == "flops"
    assert budget.amount == pytest.approx(first.costs.pretrain_gflops * 1e9, rel=1e-4)
    assert first.costs.steps == 6 and cheap.costs.steps > 12
    for one in (first, cheap, found["supervised"]):
        step = one.costs.pretrain_gflops / one.costs.steps
        assert -1e-3 <= budget.amount / 1e9 - one.costs.pretrain_gflops < step, "one step more would be too much"


def test_shares_get_the_same_flops(tmp_path: Path) -> None:
    asked = request(method="simclr", dataset="digits", seeds=0, budget="steps=7", share="50%,100%")
    (both,) = matched(asked, Store(tmp_path), "cpu", lambda text: None).budget
    (whole,) = matched(asked.model_copy(update={"share": ("100%",)}), Store(tmp_path), "cpu", lambda text: None).budget
    assert both == whole and both.startswith("flops=")


def test_budgets_of_flops_stay_and_several_are_matched_each(tmp_path: Path) -> None:
    asked = request(method="simclr", dataset="digits", seeds=0, budget="flops=1.2345678e9,steps=7,steps=9")
    said: list[str] = []
    same, seven, nine = matched(asked, Store(tmp_path), "cpu", said.append).budget
    assert same == "flops=1.2345678e9" and len(said) == 3
    amounts = [Budget.parse(one).amount for one in (seven, nine)]
    assert amounts[0] / 7 == pytest.approx(amounts[1] / 9, rel=1e-5)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"match": "seconds"}, "choose samples or flops; for equal time, --budget seconds=600"),
        ({"budget": "seconds=4"}, "seconds are equal already"),
        ({"methods": "random-init"}, "no method is trained"),
        ({"backbone": "vit-nano,resnet-nano"}, "simclr is there in several variants"),
        ({"budget": "epochs=1", "share": "10%,100%"}, "and, with epochs, share"),
        ({"vary": {"backbone.patch": ["4", "8"]}}, "simclr is there in several variants"),
    ],
)
def test_what_can_not_be_matched_is_refused(tmp_path: Path, asked: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path, **asked)


def test_what_does_not_apply_or_is_broken_is_said_in_one_line(tmp_path: Path, photos: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    for number, file in enumerate(sorted(photos.glob("*/*.png"))):
        (loose / f"{number}.png").write_bytes(file.read_bytes())
    asked = {"methods": "supcon", "dataset": f"folder:{photos}", "pretrain_on": f"folder:{loose}"}
    with pytest.raises(UserError, match=r"--match flops: supcon can't be trained here: .* has no labels"):
        run(tmp_path / "r", **asked)
