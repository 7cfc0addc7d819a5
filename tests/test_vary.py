"""What varies is a cross product on top of the other one, in which each cell stands once."""

from collections.abc import Callable
from itertools import groupby, product
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from ssbench.errors import UserError
from ssbench.plan import Cell, Suite, cells, parse_vary, request, suite

Command = Callable[..., CompletedProcess[str]]
MASKS, TARGETS = ("random", "block"), ("pixels", "pixels-normed")


def planned(*methods: str, **keys: Any) -> list[Cell]:
    return cells(Suite(**{"method": methods, "task": ("knn",), "dataset": ("digits",), "seeds": (0,)} | keys))


def settings(made: list[Cell], method: str, *keys: str) -> list[tuple[Any, ...]]:
    return [
        tuple(cell.spec.pretraining.settings[key] for key in keys)
        for cell in made
        if cell.spec.pretraining.method == method
    ]


def test_each_combination_is_a_cell_in_the_order_of_keys_and_values() -> None:
    made = planned("mim", vary={"mim.mask": MASKS, "mim.target": TARGETS})
    assert settings(made, "mim", "mask", "target") == [*product(MASKS, TARGETS)]


def test_a_combination_is_what_setting_it_makes() -> None:
    made = planned("mim", vary={"mim.mask": MASKS, "mim.ratio": ("0.5", "0.25")})
    alone = [
        cell.spec.id
        for mask in MASKS
        for ratio in ("0.5", "0.25")
        for cell in planned("mim", set=(f"mim.mask={mask}", f"mim.ratio={ratio}"))
        if cell.method.name == "mim"
    ]
    assert [cell.spec.id for cell in made if cell.method.name == "mim"] == alone


def test_what_no_combination_changes_is_there_once_and_where_it_was() -> None:
    made = planned("simclr", "mim-block", "mim", vary={"mim.mask": MASKS, "mim.target": ("pixels",)})
    assert [cell.method.name for cell in made] == [
        "simclr",
        "mim-block",  # the preset fixes the mask, and not what is varied to one value
        "mim",
        "mim",
        "random-init",
        "raw-pixels",
        "supervised",
    ]
    assert settings(made, "mim-block", "mask") == [("block",)]
    assert len({cell.spec.id for cell in made}) == len(made)


def test_equal_values_however_they_are_spelled_are_one_cell() -> None:
    assert settings(planned("mim", vary={"mim.ratio": ("0.5", "0.50", "5e-1")}), "mim", "ratio") == [(0.5,)]


def test_budgets_are_a_cell_each_however_they_are_spelled_and_controls_are_there_once() -> None:
    budgets = ("samples=100", "samples=1e2", "steps=5")
    made = planned("simclr", budget=budgets)
    found = [(cell.method.name, str(cell.spec.pretraining.budget)) for cell in made]
    trained = [
        ("simclr", "samples=100"),
        ("supervised", "samples=100"),
        ("simclr", "steps=5"),
        ("supervised", "steps=5"),
    ]
    assert [one for one in found if one[0] in ("simclr", "supervised")] == trained
    assert sorted(name for name, _ in found) == ["random-init", "raw-pixels", *["simclr"] * 2, *["supervised"] * 2]
    alone = [cell.spec.id for budget in budgets[1:] for cell in planned("simclr", budget=budget)]
    assert {cell.spec.id for cell in made} == {*alone}


def test_nothing_varied_is_the_plan_as_before() -> None:
    assert planned("mim", "simclr") == planned("mim", "simclr", vary={})
    one = planned("mim", vary={"mim.mask": ("block",)})
    assert [c.spec.id for c in one] == [c.spec.id for c in planned("mim", set=("mim.mask=block",))]


@pytest.mark.parametrize(
    "vary", [{"knn.k": ("5", "20"), "mim.mask": MASKS}, {"mim.mask": MASKS, "knn.k": ("5", "20")}], ids=str
)
def test_cells_that_share_a_pretraining_are_neighbours(vary: dict[str, tuple[str, ...]]) -> None:
    made = planned("mim", "simclr", task=("knn", "linear-probe"), seeds=(0, 1), vary=vary)
    runs = [digest for digest, _ in groupby(made, key=lambda cell: cell.spec.pretraining.digest())]
    assert len(runs) == len({*runs}) == (2 + 1 + 3) * 2
    assert len(made) == len(runs) * (2 + 1)  # two k-NN and one linear probe each


