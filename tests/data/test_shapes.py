"""The drawn scenes: what they promise to those who train, probe and segment on them."""

import hashlib
from itertools import combinations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from ssbench.data.sources import photographs, shapes
from ssbench.data.sources.looks import CUES
from ssbench.data.sources.shapes import CLASSES, FACTORS, GRADES, Scenes, draw

FIRST_FIELDS = ("images", "label", "mask", "boxes", "factors")
FIELDS = (*FIRST_FIELDS, "depth", "surface")


def same(a: Scenes, b: Scenes) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


@pytest.fixture(scope="module", params=GRADES)
def scenes(request: pytest.FixtureRequest) -> Scenes:
    return draw("train", 300, 32, request.param)


def test_shapes_and_types(scenes: Scenes) -> None:
    expected = {
        "images": ((300, 3, 32, 32), np.uint8),
        "label": ((300,), np.int64),
        "mask": ((300, 32, 32), np.uint8),
        "boxes": ((300, 3, 5), np.int32),
        "factors": ((300, len(FACTORS)), np.float32),
        "depth": ((300, 32, 32), np.float32),
    }
    for name, (shape, kind) in expected.items():
        assert (getattr(scenes, name).shape, getattr(scenes, name).dtype) == (shape, kind), name


def test_values_lie_in_their_ranges(scenes: Scenes) -> None:
    assert scenes.label.min() >= 0 and scenes.label.max() < len(CLASSES)
    assert scenes.mask.max() <= len(CLASSES)
    assert scenes.images.min() < 20 and scenes.images.max() > 235
    x, y, scale, angle, hue, contrast = scenes.factors.T
    assert np.all((x > 0.15) & (x < 0.85) & (y > 0.15) & (y < 0.85)), "the main object is whole, or nearly"
    assert np.all((scale >= 0.35) & (scale <= 0.85))
    assert np.all(np.abs(angle) <= np.pi) and np.all((hue >= 0) & (hue < 1))
    assert np.all((np.abs(contrast) > 0.15) & (np.abs(contrast) < 0.46)), "visible, lighter or darker"


def test_what_is_in_front_is_nearer_and_light_falls_on_what_is_near(scenes: Scenes) -> None:
    background = scenes.mask == 0
    assert (
        scenes.depth[background].min() >= np.float32(3.1) > scenes.depth[~background].max() and scenes.depth.min() > 0.8
    )
    main = scenes.mask == 1 + scenes.label[:, None, None]
    alone = (scenes.boxes[:, 1:, 4] < 0).all(1)
    for depth, mask, scale in zip(scenes.depth[alone], main[alone], scenes.factors[alone, 2]):
        np.testing.assert_allclose(depth[mask], 2.7 - scale, rtol=1e-5)
    grey = scenes.images.mean(1)
    slopes = [(one[:, :, -8:] - one[:, :, :8]).mean((1, 2)) for one in (grey, scenes.depth.astype(np.float64))]
    assert np.corrcoef(*slopes)[0, 1] < -0.2


def test_grades_turn_further_and_hold_more_objects() -> None:
    angle, others = {}, {}
    for grade in ("v1", "medium", "hard"):
        drawn = draw("train", 300, 32, grade)
        angle[grade] = np.abs(drawn.factors[:, FACTORS.index("angle")]).max()
        others[grade] = (drawn.boxes[:, 1:, 4] >= 0).sum(1).mean()
    assert angle["v1"] <= 0.2 < angle["medium"] <= 0.6 < angle["hard"]
    assert others["v1"] < 0.5 < 1 < others["medium"] and others["hard"] > 1


@pytest.mark.parametrize("grade", GRADES)
def test_drawing_twice_gives_the_same_scenes(grade: str) -> None:
    assert same(draw("train", 20, 32, grade), draw("train", 20, 32, grade))


@pytest.mark.parametrize("count", [1, 127, 128, 129])
def test_a_shorter_draw_is_the_beginning_of_a_longer_one(count: int) -> None:
    long, short = draw("train", 300, 32, "hard"), draw("train", count, 32, "hard")
    assert same(short, Scenes(*(getattr(long, name)[:count] for name in FIELDS)))


