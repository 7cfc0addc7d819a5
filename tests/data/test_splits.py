"""Who trains, who chooses, who judges: by class, by group, by hashes of keys, the same wherever the source lies."""

import random
from collections import Counter
from fractions import Fraction

import pytest

from ssbench.data.splits import PARTS, SELECT, TEST, Row, places, roles
from ssbench.errors import UserError
from ssbench.spec import DataSettings

PLAIN = DataSettings()
NAMES = tuple("abcdefgh")


def rows(counts: dict[int, int], prefix: str = "") -> list[Row]:
    return [Row(f"{prefix}{label}/{i}.png", (label,)) for label, count in counts.items() for i in range(count)]


def keys(splits: dict[str, list[Row]], settings: DataSettings = PLAIN) -> dict[str, set[str]]:
    found = roles("pets", splits, NAMES, settings)
    return {role: {splits[split][at].key for at in positions} for role, (split, positions) in found.parts.items()}


@pytest.mark.parametrize("seed", range(20))
def test_each_class_is_split_within_one_sample_of_its_share(seed: int) -> None:
    draw = random.Random(seed)
    counts = {label: draw.randint(2, 60) for label in range(8)}
    place = places(rows(counts))
    for label, count in counts.items():
        own = [at for at, row in zip(place, rows(counts)) if row.classes == (label,)]
        for held in (SELECT, TEST):
            share = Fraction(count * len(held), PARTS)
            assert abs(sum(at in held for at in own) - share) < 1


@pytest.mark.parametrize("counts", [{0: 2, 1: 40}, {0: 3, 1: 40, 2: 40}, {0: 1, 1: 30}, dict.fromkeys(range(8), 2)])
def test_every_class_is_in_fit(counts: dict[int, int]) -> None:
    found = keys({"train": rows(counts)})
    assert {key[0] for key in found["fit"]} == {str(label) for label in counts}


def test_parts_are_disjoint_and_whole() -> None:
    found = keys({"train": rows({0: 33, 1: 21, 2: 7})})
    assert sum(map(len, found.values())) == 61 == len(set.union(*found.values()))


def test_the_order_of_rows_changes_no_role() -> None:
    one = rows({0: 33, 1: 21, 2: 7})
    other = random.Random(0).sample(one, len(one))
    assert keys({"train": one}) == keys({"train": other})


def test_roles_are_what_they_were() -> None:
    place = places(rows({0: 6, 1: 6}))
    assert place == [2, 4, 1, 3, 5, 0, 0, 8, 9, 6, 7, 1]


def test_without_labels_a_tenth_chooses_and_a_fifth_judges() -> None:
    found = roles("pets", {"train": [Row(str(i)) for i in range(1000)]}, (), PLAIN)
    assert {role: len(each) for role, (_, each) in found.parts.items()} == {"fit": 700, "select": 100, "test": 200}


@pytest.mark.parametrize("groups", [3, 7, 40])
def test_no_group_is_on_two_sides(groups: int) -> None:
    draw = random.Random(groups)
    of = [Row(str(i), (i % 2,), f"patient {draw.randrange(groups)}") for i in range(200)]
    found = roles("scans", {"train": of}, NAMES, PLAIN)
    sides = [{of[at].group for at in positions} for _, positions in found.parts.values()]
    assert sum(map(len, sides)) == len(set.union(*sides))
    assert "no group is on two sides" in found.how


def test_equal_images_stay_on_one_side() -> None:
    of = [Row(f"{i}.png", (i % 2,), content=f"c{i // 4}") for i in range(200)]
    found = roles("icons", {"train": of}, NAMES, PLAIN)
    sides = [{of[at].content for at in positions} for _, positions in found.parts.values()]
    assert sum(map(len, sides)) == 50 == len(set.union(*sides))
    assert "150 images are equal to others, and stay beside them" in found.said


def test_a_group_that_the_source_has_on_two_sides_is_refused_unless_allowed() -> None:
    splits = {
        "train": [Row(str(i), (i % 2,), f"g{i % 20}") for i in range(40)],
        "test": [Row("x", (0,), "g3"), Row("y", (1,), "g50")],
    }
    with pytest.raises(UserError, match=r"1 groups \(as 'g3'\).*data.allow=shared-groups"):
        roles("scans", splits, NAMES, PLAIN)
    assert roles("scans", splits, NAMES, DataSettings(allow=("shared-groups",))).parts["test"] == ("test", (0, 1))


def test_splits_of_the_source_keep_their_roles() -> None:
    splits = {name: rows({0: 20, 1: 20}, name) for name in ("train", "val", "test")}
    found = roles("pets", splits, NAMES, PLAIN)
    assert [split for split, _ in found.parts.values()] == ["train", "val", "test"]
    assert found.how == "the source's own splits"


def test_a_val_without_a_test_judges() -> None:
    found = roles("pets", {name: rows({0: 20, 1: 20}, name) for name in ("train", "val")}, NAMES, PLAIN)
    assert found.parts["test"][0] == "val" and found.parts["select"][0] == "train"
    assert "test is the source's val" in found.how


def test_a_val_without_a_train_is_trained_on() -> None:
    found = roles("pets", {name: rows({0: 20, 1: 20}, name) for name in ("val", "test")}, NAMES, PLAIN)
    assert {role: split for role, (split, _) in found.parts.items()} == {"fit": "val", "select": "val", "test": "test"}
    assert "there is no train" in found.how


def test_a_split_without_labels_is_left_out_and_said() -> None:
    found = roles("pets", {"train": rows({0: 20, 1: 20}), "test": [Row("t1"), Row("t2")]}, NAMES, PLAIN)
    assert found.parts["test"][0] == "train" and "test is left out: none of its 2 images has a label" in found.said


def test_images_without_a_label_are_left_out_where_others_have_one() -> None:
    of = [*rows({0: 20, 1: 20}), Row("loose")]
    found = roles("pets", {"train": of}, NAMES, PLAIN)
    assert all(40 not in positions for _, positions in found.parts.values())
    assert "1 images of train without a label are left out" in found.said


def test_a_class_that_a_part_lacks_is_said_and_one_that_fit_lacks_refused() -> None:
    train, test = rows({0: 20, 1: 20, 2: 2}), rows({0: 5, 1: 5}, "t")
    assert "test has no image of class 'c'" in roles("pets", {"train": train, "test": test}, NAMES, PLAIN).said
    with pytest.raises(UserError, match=r"test has images of class 'd', and fit has none.*unseen-classes"):
        roles("pets", {"train": train, "test": [*test, Row("new", (3,))]}, NAMES, PLAIN)


def test_several_labels_are_placed_by_their_rarest() -> None:
    of = [Row(str(i), (0, 1) if i < 20 else (0,)) for i in range(120)]
    held = Counter(place in TEST for place in places(of)[:20])
    assert held[True] == 4


@pytest.mark.parametrize(("splits", "text"), [({}, "no split called train"), ({"train": 2}, "too small to be split")])
def test_too_little_is_refused(splits: dict[str, int], text: str) -> None:
    with pytest.raises(UserError, match=text):
        roles("pets", {name: rows({0: count}) for name, count in splits.items()}, NAMES, PLAIN)