def test_data_and_the_recipe_can_vary_too() -> None:
    made = planned("simclr", vary={"data.image_size": ("8", "16"), "train.lr": ("1e-3", "2e-3")})
    found = {
        (cell.data_settings.image_size, cell.spec.data.settings["image_size"], cell.spec.pretraining.train["lr"])
        for cell in made
        if cell.spec.pretraining.train is not None
    }
    assert found == {(size, size, lr) for size in (8, 16) for lr in (1e-3, 2e-3)}
    assert sum(cell.method.name == "random-init" for cell in made) == 2  # it has no learning rate


def test_the_command_line_is_read_key_by_key() -> None:
    assert parse_vary(["mim.mask=random, block", "mim.ratio = 0.5"]) == {
        "mim.mask": ["random", "block"],
        "mim.ratio": ["0.5"],
    }


def test_a_file_has_one_value_or_many_and_numbers(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("method: mim\nvary: {mim.mask: [random, block], mim.ratio: [0.5, 0.75], mim.target: pixels}\n")
    expected = {"mim.mask": ["random", "block"], "mim.ratio": ["0.5", "0.75"], "mim.target": ["pixels"]}
    assert suite(str(file))["vary"] == expected
    assert request(suite(str(file)), "here").vary == {key: tuple(values) for key, values in expected.items()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mim.mask", "--vary mim.mask: expected scope.key=value,value"),
        ("mask=a,b", "--vary mask=a,b: expected scope.key=value,value"),
        ("mim.=a", "expected scope.key=value,value"),
        ("mim.mask=", "a value is empty"),
        ("mim.mask=a,,b", "a value is empty"),
    ],
)
def test_what_is_no_assignment_of_values_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_vary([text])


def test_a_key_that_is_given_twice_is_refused() -> None:
    with pytest.raises(UserError, match=r"--vary mim\.mask is given twice"):
        parse_vary(["mim.mask=random", "mim.mask=block"])