@pytest.mark.parametrize("grade", GRADES)
def test_one_scene_at_two_sizes_is_the_same_scene(grade: str) -> None:
    large, small = draw("test", 100, 64, grade), draw("test", 100, 32, grade)
    assert np.array_equal(large.label, small.label) and np.array_equal(large.factors, small.factors)
    halved = large.images.reshape(100, 3, 32, 2, 32, 2).mean((3, 5))
    assert np.abs(halved - small.images).mean() < 2  # of 255; edges and clipping differ a little
    doubled = small.mask.repeat(2, 1).repeat(2, 2)
    assert (doubled == large.mask).mean() > 0.97
    both = (large.boxes[:, :, 4] >= 0) & (small.boxes[:, :, 4] >= 0)
    apart = np.abs(large.boxes[both][:, :4] - 2 * small.boxes[both][:, :4])
    assert np.quantile(apart, 0.98) <= 2  # pixels of the large one; a thin tip may show in one size only


def test_a_size_that_is_no_power_of_two() -> None:
    assert draw("train", 3, 45).images.shape == (3, 3, 45, 45)


def test_the_main_object_shows_in_the_mask_and_has_the_first_box(scenes: Scenes) -> None:
    own = scenes.mask == (1 + scenes.label)[:, None, None]
    assert own.mean((1, 2)).min() > 0.03
    assert np.array_equal(scenes.boxes[:, 0, 4], scenes.label)


def test_the_classes_of_the_boxes_are_those_of_the_mask(scenes: Scenes) -> None:
    for mask, boxes in zip(scenes.mask, scenes.boxes, strict=True):
        assert set(np.unique(mask)) - {0} == {1 + box[4] for box in boxes if box[4] >= 0}


def test_a_box_is_the_extent_of_its_object_in_the_mask(scenes: Scenes) -> None:
    for mask, boxes in zip(scenes.mask, scenes.boxes, strict=True):
        shown = boxes[boxes[:, 4] >= 0]
        for x0, y0, x1, y1, index in shown:
            if (shown[:, 4] == index).sum() == 1:  # two objects of one class can't be told apart in the mask
                y, x = np.nonzero(mask == 1 + index)
                assert (x.min(), y.min(), x.max() + 1, y.max() + 1) == (x0, y0, x1, y1)


@pytest.mark.parametrize("grade", ["v1", "medium", "hard", "conflict"])
def test_an_absent_object_has_a_box_of_minus_one(grade: str) -> None:
    scenes = draw("train", 300, 32, grade)
    absent = scenes.boxes[:, :, 4] < 0
    assert absent.any() and np.all(scenes.boxes[absent] == -1)


@pytest.mark.parametrize("grade", ["medium", "hard"])
def test_the_object_in_front_never_hides_half_of_the_main_one(grade: str) -> None:
    numbers = np.random.default_rng(0).random((600, shapes.NUMBERS))
    scene = shapes._scene(numbers, "train", shapes.GRADE[grade])
    main, front = shapes._cover(scene.main, 32), shapes._cover(scene.front, 32)
    hidden = (main * front).sum((1, 2)) / main.sum((1, 2))
    assert hidden.mean() > 0.05 and hidden.max() < 0.5


def test_a_flock_is_three_of_one_form_apart_and_each_as_visible_as_another() -> None:
    drawn = draw("train", 300)
    assert np.array_equal(drawn.boxes[:, :, 4], drawn.label[:, None].repeat(3, 1)), "all three show"
    scene = shapes._scene(np.random.default_rng(0).random((600, shapes.NUMBERS)), "train", shapes.GRADE["easy"])
    main, behind, front = scene.main, scene.behind, scene.front
    for one, other in combinations((main, behind, front), 2):
        apart = np.hypot(*(one.pose - other.pose)[:, :2].T)
        assert apart.min() > 0.15 and 0.4 < apart.mean() < 0.5
    lighter = [(one.level > scene.level).mean() for one in (main, behind, front)]
    assert np.all(np.abs(np.array(lighter) - 0.5) < 0.07), "lighter and darker alike"
    for level in (main.level, behind.level, front.level):
        assert np.abs(level - scene.level).min() >= 0.3


