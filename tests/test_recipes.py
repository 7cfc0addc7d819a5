"""Whose rates, schedules and batch a method is trained with, and what that does to cells and tables."""

from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
from torch import nn

from ssbench import recipes
from ssbench.errors import UserError
from ssbench.plan import Cell, Suite, cells
from ssbench.registry import find
from ssbench.results.groups import Recipe
from ssbench.results.store import Store
from ssbench.spec import Train
from ssbench.training import optimisers

ROOT = Path(__file__).parent.parent
Command = Callable[..., CompletedProcess[str]]


def planned(*methods: str, **keys: Any) -> dict[str, Cell]:
    asked = {"method": methods, "task": ("knn",), "dataset": ("digits",), "seeds": (0,)} | keys
    return {cell.method.name: cell for cell in cells(Suite(**asked))}


def test_the_shared_recipe_is_everyones_and_is_not_named() -> None:
    made = planned("simclr", "byol", recipe="shared")
    trained = [cell.spec for cell in made.values() if cell.spec.pretraining.budget]
    assert len(trained) == 3 and all(spec.pretraining.train == Train().model_dump(mode="json") for spec in trained)
    assert all("recipe" not in spec.model_dump() for spec in trained)


def test_values_that_came_later_are_left_out_where_they_are_the_defaults() -> None:
    kept = ["batch", "lr", "weight_decay", "beta2", "warmup", "clip"]
    assert list(Train().model_dump(mode="json")) == kept
    assert list(Train(optimiser="sgd").model_dump(mode="json")) == [*kept, "optimiser"]


def test_a_published_recipe_is_the_methods_own_for_its_kind_of_backbone() -> None:
    spec = planned("byol", recipe="cifar", backbone=("resnet18",))["byol"].spec
    assert spec.recipe == "cifar" and spec.pretraining.train is not None
    assert spec.pretraining.train["optimiser"] == "lars" and spec.pretraining.settings["hidden"] == 4096
    with pytest.raises(UserError, match=r"--recipe cifar: byol has none of that name for vit-nano; it has cifar, .*"):
        planned("byol", recipe="cifar")


def test_what_is_set_goes_before_a_recipe_and_is_part_of_its_name() -> None:
    keys = {"backbone": ("resnet18",), "recipe": "cifar", "set": ("train.lr=0.5", "byol.hidden=64")}
    spec = planned("byol", **keys)["byol"].spec
    assert spec.pretraining.train is not None and spec.pretraining.train["lr"] == 0.5
    assert spec.pretraining.settings["hidden"] == 64 and spec.recipe == "cifar; train.lr=0.5"


def test_controls_train_as_all_do_and_what_does_not_train_has_no_recipe() -> None:
    made = planned("byol", recipe="cifar", backbone=("resnet18",))
    assert made["supervised"].spec.pretraining.train == Train().model_dump(mode="json")
    assert made["random-init"].spec.recipe == ""


def test_methods_with_rates_of_their_own_share_a_table_and_those_of_shared_rates_another() -> None:
    own = planned("simclr", "byol", recipe="own", set=("train.batch=32",))
    shared = planned("simclr", recipe="shared")["simclr"]
    assert Recipe.of(own["simclr"].spec) == Recipe.of(own["byol"].spec) != Recipe.of(shared.spec)


def test_a_recipe_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match=r"--recipe mine: choose own, shared, cifar or imagenet"):
        recipes.check("mine")
    assert recipes.of(find("methods", "relative-location"), "own", "vit-nano", None).train == {}


@pytest.mark.parametrize(
    ("values", "peak"), [({}, 1.5e-3), ({"scaling": "linear"}, 1.5e-3 / 4), ({"scaling": "sqrt"}, 1.5e-3 / 2)]
)
def test_rates_are_scaled_from_256_images(values: dict[str, Any], peak: float) -> None:
    assert optimisers.peak(Train(batch=64, **values)) == pytest.approx(peak)


def stepped(recipe: Train, groups: list[dict[str, Any]], progress: float) -> torch.optim.Optimizer:
    made = optimisers.optimiser(groups, recipe)
    optimisers.schedule(made, recipe, progress)
    for group in made.param_groups:
        for weight in group["params"]:
            weight.grad = torch.ones_like(weight)
    made.step()
    return made


def test_groups_may_have_another_rate_or_one_that_stays() -> None:
    weights = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    more: list[dict[str, Any]] = [{}, {"lr_scale": 0.1}, {"constant": True}]
    groups = [{"params": [weight], "weight_decay": 0.0, **one} for weight, one in zip(weights, more)]
    made = stepped(Train(lr=1.0, warmup=0.0, optimiser="sgd"), groups, 0.5)
    assert [group["lr"] for group in made.param_groups] == pytest.approx([0.5, 0.05, 1.0])


def test_weight_decay_rises_by_a_cosine_where_there_is_some() -> None:
    weights = [nn.Parameter(torch.zeros(2, 2)) for _ in range(2)]
    groups = [{"params": [weight], "weight_decay": decay} for weight, decay in zip(weights, (0.04, 0.0))]
    made = optimisers.optimiser(groups, recipe := Train(weight_decay=0.04, weight_decay_end=0.4))
    for progress, decay in ((0.0, 0.04), (0.5, 0.22), (1.0, 0.4)):
        optimisers.schedule(made, recipe, progress)
        assert [group["weight_decay"] for group in made.param_groups] == pytest.approx([decay, 0])


