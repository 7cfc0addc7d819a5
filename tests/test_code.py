"""Which changes of a file change the digest of its code, and that every file of the spine counts or is named here."""

from pathlib import Path

import pytest

from ssbench import code
from ssbench.plan import Suite, cells
from ssbench.registry import Kind, entries

ROOT = Path(__file__).parent.parent
BASE = '''
"""A module."""
from torch import nn

LIMIT = 3


class Net(nn.Module):
    """A net."""

    class Settings(Base):
        width: int = setting(8, "how wide", source="a paper")

    version = 1
    recipes = {"own": Recipe("a paper", {"lr": 0.1})}

    def forward(self, images, scale=1.0):
        """Doubled."""
        total = images * scale
        best = [one for one in total if one > LIMIT]
        if not best:
            raise ValueError(f"nothing above {LIMIT}")

        def inner(total2):
            less = total2 - total
            return less

        class Found:
            size = 1

        return inner(best), Found
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3\n", "LIMIT = 3  # a comment\n\n# another\n"),
        ('"""A net."""', '"""Another net."""'),
        ('        """Doubled."""\n', ""),
        ("images * scale\n", "(images\n            * scale)\n"),
        ("total = images", "summed = images"),
        ("less = total2 - total\n            return less", "rest = total2 - total\n            return rest"),
        ('f"nothing above {LIMIT}"', '"too little"'),
        ('setting(8, "how wide", source="a paper")', 'setting(16, "the width", source="b paper")'),
        ("version = 1", "version = 2"),
        ('Recipe("a paper", {"lr": 0.1})', 'Recipe("b paper", {"lr": 0.2})'),
    ],
)
def test_what_no_result_follows_from_changes_no_digest(old: str, new: str) -> None:
    changed = BASE.replace(old, new, 1)
    if new.startswith("summed"):
        changed = changed.replace("in total if", "in summed if").replace("- total\n", "- summed\n")
    assert changed != BASE
    assert code.of_source(changed) == code.of_source(BASE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("LIMIT = 3", "BOUND = 3"),
        ("images * scale", "images + scale"),
        ("images * scale", "scale * images"),
        ("scale=1.0", "scale=2.0"),
        ("images, scale", "pictures, scale"),
        ("one > LIMIT", "one >= LIMIT"),
        ("total2 - total\n", "total2 - best\n"),
        ("raise ValueError", "raise TypeError"),
        ("if not best", "if best"),
        ("inner(best)", "inner(total)"),
        ("return less", "return total"),
        ("size = 1", "width = 1"),
        ("from torch import nn", "from other import nn"),
        ("class Net(nn.Module)", "class Net(nn.Linear)"),
    ],
)
def test_what_a_result_may_follow_from_changes_the_digest(old: str, new: str) -> None:
    changed = BASE.replace(old, new, 1)
    assert changed != BASE
    assert code.of_source(changed) != code.of_source(BASE)


def test_a_mixture_has_the_code_of_its_parts_and_an_untrained_net_none_of_training() -> None:
    suite = Suite(method=("simclr", "rotation", "rotation+simclr"), task=("knn",), dataset=("digits",), seeds=(0,))
    found = {cell.method.name: code.digests(cell.spec, cell.method, cell.task) for cell in cells(suite)}
    assert len({found[name]["method"] for name in ("simclr", "rotation", "rotation+simclr")}) == 3
    assert "training" in found["simclr"] and "training" not in found["random-init"]
    assert {one["scores"] for one in found.values()} == {found["simclr"]["scores"]}


def test_the_codes_of_a_method_are_those_that_it_imports() -> None:
    found = code._closure("ssbench.methods.contrastive.moco_v2")
    assert {"ssbench.methods.contrastive.moco_v2", "ssbench.methods.parts.queue"} <= found
    assert not any("simsiam" in name or name.startswith("ssbench.data") for name in found)


APART = {  # of the spine, and no score follows from it
    *(
        "",
        "__main__",
        "api",
        "check",
        "code",
        "contracts",
        "departures",
        "errors",
        "matching",
        "plan",
        "progress",
        "recipes",
        "reproduce",
    ),
    *("registry", "settings", "spec", "tuning", "workshop", "encoders", "encoders.card", "encoders.export"),
    *("encoders.weights", "data.copies", "data.fingerprints", "data.leaks", "data.memory", "data.needs"),
    *("data.sources", "data.suspicion", "data.understood", "training", "training.diagnostics", "training.pictures"),
    "training.steplog",
}
APART_FOLDERS = ("cli", "suites", "data.pages", "results", "report")


def test_every_file_of_the_spine_is_in_a_digest_or_is_said_to_be_apart() -> None:
    counted = {*code.TRAINING, *code.NETWORK, *code.GIVEN, *code.SPLITS, *code.DRAWN, *code.READ, *code.SCORES}
    counted |= {name.removeprefix("ssbench.") for name in code.AROUND}
    files = {
        ".".join(file.relative_to(ROOT / "ssbench").with_suffix("").parts).removesuffix("__init__").rstrip(".")
        for file in (ROOT / "ssbench").rglob("*.py")
    }
    assert counted <= files and not counted & APART
    apart = {name for name in files if name in APART or name.startswith(APART_FOLDERS)}
    assert files - counted - apart == set()


@pytest.mark.parametrize("kind", ["methods", "tasks"])
def test_every_entry_has_a_code(kind: Kind) -> None:
    assert all(code._module(entry.target) for entry in entries(kind).values())