@pytest.mark.parametrize("grade", ["easy", "hard"])
def test_the_main_object_is_the_largest(grade: str) -> None:
    scene = shapes._scene(np.random.default_rng(0).random((600, shapes.NUMBERS)), "train", shapes.GRADE[grade])
    main, behind, front = (thing.pose[:, 2] for thing in (scene.main, scene.behind, scene.front))
    assert np.all(behind < main) and np.all(front < main)


@pytest.mark.parametrize("grade", GRADES)
def test_every_class_comes_up_about_equally_often(grade: str) -> None:
    counts = np.bincount(draw("train", 1600, 8, grade).label, minlength=len(CLASSES))
    assert counts.min() > 150 and counts.max() < 250  # 200 expected, standard deviation 13


def test_hue_and_the_other_factors_do_not_give_the_class_away() -> None:
    train, test = draw("train", 1600, 8), draw("test", 800, 8)
    tree = DecisionTreeClassifier(max_depth=6, random_state=0)
    hue = [FACTORS.index("hue")]
    for columns in (hue, list(range(len(FACTORS)))):
        assert tree.fit(train.factors[:, columns], train.label).score(test.factors[:, columns], test.label) < 0.18


def test_mean_colours_do_not_give_the_class_away() -> None:
    train, test = draw("train", 1600, 8), draw("test", 800, 8)
    near = KNeighborsClassifier(20).fit(train.images.mean((2, 3)), train.label)
    assert near.score(test.images.mean((2, 3)), test.label) < 0.2


@pytest.mark.parametrize("grade", GRADES)
def test_raw_pixels_stay_near_the_floor(grade: str) -> None:
    train, test = draw("train", 2000, 32, grade), draw("test", 500, 32, grade)
    near = KNeighborsClassifier(20).fit(train.images.reshape(2000, -1).astype(np.float32), train.label)
    highest = 0.25 if grade == "easy" else 0.35  # chance 0.125
    assert near.score(test.images.reshape(500, -1).astype(np.float32), test.label) < highest


def test_train_and_test_are_different_scenes() -> None:
    train, test = draw("train", 100), draw("test", 100)
    assert not np.array_equal(train.label, test.label)
    assert not np.isclose(train.factors[:, None], test.factors).all(2).any()


def test_train_and_test_backgrounds_come_from_different_halves() -> None:
    numbers = np.random.default_rng(0).random((500, shapes.NUMBERS))
    for split, (low, high) in {"train": (0, 320), "test": (320, 640)}.items():
        scene = shapes._scene(numbers, split, shapes.GRADE["hard"])
        for crop in (scene.background, scene.main.texture):
            ends = np.stack([crop[:, 1], crop[:, 1] + crop[:, 3]])
            assert ends.min() >= low and ends.max() <= high


def test_pixels_are_exact_means_of_the_photograph() -> None:
    from sklearn.datasets import load_sample_image

    crop = np.array([[1.0, 100, 40, 96, 64], [1.0, 196, 104, -96, -64]])  # which, x, y, width, height; mirrored
    expected = load_sample_image("flower.jpg")[40:104, 100:196].reshape(16, 4, 16, 6, 3).mean((1, 3)) / 255
    plain, mirrored = photographs.means(crop, 16).transpose(0, 2, 3, 1)
    assert np.allclose(plain, expected) and np.allclose(mirrored, expected[::-1, ::-1])


FIRST_VERSION = {  # of the first 64 scenes: labels of 16, mean x, mean and deviation of the pixels, share of the mask
    ("v1", "train"): ("1717366121756355", 0.5047, 124.46, 66.89, 0.2926),
    ("v1", "test"): ("4714207602654145", 0.5150, 127.99, 63.37, 0.2741),
    ("medium", "train"): ("3021125645024261", 0.5135, 125.31, 63.70, 0.2644),
    ("medium", "test"): ("5106247003221355", 0.4894, 120.37, 62.43, 0.2574),
    ("hard", "train"): ("2353647550136713", 0.4983, 125.72, 66.35, 0.2300),
    ("hard", "test"): ("5115027355002172", 0.4881, 127.55, 66.45, 0.2429),
}


