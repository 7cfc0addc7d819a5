"""Mixtures: one encoder, the weighted sum of its parts' losses, and nothing of one part disturbs another."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
from timm.layers.drop import DropPath

from ssbench.contracts import CPU, RECIPE, assembled, loss_repeats, training_resumes
from ssbench.data import Dataset
from ssbench.errors import Broken, UserError
from ssbench.features import represent
from ssbench.method import Method, View
from ssbench.plan import Cell, Suite, cells
from ssbench.registry import Entry, find, load, own_line
from ssbench.results.store import Store
from ssbench.settings import make
from ssbench.training.loop import loop

Command = Callable[..., CompletedProcess[str]]


PLUGIN = """
from ssbench import Entry, Method


class Mine(Method):
    def loss(self, batch):
        return {"square": 0.5 * self.encoder.pooled(batch.views[0]).square().mean()}


METHODS = {"mine": Entry("Mine", "mine", "a loss of one's own")}
"""


def planned(*methods: str, **keys: Any) -> dict[str, Cell]:
    asked = {"method": methods, "task": ("knn",), "dataset": ("digits",), "seeds": (0,)} | keys
    return {cell.method.name: cell for cell in cells(Suite(**asked))}


def mixed(name: str, data: Dataset, **keys: Any) -> Any:
    """The untrained mixture, around the small ViT that contracts have."""
    entry, settings = find("methods", name), planned(name, **keys)[name].spec.pretraining.settings
    alone = assembled(entry.members[0], data)
    return load(entry)(alone.encoder, make(load(entry).Settings, settings, "mix"), len(data.classes))


def terms(method: Method, data: Dataset) -> dict[str, float]:
    run = loop(method, data.fit, RECIPE, 0, "float32", CPU)
    method.train()
    return {name: term.item() for name, term in run.terms(3, 0.5).items()}


def test_each_part_loses_what_it_would_alone_times_its_weight(tiny: Dataset) -> None:
    both = mixed("mim-random+simclr", tiny, set=("mix.simclr=0.5",))
    found = terms(both, tiny)
    assert list(found) == ["mim-random.reconstruction", "simclr.ntxent"]
    alone = both.parts["mim-random"]
    assert found["mim-random.reconstruction"] == pytest.approx(terms(alone, tiny)["reconstruction"], rel=1e-5)


def test_no_part_skips_blocks_or_holds_weights_of_another(tiny: Dataset) -> None:
    found, skips = mixed("dino+byol", tiny), dict[str, list[bool]]()
    networks = {"both": found.encoder, "dino": found.parts["dino"].teacher, "byol": found.parts["byol"].teacher}
    part = found.parts["byol"]
    part.loss = lambda batch, loss=part.loss: skips.update({k: dropping(v) for k, v in networks.items()}) or loss(batch)
    terms(found, tiny)
    assert skips == {"both": [], "dino": [], "byol": []}
    with pytest.raises(UserError, match=r"moco-v3 holds trunk\.patch_embed\S+ of the encoder still, which other parts"):
        mixed("byol+moco-v3", tiny)
    assert mixed("byol+moco-v3", tiny, set=("moco-v3.frozen_patches=false",))


def dropping(module: torch.nn.Module) -> list[bool]:
    return [True for part in module.modules() if isinstance(part, DropPath)]


def test_equal_views_are_made_once_and_each_part_gets_as_many_as_it_wants(tiny: Dataset) -> None:
    found = mixed("simclr+byol", tiny)
    parts = [view for _, part in found.each() for view in part.views for _ in range(view.count)]
    assert len(found.views) == len({*parts}) + 1  # SimCLR wants two of one kind
    same = mixed("mim-random+mim-block", tiny)
    assert same.views == [View(crop=same.views[0].crop, flip=same.views[0].flip)]


def test_masks_are_those_that_a_part_draws_alone(tiny: Dataset) -> None:
    first, second = mixed("mim-random+mim-block", tiny), mixed("mim-block+mim-random", tiny)
    drawn: list[list[torch.Tensor]] = []
    for method in (first, second):
        part, seen = method.parts["mim-block"], list[torch.Tensor]()
        hide = part.hide
        part.hide = lambda *words, hide=hide, seen=seen: seen.append(found := hide(*words)) or found
        terms(method, tiny)
        drawn.append([place for pair in seen for place in pair])
    assert all(torch.equal(one, other) for one, other in zip(*drawn))


def test_a_mixture_resumes_and_repeats(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = find("methods", "byol+mim-random")
    monkeypatch.setattr("ssbench.contracts.assembled", lambda entry, data: mixed(entry.name, data))
    loss_repeats(entry, tiny)  # both raise Broken where it does not hold
    training_resumes(entry, tiny)

    def forgetful(entry: Entry, data: Dataset) -> Method:
        made, steps = mixed(entry.name, data), count()
        part = made.parts["mim-random"]
        part.loss = lambda batch, loss=part.loss: {key: value + next(steps) for key, value in loss(batch).items()}
        return made

    monkeypatch.setattr("ssbench.contracts.assembled", forgetful)
    with pytest.raises(Broken):
        training_resumes(entry, tiny)


def test_groups_hold_each_weight_once(tiny: Dataset) -> None:
    found = mixed("simclr+byol", tiny)
    weights = [id(weight) for group in found.groups(0.1) for weight in group["params"]]
    wanted = [id(weight) for weight in found.parameters() if weight.requires_grad]
    assert sorted(weights) == sorted(wanted)


def test_settings_reach_the_parts_and_are_part_of_the_identity() -> None:
    first = planned("mim-block+simclr", set=("simclr.temperature=0.2", "mim-block.ratio=0.5"))["mim-block+simclr"].spec
    parts = first.pretraining.settings["parts"]
    assert parts["simclr"]["settings"]["temperature"] == 0.2 and parts["mim-block"]["settings"]["ratio"] == 0.5
    assert first.id != planned("mim-block+simclr")["mim-block+simclr"].spec.id


def test_the_first_parts_recipe_reaches_its_own_settings_alone() -> None:
    spec = planned("byol+simclr", recipe="cifar", backbone=("resnet18",))["byol+simclr"].spec
    parts = spec.pretraining.settings["parts"]
    assert spec.pretraining.train is not None and spec.pretraining.train["optimiser"] == "lars"
    assert parts["byol"]["settings"]["hidden"] == 4096 and parts["simclr"]["settings"]["hidden"] == 512


@pytest.mark.parametrize(
    ("name", "set_", "said"),
    [
        ("mim-random+simclr", ("mix.byol=1",), r"mix\.byol: mim-random\+simclr has no such part; its parts: .*simclr"),
        ("simclr+simclr", (), r"simclr\+simclr: a method is in it twice"),
        ("simclr+random-init", (), r"random-init can't be mixed"),
        ("simclr+nothing", (), r"unknown method 'nothing'"),
        ("mim-random+simclr", ("swav.out=3",), r"nothing called 'swav' in this run"),
    ],
)
def test_what_can_not_be_meant_is_refused(name: str, set_: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        planned(name, set=set_)


def test_a_weight_of_nothing_is_refused(tiny: Dataset) -> None:
    with pytest.raises(UserError, match=r"mix\.simclr=0: a weight is above zero"):
        mixed("mim-random+simclr", tiny, set=("mix.simclr=0",))


def test_it_runs_as_a_row_of_its_own(ssbench: Command, photos: Path, tmp_path: Path) -> None:
    words = ["run", "--method", "mim-random+simclr", "--task", "knn", "--dataset", f"folder:{photos}", "--seeds", "0"]
    more = ["--budget", "steps=3", "--set", "train.batch=16", "--device", "cpu", "--results", tmp_path / "r"]
    ran = ssbench(*words, *more)
    assert ran.returncode == 0, ran.stderr
    assert "\nmim-random+simclr " in ran.stdout
    assert "mim-random+simclr" in {record.spec.pretraining.method for record in Store(tmp_path / "r").all()}


def test_a_plugins_part_is_in_the_identity_by_its_content_and_an_error_names_its_line(tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN)

    def owner(plugins: tuple[str, ...] = (str(plugin),)) -> str:
        return planned("simclr+mine", plugin=plugins)["simclr+mine"].spec.pretraining.owner

    first = owner()
    assert first.startswith("ssbench+mine.py@") and str(tmp_path) not in first
    plugin.write_text(PLUGIN.replace("0.5", "0.25"))
    assert owner() != first and planned("simclr+byol")["simclr+byol"].spec.pretraining.owner == "ssbench"


def test_an_error_of_a_part_is_of_its_file_and_one_of_the_house_is_of_none() -> None:
    entry = find("methods", "simclr+swav")
    with pytest.raises(AttributeError) as of_a_part:
        load(find("methods", "swav")).build(None)
    assert own_line(of_a_part.value, [entry]).startswith("swav.py, line ")
    with pytest.raises(AttributeError) as of_the_house:
        represent(None, torch.zeros(1, 3, 4, 4), {})  # type: ignore[arg-type]
    assert own_line(of_the_house.value, [entry]) == ""
