import pytest

from ssbench.errors import UserError
from ssbench.plan import cells, request
from ssbench.rng import derive
from ssbench.spec import Budget, DataRef, Pretraining, Spec, Train


def spec(**changes: object) -> Spec:
    data = DataRef(name="d", fingerprint="f", settings={})
    first = Pretraining(
        method="m",
        owner="ssbench",
        version=1,
        settings={"b": 1, "a": 2},
        backbone="n",
        backbone_settings={},
        data=data,
        budget=Budget(),
        train=Train().model_dump(),
        seed=0,
        precision="float32",
    )
    return Spec(
        pretraining=first.model_copy(update=changes),
        task="t",
        protocol=1,
        task_owner="ssbench",
        task_settings={},
        data=data,
    )


def test_identity_is_a_fixed_hash_of_the_whole_spec() -> None:
    assert spec().id == spec().id and len(spec().id) == 16
    assert spec(settings={"a": 2, "b": 1}).id == spec().id  # the order of keys is not part of it
    for change in ({"seed": 1}, {"version": 2}, {"settings": {"a": 3, "b": 1}}, {"precision": "bf16"}):
        assert spec(**change).id != spec().id, change


def test_a_spec_survives_json() -> None:
    assert Spec.model_validate_json(spec().model_dump_json()).id == spec().id


@pytest.mark.parametrize("text", ["samples=1e4", "steps=10", "epochs=0.5", "flops=1e12", "seconds=60"])
def test_budgets_are_read(text: str) -> None:
    unit, amount = text.split("=")
    assert Budget.parse(text) == Budget(unit=unit, amount=float(amount))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample=3", "did you mean samples"),
        ("steps=many", "'many' is not a number"),
        ("steps=0", "above zero"),
        ("10", "unknown unit"),
        ("steps=inf", "above zero"),
    ],
)
def test_a_wrong_budget_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Budget.parse(text)


def test_purposes_draw_from_seeds_of_their_own() -> None:
    drawn = {derive(seed, purpose, step) for seed in range(3) for purpose in ("init", "views") for step in range(3)}
    assert len(drawn) == 18
    assert derive(0, "init") == 8017594820357293755  # the same on every machine, for ever


@pytest.mark.parametrize(
    ("given", "seeds"),
    [(["0-4"], (0, 1, 2, 3, 4)), (["0-2", "5"], (0, 1, 2, 5)), ([7], (7,)), (["3-3"], (3,)), (2, (2,))],
)
def test_seeds_are_numbers_and_ranges(given: object, seeds: tuple[int, ...]) -> None:
    assert request({"seeds": given}, "run").seeds == seeds


@pytest.mark.parametrize(
    ("backbone", "set_", "patch"),
    [
        ("vit_tiny_patch16_224", [], 16),
        ("vit_tiny_patch16_224", ["backbone.patch=16"], 16),
        ("vit_tiny_patch16_224", ["backbone.patch=8"], 8),
        ("swin_tiny_patch4_window7_224", [], 0),  # no network whose patches can be set
        ("vit-nano", [], 0),
        ("resnet18", [], 0),
    ],
)
def test_the_patch_that_a_name_says_is_part_of_the_identity(backbone: str, set_: list[str], patch: int) -> None:
    asked = {"method": ["random-init"], "dataset": ["digits"], "backbone": [backbone], "seeds": [0], "set": set_}
    (cell,) = cells(request(asked, "test"))
    assert cell.spec.pretraining.backbone_settings == {"patch": patch}


def test_more_seeds_of_the_untrained_network_are_its_own_alone() -> None:
    words = {"method": ["rotation"], "dataset": ["digits"], "seeds": ["1"], "untrained_seeds": 3}
    found = [(cell.method.name, cell.spec.pretraining.seed) for cell in cells(request(words, "run"))]
    assert sorted(found) == [("random-init", 0), ("random-init", 1), ("random-init", 2)] + [
        (name, 1) for name in ("raw-pixels", "rotation", "supervised")
    ]


def test_each_probe_seed_is_a_cell_of_the_same_pretraining_and_the_first_is_as_ever() -> None:
    once, thrice = (
        cells(request({"method": ["rotation"], "dataset": ["digits"], "probe_seeds": n}, "run")) for n in (1, 3)
    )
    assert {cell.spec.id for cell in once} < {cell.spec.id for cell in thrice} and len(thrice) == 3 * len(once)
    assert len({cell.spec.pretraining.digest() for cell in thrice}) == len(once)
    assert "probe" not in once[0].spec.model_dump()
    with pytest.raises(UserError, match="probe_seeds"):
        request({"method": ["rotation"], "probe_seeds": 0}, "run")
