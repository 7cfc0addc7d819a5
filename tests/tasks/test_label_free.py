"""The task of label-free numbers on encoders that give nothing, or of few images."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from ssbench.encoders.encoder import Encoder
from ssbench.results.bootstrap import interval
from ssbench.task import Bench, Outcome
from ssbench.tasks.diagnostics import TEMPERATURES, Diagnostics, swayed

Evaluated = Callable[..., Outcome]


@pytest.fixture
def evaluated(make_bench: Callable[..., Bench], reads: Callable[..., Encoder]) -> Evaluated:
    def evaluate(read: Callable[[Tensor], Tensor], sizes: tuple[int, int, int] = (5, 20, 40)) -> Outcome:
        images = torch.randint(256, (sum(sizes), 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
        return Diagnostics(Diagnostics.Settings()).evaluate(make_bench(images, {}, sizes, reads(read)))

    return evaluate


def test_a_collapsed_encoder_uses_one_dimension_and_tells_nothing(evaluated: Evaluated) -> None:
    found = evaluated(lambda x: torch.ones(len(x), 16))
    means = {name: arrays["value"].mean() for name, arrays in found.arrays.items() if "value" in arrays}
    assert means["rankme"] == pytest.approx(1, abs=1e-3)
    for name in ("infonce", "alignment", "uniformity", "collapse-std", "lidar", "nesum"):
        assert means[name] == pytest.approx(0, abs=1e-6), name
    assert "alpha-req" not in means and "intrinsic-dimension" not in means, "what is not defined is left out"


@pytest.mark.parametrize(("read", "at_edge"), [(torch.ones_like, False), (lambda x: (1e4 * x).sin(), True)])
def test_the_temperature_of_infonce_is_the_best_on_select_and_all_are_told(
    read: Callable[[Tensor], Tensor], at_edge: bool, evaluated: Evaluated
) -> None:
    found = evaluated(lambda x: read(x[:, 0, 0]), (5, 40, 40))  # noise in each view asks for the highest
    sweep = found.details["infonce_sweep"]
    bounds = {point["temperature"]: point["select_infonce"] for point in sweep}
    assert [*bounds] == [*TEMPERATURES] and found.selected["at_edge"] is at_edge
    assert bounds[found.selected["temperature"]] == max(bounds.values()) == found.sweep[0]["select_infonce"]


def test_one_image_to_choose_on_and_more_dimensions_than_images_are_no_trouble(evaluated: Evaluated) -> None:
    found = evaluated(lambda x: x.flatten(1), (2, 1, 30))
    assert np.isfinite(found.arrays["rankme"]["value"]).all() and found.arrays["kept"]["features"].shape == (30, 30)


def test_features_that_are_not_finite_are_refused(evaluated: Evaluated) -> None:
    with pytest.raises(RuntimeError, match="not finite"):
        evaluated(lambda x: x.flatten(1) * float("nan"))


@pytest.mark.parametrize("groups", [5, 20])
def test_intervals_by_few_groups_hold_the_truth(groups: int) -> None:
    """Without Student's law in 88 of 100 with five groups."""
    draw, held = np.random.default_rng(0), 0
    for _ in range(400):
        sample = draw.normal(size=300)
        low, high = interval("mean", {"value": swayed(lambda i, x=sample: float(x[i].std()), np.arange(300), groups)})
        held += low <= 1 <= high
    assert 0.92 <= held / 400 <= 0.975