@pytest.mark.parametrize(
    "line",
    ["vary: [mim.mask]", "vary:", "vary: {mim.mask: []}", "vary: {mim.mask: [a, '']}", "vary: {mask: [a]}",
     "vary: {mim.mask: [[a, b]]}", "vary: {mim.mask: }"],
)  # fmt: skip
def test_a_file_whose_vary_is_something_else_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"method: mim\n{line}\n")
    with pytest.raises(UserError, match=r"mine\.yaml: vary: .*expected|mine\.yaml: vary: mim\.mask: a value is empty"):
        suite(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"vary": {"mimm.mask": ("a",)}}, "--vary mimm.…: nothing called 'mimm' in this run; did you mean mim"),
        ({"vary": {"mim.maskk": ("a",)}}, "unknown setting mim.maskk; did you mean mask"),
        ({"vary": {"mim.ratio": ("0.5", "much")}}, "mim.ratio=much"),
        ({"set": ("mim.arch=cros", "mim.decoder_depth=3")}, "mim.arch=cros: there is no such arch; did you mean cross"),
        ({"vary": {"mim.mask": ()}}, "--vary mim.mask: a value is empty"),
        ({"vary": {"mim.mask": MASKS}, "set": ("mim.mask=block",)}, "mim.mask is in both --set and --vary"),
    ],
)
def test_a_plan_that_can_not_be_made_names_the_key(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        planned("mim", **keys)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("methods", "keys", "message"),
    [
        ("mim", {"set": ("mim.tau=2",)}, "mim.tau=2: nothing in this run uses it (mask=adaptive: power of"),
        ("mim", {"vary": {"mim.tau": ("1", "2")}}, "mim.tau=2: nothing in this run uses it"),
        ("mim", {"set": ("mim.visible=9", "mim.ratio=0.5")}, "mim.ratio=0.5: nothing in this run uses it"),
        ("mim-adaptive", {"set": ("mim-adaptive.unit=2",)}, "mim-adaptive.unit=2: nothing in this run uses it"),
        (
            "mim-adaptive",
            {"vary": {"mim.tau": ("2", "3")}, "set": ("mim-adaptive.tau=4",)},
            "mim.tau=2: mim-adaptive.tau is set too, and counts",
        ),
        (
            "mim-block,mim-random",
            {"set": ("mim.mask=object",)},
            "mim.mask=object: mim-block fixes that setting; to change it all the same, say mim-block.mask",
        ),
    ],
)
def test_what_is_set_and_changes_no_cell_is_refused(methods: str, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        planned(*methods.split(","), **keys)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("methods", "keys"),
    [
        ("mim", {"set": ("mim.tau=2",), "vary": {"mim.mask": ("random", "adaptive")}}),
        ("mim-block,mim", {"set": ("mim.mask=object", "mim.regions=4")}),
        ("mim-block", {"set": ("mim-block.mask=object",)}),
        ("ibot", {"set": ("ibot.hue=0", "mim.tau=1")}),  # defaults, which an identity leaves out
        ("mim", {"set": ("train.lr=1e-3", "data.image_size=16", "knn.k=5")}),
        ("mim", {"set": ("mim.tau=2", "mim.tau=1")}),  # the last one counts
        ("mim", {"set": ("mim.mask=adaptive", "mim.mask=random", "mim.visible=9", "mim.visible=0", "mim.ratio=0.5")}),
        ("mim-block,mim", {"set": ("mim.mask=object", "mim.mask=unit", "mim.unit=1")}),
    ],
)
def test_what_is_set_and_used_by_one_cell_is_enough(methods: str, keys: dict[str, Any]) -> None:
    assert planned(*methods.split(","), **keys)


def test_settings_that_only_hold_together_are_judged_together(tmp_path: Path) -> None:
    (tmp_path / "pair.py").write_text(
        "from pydantic import model_validator\n"
        "from ssbench import Entry, Method, Settings, setting\n"
        "class Pair(Method):\n"
        "    class Settings(Settings):\n"
        "        low: int = setting(1, 'one', source='test')\n"
        "        high: int = setting(2, 'other', source='test')\n"
        "        @model_validator(mode='after')\n"
        "        def _ordered(self):\n"
        "            assert self.low < self.high\n"
        "            return self\n"
        "METHODS = {'pair': Entry('Pair', 'test', 'two that belong together', 'none')}\n"
    )
    made = planned("pair", plugin=(str(tmp_path / "pair.py"),), set=("pair.low=5", "pair.high=9"))
    assert settings(made, "pair", "low", "high") == [(5, 9)]


def test_the_command_line_overrides_a_files_key_and_adds_others(ssbench: Command, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "method: mim\ntask: knn\ndataset: digits\nseeds: 0\nbudget: steps=1\nset: [data.image_size=16]\n"
        "vary: {mim.mask: [random, block], mim.ratio: [0.5, 0.75]}\n"
    )
    words = ["run", "--suite", file, "--vary", "mim.ratio=0.25", "--vary", "mim.decoder_width=32,64", "--dry-run"]
    ran = ssbench(*words, "--device", "cpu", "--results", tmp_path / "r")
    assert ran.returncode == 0, ran.stderr
    assert [line.partition("]")[0].strip() for line in ran.stdout.splitlines() if "mim [" in line] == [
        f"mim [decoder_width={width}, mask={mask}" for mask in ("random", "block") for width in (32, 64)
    ]


def test_bad_input_gets_one_clear_line(ssbench: Command, tmp_path: Path) -> None:
    words = ("--method", "mim", "--vary", "mim.mask=block", "--set", "mim.mask=random", "--results", tmp_path / "r")
    ran = ssbench("run", *words)
    assert ran.returncode == 2 and not (tmp_path / "r").exists()
    assert ran.stderr.splitlines() == ["ssbench: mim.mask is in both --set and --vary; leave it out of one of them"]
