"""Detection counts boxes as pycocotools does."""

import contextlib
import io

import pytest
import torch
from torch import Tensor

from ssbench.tasks.coco import annotations, matched
from ssbench.tasks.pyramid import anchors_of, match


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
