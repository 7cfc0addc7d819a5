"""Shape bias of encoders that see one cue alone, and on the drawn scenes."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from ssbench.results.metrics import score
from ssbench.task import Bench, Outcome
from ssbench.tasks.cue_conflict import CueConflict, shape_bias

FIT, SELECT, TEST = 120, 40, 80


@pytest.fixture
def evaluated(make_bench: Callable[..., Bench]) -> Callable[..., Outcome]:
    """`evaluated(shape, surface)`: features that have so much of either cue, with a little noise."""

    def evaluate(shape: float, surface: float) -> Outcome:
        random = torch.Generator().manual_seed(0)
        label = torch.randint(4, (FIT + SELECT + TEST,), generator=random)
        other = (label + torch.randint(1, 4, label.shape, generator=random)) % 4
        other[: FIT + SELECT] = label[: FIT + SELECT]
        one, two = (torch.nn.functional.one_hot(cue, 4).float() for cue in (label, other))
        x = torch.cat([shape * one, surface * two], 1)
        x = x + 0.1 * torch.randn(x.shape, generator=random)
        table = make_bench(x[..., None, None], {"label": label, "surface": other}, (FIT, SELECT, TEST))
        return CueConflict(CueConflict.Settings()).evaluate(table)

    return evaluate


@pytest.mark.parametrize(("shape", "surface", "bias"), [(1, 0, 100), (0, 1, 0)])
def test_features_of_one_cue_answer_it(
    evaluated: Callable[..., Outcome], shape: float, surface: float, bias: float
) -> None:
    found = evaluated(shape, surface)
    assert score("mean", found.arrays["shape-bias"]) == pytest.approx(bias)
    assert score("accuracy", found.arrays["shape"]) == pytest.approx(bias, abs=3)
    assert score("accuracy", found.arrays["surface"]) == pytest.approx(100 - bias, abs=3)
    assert found.details["conflicts"] == TEST and found.selected["select_top1"] == 100


def test_features_of_both_cues_stand_in_between(evaluated: Callable[..., Outcome]) -> None:
    assert 15 < score("mean", evaluated(1, 1).arrays["shape-bias"]) < 85


def test_shape_bias_leaves_out_answers_that_are_neither_and_images_without_a_conflict() -> None:
    answer, shape, surface = (torch.tensor(one) for one in ([0, 0, 1, 2, 3], [0, 0, 2, 0, 3], [1, 1, 1, 1, 3]))
    assert shape_bias(answer, shape, surface, np.arange(5)).mean().item() == pytest.approx(100 * 2 / 3)
    nobody = torch.full((5,), 7)
    assert shape_bias(nobody, shape, surface, np.arange(5)).tolist() == [50.0] * 5


def test_raw_pixels_of_drawn_conflicts_answer_neither_all_shape_nor_all_surface(
    make_bench: Callable[..., Bench], reads: Callable[..., object]
) -> None:
    from ssbench.data.sources.shapes import draw

    train, test = draw("train", 500, 16, "conflict"), draw("test", 200, 16, "conflict")
    images, label, surface = (
        torch.cat([torch.from_numpy(getattr(split, name)) for split in (train, test)])
        for name in ("images", "label", "surface")
    )

    def pixels(x: Tensor) -> Tensor:
        return x.flatten(1)

    table = make_bench(images, {"label": label, "surface": surface}, (400, 100, 200), reads(pixels))
    found = CueConflict(CueConflict.Settings()).evaluate(table)
    assert 5 < score("mean", found.arrays["shape-bias"]) < 95
