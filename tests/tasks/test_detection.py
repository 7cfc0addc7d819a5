"""Detection counts boxes as pycocotools does."""

import contextlib
import io
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.encoders.encoder import Encoder
from ssbench.encoders.weights import weights_digest
from ssbench.results.metrics import floor, score
from ssbench.task import Bench, Outcome
from ssbench.tasks.boxes import cleaned, constant
from ssbench.tasks.coco import annotations, matched
from ssbench.tasks.detection import Detection, Trained
from ssbench.tasks.pyramid import Detector, anchors_of, match

MakeBench = Callable[..., Bench]
SIZES = (160, 24, 40)


def some_boxes(count: int, most: int) -> Tensor:
    generator = torch.Generator().manual_seed(count * most)
    low = torch.rand(count, most, 2, generator=generator) * 20
    high = low + 4 + torch.rand(count, most, 2, generator=generator) * 12
    return torch.cat([low, high, torch.randint(3, (count, most, 1), generator=generator)], -1)


def test_scores_equal_pycocotools_on_all_images_and_on_some() -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = some_boxes(30, 3)
    found = torch.cat([truth.repeat(1, 3, 1), torch.rand(30, 9, 1, generator=torch.Generator().manual_seed(0))], -1)
    found[..., :4] += torch.randn(30, 9, 4, generator=torch.Generator().manual_seed(1)) * 1.5
    every = matched(found, truth, 3)
    for index in (list(range(30)), list(range(0, 30, 2))):
        with contextlib.redirect_stdout(io.StringIO()):
            both = []
            for boxes in (truth[index], found[index]):
                one = COCO()
                one.dataset = {
                    "images": [{"id": at} for at in range(len(index))],
                    "categories": [{"id": at} for at in range(3)],
                    "annotations": list(annotations(boxes)),
                }
                one.createIndex()
                both.append(one)
            oracle = COCOeval(*both, "bbox")
            oracle.evaluate()
            oracle.accumulate()
            oracle.summarize()
        expected = [100 * float(value) for value in oracle.stats[:3]]
        assert [*every.scores(index).values()] == pytest.approx(expected, abs=1e-6)


def test_a_perfect_predictor_scores_100() -> None:
    truth = some_boxes(10, 2)
    found = torch.cat([truth, torch.ones(10, 2, 1)], -1)
    assert matched(found, truth, 3).scores() == pytest.approx({"ap": 100, "ap50": 100, "ap75": 100})


def test_anchors_lie_around_the_centres_of_places_whatever_the_patch() -> None:
    anchors = anchors_of((16, 16), 224, torch.device("cpu"))
    assert len(anchors.squares) == 32 * 32 + 16 * 16 + 8 * 8
    assert anchors.squares[0].tolist() == [0, 0, 7, 7] and anchors.squares[1023].tolist() == [217, 217, 224, 224]


def test_a_box_is_matched_where_its_middle_is_and_an_empty_image_nowhere() -> None:
    anchors = anchors_of((4, 4), 32, torch.device("cpu"))
    boxes = torch.tensor([[[4.0, 4, 16, 16, 0]], [[-1.0, -1, -1, -1, -1]]])
    found = match(boxes, anchors)
    assert (found[0] == 0).any() and (found[1] == -1).all()


def planted(count: int, kinds: int = 2) -> tuple[Tensor, dict[str, Tensor]]:
    """Maps (N, 4 + kinds, 8, 8), 1 px a place, of one box, whose places say its class and sides; and the boxes."""
    generator = torch.Generator().manual_seed(0)
    low = torch.randint(0, 4, (count, 2), generator=generator)
    high = low + torch.randint(2, 5, (count, 2), generator=generator)
    kind = torch.randint(kinds, (count,), generator=generator)
    at = torch.arange(8)
    across, down = ((at >= low[:, axis, None]) & (at < high[:, axis, None]) for axis in (0, 1))  # (N, 8)
    inside = (down[:, :, None] & across[:, None]).float()
    maps = torch.zeros(count, 4 + kinds, 8, 8)
    maps[torch.arange(count), 4 + kind] = inside
    for side, corner in enumerate((low, high)):
        maps[:, 2 * side] = (at - corner[:, :1]).abs()[:, None] * inside
        maps[:, 2 * side + 1] = (at - corner[:, 1:]).abs()[:, :, None] * inside
    none = torch.full((count, 1, 5), -1)  # a place for a second box that is not there
    return maps, {"boxes": torch.cat([torch.cat([low, high, kind[:, None]], 1)[:, None], none], 1)}