@pytest.mark.parametrize(("grade", "split"), FIRST_VERSION)
def test_version_1_stays_what_it_is(grade: str, split: str) -> None:
    """Records of runs rest on these scenes: a change of the drawing needs another version of the grade."""
    labels, *numbers = FIRST_VERSION[grade, split]
    drawn = draw(split, 64, 32, grade)
    assert shapes.GRADE[grade].version == 1
    assert "".join(map(str, drawn.label[:16])) == labels
    found = [drawn.factors[:, 0].mean(), drawn.images.mean(), drawn.images.std(), (drawn.mask > 0).mean()]
    assert found == pytest.approx(numbers, rel=1e-3)


FIRST_DRAWN = {  # SHA-256 of all that `draw` gave of 64 scenes of 32 px when the grade's version was made
    ("easy", "train"): "84e3556dc4c05656",
    ("easy", "test"): "2150f1a051bb98e1",
    ("v1", "train"): "0d6c7b215682b04b",
    ("v1", "test"): "cf8b9ca4ea1c7062",
    ("medium", "train"): "589c6d18b9d32231",
    ("medium", "test"): "f10cc8f3f6efebee",
    ("hard", "train"): "8311ce18d5719d55",
    ("hard", "test"): "ef45971d8a113c91",
}


@pytest.mark.parametrize(("grade", "split"), FIRST_DRAWN)
def test_another_grade_changes_no_bit_of_those_before(grade: str, split: str) -> None:
    drawn, found = draw(split, 64, 32, grade), hashlib.sha256()
    for name in FIRST_FIELDS:
        found.update(getattr(drawn, name).tobytes())
    assert found.hexdigest()[:16] == FIRST_DRAWN[grade, split]
    assert (drawn.surface == -1).all()


def test_in_conflict_the_surface_is_the_class_in_train_and_evenly_another_in_test() -> None:
    train, test = draw("train", 1600, 8, "conflict"), draw("test", 1600, 8, "conflict")
    assert np.array_equal(train.surface, train.label)
    away = (test.surface - test.label) % len(CLASSES)
    counts = np.bincount(away, minlength=len(CLASSES))
    assert counts[0] == 0 and counts[1:].min() > 180 and counts.max() < 280  # 229 expected, standard deviation 14


def test_surfaces_in_conflict_tell_themselves_apart_and_are_alike_on_every_shape() -> None:
    scene = shapes._scene(np.random.default_rng(0).random((600, shapes.NUMBERS)), "test", shapes.GRADE["conflict"])
    assert len(set(scene.main.surface)) == len(CLASSES)
    still = scene.main._replace(colour=np.zeros((600, 3)), second=np.ones((600, 3)), shade=np.full(600, np.pi / 2))
    drawn = shapes._surface(still._replace(pose=np.tile([0.5, 0.5, 1, 0], (600, 1)), pitch=np.full(600, 1.4)), 32)
    first = [drawn[scene.main.surface == name] for name in CUES]
    assert all(np.ptp(found, axis=0).max() < 1e-6 for found in first)
    assert all(np.abs(found[0] - found[0, :, :, ::-1]).max() < 1e-6 for found in first), "a mirror changes no surface"
    apart = [np.abs(a[0] - b[0]).mean() for a, b in combinations(first, 2)]
    assert min(apart) > 0.2


@pytest.mark.parametrize(
    ("split", "grade", "wrong", "allowed"),
    [
        ("valid", "easy", "'valid'", "train, test"),
        ("train", "mild", "'mild'", "easy, medium, hard"),
    ],
)
def test_an_unknown_split_or_grade_is_named_with_those_allowed(
    split: str, grade: str, wrong: str, allowed: str
) -> None:
    with pytest.raises(ValueError, match=f"{wrong}.*{allowed}"):
        draw(split, 4, grade=grade)


@pytest.mark.parametrize(("count", "size"), [(0, 32), (4, 4)])
def test_an_impossible_count_or_size_is_named(count: int, size: int) -> None:
    with pytest.raises(ValueError, match=f"count {count} and size {size}"):
        draw("train", count, size)
