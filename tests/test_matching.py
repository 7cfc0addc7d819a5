"""Equal cost: each method takes its own number of steps, and they take as many FLOPs as the first one's."""

from pathlib import Path
from typing import Any

import pytest

import ssbench
from ssbench.errors import UserError


def run(results: Path, **asked: Any) -> "ssbench.Results":
    usual: dict[str, Any] = {"methods": "simclr,mim-random", "tasks": "knn", "dataset": "digits", "seeds": 0}
    return ssbench.run(**usual | {"set": {"train.batch": 16}, "results": results, "match": "flops"} | asked)


def test_all_get_what_the_first_takes_in_steps_of_their_own(tmp_path: Path) -> None:
    found = {one.spec.pretraining.method: one for one in run(tmp_path, budget="steps=6").records}
    first, cheap = found["simclr"], found["mim-random"]
    assert first.spec.pretraining.budget == cheap.spec.pretraining.budget
    budget = first.spec.pretraining.budget
    assert budget is not None and budget.unit == "flops"
    assert budget.amount == pytest.approx(first.costs.pretrain_gflops * 1e9 / first.costs.steps * 6, rel=5e-3)
    assert cheap.costs.steps > 2 * first.costs.steps and first.costs.steps in (5, 6)
    for one in (first, cheap, found["supervised"]):
        step = one.costs.pretrain_gflops / one.costs.steps
        assert 0 <= budget.amount / 1e9 - one.costs.pretrain_gflops < step, "one step more would be too much"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"match": "seconds"}, "choose samples or flops; for equal time, --budget seconds=600"),
        ({"budget": "seconds=4"}, "nothing there says how many steps"),
        ({"methods": "random-init"}, "nothing there says how many steps"),
        ({"backbone": "vit-nano,resnet-nano"}, "an image costs other FLOPs in each"),
    ],
)
def test_what_can_not_be_matched_is_refused(tmp_path: Path, asked: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path, **asked)