def evaluated(table: Bench, kinds: int = 2, **settings: object) -> Outcome:
    table.data = replace(table.data, box_classes=tuple(f"kind {kind}" for kind in range(kinds)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # NumPy's
        return Detection(Detection.Settings(**{"lrs": (1e-2,), "steps": 120, **settings})).evaluate(table)


def test_planted_boxes_are_found_and_the_content_free_answer_is_far_below(make_bench: MakeBench) -> None:
    found = evaluated(make_bench(*planted(sum(SIZES)), SIZES))
    ap, least = score("mean", found.arrays["ap50"]), floor("mean", found.arrays["ap50"])
    assert ap > 70 and least is not None and least < 25
    assert set(found.details["profile"]["class"]) == {"kind 0", "kind 1"}
    assert set(found.details["profile"]["size"]) == {"small"}
    assert found.details["images_with_more_boxes"] == found.details["empty_boxes"] == 0


def test_boxes_of_other_images_teach_no_more_than_the_content_free_answer(make_bench: MakeBench) -> None:
    maps, targets = planted(sum(SIZES))
    order = torch.randperm(len(maps), generator=torch.Generator().manual_seed(1))
    found = evaluated(make_bench(maps, {"boxes": targets["boxes"][order]}, SIZES))
    assert score("mean", found.arrays["ap50"]) < (floor("mean", found.arrays["ap50"]) or 0) + 10


def test_one_class_is_enough_and_rates_at_which_nothing_is_finite_are_an_error(make_bench: MakeBench) -> None:
    table = make_bench(*planted(sum(SIZES), kinds=1), SIZES)
    assert score("mean", evaluated(table, kinds=1).arrays["ap50"]) > 60
    table = make_bench(*planted(sum(SIZES), kinds=1), SIZES)
    with pytest.raises(RuntimeError, match=r"lower detection\.lrs"):
        evaluated(table, kinds=1, lrs=(1e30,), steps=5)


def test_the_content_free_answer_is_what_is_right_most_often() -> None:
    often, seldom, other = [2.0, 2, 10, 10, 0], [20.0, 20, 28, 30, 0], [4.0, 4, 8, 8, 1]
    boxes = torch.tensor([[often]] * 6 + [[seldom]] * 3 + [[other]])
    found = constant(boxes, 3, 10)
    assert found[0].tolist() == pytest.approx([*often, 0.6]) and found[1].tolist() == pytest.approx([*seldom, 0.3])
    assert found[:, 4].unique().tolist() == [0, 1] and len(constant(boxes, 3, 2)) == 2
    assert constant(torch.full((4, 2, 5), -1.0), 3, 10).shape == (0, 6)
    assert matched(constant(boxes, 3, 0).expand(10, -1, -1), boxes, 3).scores()["ap"] == 0


def test_boxes_are_cut_to_the_image_and_empty_ones_left_out_and_counted() -> None:
    boxes = torch.tensor([[[40, 2, 50, 9, 0], [-1, -1, -1, -1, -1], [-4, 3, 8, 40, 1]]])
    found, dropped = cleaned(boxes, 32)
    assert dropped == 1 and found[0].tolist() == [[0, 3, 8, 32, 1], [-1] * 5, [-1] * 5]


@pytest.mark.parametrize("grid", [(4, 4), (5, 3), (1, 1)])
def test_the_pyramid_says_something_of_each_anchor(grid: tuple[int, int]) -> None:
    detector, anchors = (
        Detector(torch.zeros(6, 1, 1), torch.ones(6, 1, 1), 3),
        anchors_of(grid, 32, torch.device("cpu")),
    )
    said = detector(torch.randn(2, 6, *grid))
    assert said["cls_logits"].shape == (2, len(anchors.squares), 3)
    assert said["bbox_regression"].shape == (2, len(anchors.squares), 4)
    assert detector.detect(torch.randn(2, 6, *grid), anchors, 32, 7).shape == (2, 7, 6)


def test_no_layer_of_the_detector_sees_another_place() -> None:
    detector = Detector(torch.zeros(6, 1, 1), torch.ones(6, 1, 1), 3)
    maps = torch.randn(1, 6, 4, 4)
    other = maps.clone()
    other[:, :, :2, :2] += 1  # four places of a level, sixteen and one of the others
    moved = detector(maps)["cls_logits"] != detector(other)["cls_logits"]
    assert moved.any(2).sum() == 16 + 4 + 1


def scenes() -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (40, 3, 16, 16), generator=generator).to(torch.uint8), {"boxes": some_boxes(40, 2) / 2}


@pytest.mark.parametrize("trunk", ["frozen", "tuned"])
def test_the_encoder_stays_as_it_was_and_a_copy_learns_where_it_is_tuned(
    make_bench: MakeBench, untrained: Encoder, trunk: str
) -> None:
    images, targets = scenes()
    targets["boxes"][..., 4] = 0
    table, before = make_bench(images, targets, (24, 8, 8), untrained), weights_digest(untrained)
    table.data = replace(table.data, box_classes=("thing",))
    one = Trained(table, 1e-3, Detection.Settings(trunk=trunk, steps=2, batch=4))
    assert weights_digest(untrained) == before
    assert (one.encoder is None) if trunk == "frozen" else (weights_digest(one.encoder) != before)


def test_a_conv_net_has_a_map_too(make_bench: MakeBench) -> None:
    torch.manual_seed(0)
    net = build("resnet18", size=16, channels=3, mean=torch.full((3,), 0.5), std=torch.full((3,), 0.25))
    images, targets = scenes()
    targets["boxes"][..., 4] = 0
    found = evaluated(make_bench(images, targets, (24, 8, 8), net), kinds=1, steps=3)
    assert found.pictures["detection"].shape == (8, 2, 3, 16, 16)


def test_a_missing_extra_is_one_line_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, make_bench: MakeBench
) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(RuntimeError, match=r"pip install 'ssbench\[detection\]'"):
        evaluated(make_bench(*planted(sum(SIZES)), SIZES))