def test_lars_never_goes_above_the_rate_where_it_is_clipped() -> None:
    """solo-learn, solo/utils/lars.py: min(trust ratio / rate, 1), times the rate, is the step for a gradient of 1."""
    for rate_, clipped in ((1.0, 0.02 * 3.0 * 2 / (2 + 0.1 * 6)), (0.01, 0.01)):
        weight = nn.Parameter(torch.full((2, 2), 3.0))
        recipe = Train(optimiser="lars", lr=rate_, warmup=0.0, trust=0.02, trust_clip=True)
        stepped(recipe, [{"params": [weight], "weight_decay": 0.1}], 0.0)
        assert weight[0, 0].item() == pytest.approx(3.0 - min(clipped, rate_) * (1 + 0.1 * 3.0), rel=1e-5)
    with pytest.raises(UserError, match=r"train\.optimiser=lars: it adapts the rates of what decays alone"):
        planned("simclr", set=("train.optimiser=lars", "train.weight_decay=0"))


def test_the_cifar_recipes_of_solo_learns_lars_are_clipped_as_its_own_are() -> None:
    for method in ("byol", "dino", "swav", "deepcluster-v2", "nnclr", "moco-v3", "barlow-twins", "vicreg"):
        train = planned(method, recipe="cifar", backbone=("resnet18",))[method].spec.pretraining.train
        assert train is not None and train["optimiser"] == "lars" and train["trust_clip"]


def test_weight_decay_that_has_nothing_to_rise_from_is_refused() -> None:
    with pytest.raises(UserError, match=r"weight_decay_end=0\.4: it would change nothing where weight_decay is 0"):
        planned("simclr", set=("train.weight_decay=0", "train.weight_decay_end=0.4"))
    assert planned("simclr", set=("train.weight_decay=0.1", "train.weight_decay_end=0.4"))


def test_lars_adapts_what_decays_by_the_ratio_of_norms_and_leaves_the_rest() -> None:
    weight, bias = nn.Parameter(torch.full((2, 2), 3.0)), nn.Parameter(torch.full((2,), 3.0))
    groups = [{"params": [weight], "weight_decay": 0.1}, {"params": [bias], "weight_decay": 0.0}]
    stepped(Train(optimiser="lars", lr=1.0, warmup=0.0, trust=0.01), groups, 0.0)
    gradient = 1 + 0.1 * 3.0  # You et al. 2017: the decay is part of the direction
    ratio = 0.01 * 6.0 / (2.0 + 0.1 * 6.0)  # norms of the weight and of its gradient
    assert weight[0, 0].item() == pytest.approx(3.0 - ratio * gradient, rel=1e-5)
    assert bias[0].item() == pytest.approx(3.0 - 1.0)


COLLAPSES = """
from ssbench import Entry, Method
class Falls(Method):
    def loss(self, batch):
        vectors = self.encoder.pooled(batch.views[0])
        return {"alike": (vectors - 1).square().mean()}
METHODS = {"falls": Entry("Falls", "test", "all images alike", "none")}
"""


@pytest.mark.parametrize(("choice", "failed"), [("stop", 1), ("go-on", 0)])
def test_a_collapse_is_named_early_and_stops_where_it_shall(
    ssbench: Command, photos: Path, tmp_path: Path, choice: str, failed: int
) -> None:
    (tmp_path / "falls.py").write_text(COLLAPSES)
    words = ["run", "--plugin", tmp_path / "falls.py", "--method", "falls", "--dataset", f"folder:{photos}"]
    more = [
        "--task",
        "knn",
        "--seeds",
        "0",
        "--budget",
        "steps=200",
        "--set",
        "train.batch=16",
        "--set",
        "train.lr=0.01",
    ]
    ran = ssbench(*words, *more, "--device", "cpu", "--on-collapse", choice, "--results", tmp_path / "r")
    assert ran.returncode == failed, ran.stderr
    (record,) = [record for record in Store(tmp_path / "r").all() if record.spec.pretraining.method == "falls"]
    if failed:
        assert "collapsed at step" in record.reason
    else:
        assert "falls, seed 0: it looks collapsed at step" in " ".join(ran.stderr.split())
        assert [row["step"] for row in record.health] == [0, 50, 100, 150, 200]
        assert record.health[-1]["deviation"] < 0.1 and "one direction" in record.warning


def test_own_rates_are_what_the_committed_trials_say() -> None:
    """As `benchmarks/rates.py` reads them, in the methods' files and on the page of protocols."""
    found = spec_from_file_location("rates", ROOT / "benchmarks" / "rates.py")
    assert found is not None and found.loader is not None
    rates = module_from_spec(found)
    found.loader.exec_module(rates)
    records = Store(ROOT / "results" / "rates").all()
    page = (ROOT / "docs" / "protocol.md").read_text()
    for backbone in ("vit-nano", "resnet-nano"):
        scores = rates.together(rates.scores(records, backbone))
        assert {"simclr", "swav", "supervised"} < scores.keys()
        for name, tried in scores.items():
            says = recipes.of(find("methods", name), "own", backbone, None).train.get("lr", float(rates.SHARED))
            assert says == float(rates.own(tried)), (name, backbone)
        assert rates.table(records, backbone) in page
