import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.stats import ks_2samp
from torchvision.transforms.v2 import RandomResizedCrop

from ssbench.method import View
from ssbench.training.views import _colour, crop_boxes, make, resample

PLAIN = View(crop=(1.0, 1.0), flip=0.0)
MEANS = {0.08: 0.478, 0.2: 0.538, 0.77: 0.846}  # of the area, by smallest area


def images(count: int = 4, side: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_crops_agree_with_a_slow_resampling_of_each_image() -> None:
    batch, side = images(), 8
    boxes = torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.3, 0.6, 0.4, 0.5], [0.7, 0.25, 0.6, 0.5], [0.5, 0.5, 0.25, 0.75]])
    flips = torch.tensor([False, True, False, True])
    made = resample(batch, boxes, flips, side)
    for i, (x, y, w, h) in enumerate(boxes.tolist()):
        across = (x - w / 2 + w * (np.arange(side) + 0.5) / side) * 16 - 0.5
        down = (y - h / 2 + h * (np.arange(side) + 0.5) / side) * 16 - 0.5
        points = np.stack(np.meshgrid(down, across[::-1] if flips[i] else across, indexing="ij"))
        for channel in range(3):
            slow = map_coordinates(batch[i, channel].numpy(), points, order=1, mode="nearest")
            np.testing.assert_allclose(made[i, channel], slow, atol=1e-5)


@pytest.mark.parametrize("smallest", [0.08, 0.2, 0.77])
def test_boxes_are_torchvisions(smallest: float) -> None:
    torch.manual_seed(0)
    boxes = crop_boxes(20_000, (smallest, 1.0))
    centre, size = boxes[:, :2], boxes[:, 2:]
    assert (centre - size / 2).min() > -1e-6 and (centre + size / 2).max() < 1 + 1e-6
    side = 10_000  # so that whole pixels do not matter
    image, crop = torch.empty(1, side, side, device="meta"), RandomResizedCrop(side, scale=(smallest, 1.0))
    drawn = [crop.make_params([image]) for _ in range(5_000)]
    theirs = torch.tensor([[d["left"], d["top"], d["width"], d["height"]] for d in drawn]) / side
    ours = torch.cat([centre - size / 2, size], 1)
    named = (
        lambda b: b[:, 2] * b[:, 3],  # area
        lambda b: (b[:, 2] / b[:, 3]).log(),  # aspect
        lambda b: b[:, 0],
        lambda b: b[:, 1],
    )
    for of in named:
        assert ks_2samp(of(ours).numpy(), of(theirs).numpy()).pvalue > 0.01


def test_areas_have_torchvisions_mean() -> None:
    """Those of 4,000,000 draws of a loop over its rule in NumPy, to three decimals."""
    torch.manual_seed(0)
    for smallest, mean in MEANS.items():
        assert float(crop_boxes(400_000, (smallest, 1.0))[:, 2:].prod(1).mean()) == pytest.approx(mean, abs=1e-3)


def test_what_never_fits_is_the_whole_image() -> None:
    assert torch.equal(crop_boxes(8, (1.0, 1.0)), torch.tensor([0.5, 0.5, 1.0, 1.0]).expand(8, -1))


def test_nothing_asked_is_nothing_done() -> None:
    assert torch.allclose(make(PLAIN, images(), seed=0), images(), atol=1e-6)


def test_every_sample_has_parameters_of_its_own() -> None:
    same = images(1).expand(64, -1, -1, -1)
    for view in (View(), View(crop=(1, 1), flip=0, jitter=(0.8, 0.8, 0.8, 0.2), jitter_p=1.0)):
        made = make(view, same, seed=0).flatten(1)
        assert len(torch.unique(made, dim=0)) > 60


@pytest.mark.parametrize(
    ("view", "share"),
    [
        (View(crop=(1, 1), flip=0.5), 0.5),
        (View(crop=(1, 1), flip=0, grey=0.2), 0.2),
        (View(crop=(1, 1), flip=0, solarise=0.3), 0.3),
        (View(crop=(1, 1), flip=0, blur=0.4), 0.4),
    ],
)
def test_an_operation_meets_its_share_of_the_samples(view: View, share: float) -> None:
    batch = images(1000, 8)
    changed = (make(view, batch, seed=1) - batch).abs().flatten(1).amax(1) > 1e-3
    assert abs(float(changed.float().mean()) - share) < 0.06


def test_the_same_seed_gives_the_same_view_and_leaves_the_global_state_alone() -> None:
    view = View(jitter=(0.4, 0.4, 0.4, 0.1), grey=0.2, blur=0.5)
    torch.manual_seed(5)
    first = make(view, images(), seed=3)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    assert torch.equal(first, make(view, images(), seed=3))
    assert not torch.equal(first, make(view, images(), seed=4))


def test_a_small_view_is_a_whole_number_of_patches() -> None:
    assert make(View(size=0.5), images(side=32), seed=0, patch=8).shape[-1] == 16
    assert make(View(size=0.3), images(side=32), seed=0, patch=8).shape[-1] == 8


def test_grey_images_are_jittered_without_colour() -> None:
    made = make(View(jitter=(0.8, 0.8, 0.8, 0.2), grey=0.5, jitter_p=1.0), images()[:, :1], seed=0)
    assert made.shape == (4, 1, 16, 16) and made.min() >= 0 and made.max() <= 1


def test_crops_with_more_pixels_than_the_view_are_antialiased() -> None:
    """A pixel of the view is the mean of the pixels that it stands for, and stripes of three pixels are grey."""
    whole, still = torch.tensor([[0.5, 0.5, 1.0, 1.0]]).expand(2, -1), torch.zeros(2, dtype=torch.bool)
    smooth = torch.nn.functional.interpolate(images(2, 4), (64, 64), mode="bicubic")
    means = torch.nn.functional.avg_pool2d(smooth, 2)
    torch.testing.assert_close(resample(smooth, whole, still, 32, 2), means, atol=0.02, rtol=0)
    stripes = (torch.arange(96) % 3 == 0).float().expand(2, 3, 96, 96)
    aliased, seen = (resample(stripes, whole * 0.9, still, 29, samples)[..., 1:-1] for samples in (1, 3))
    assert float(aliased.std()) > 0.15 and float(seen.std()) < 0.03


def test_a_crop_that_is_made_larger_is_read_as_before() -> None:
    boxes, flips = torch.tensor([[0.4, 0.5, 0.3, 0.4]]).expand(4, -1), torch.zeros(4, dtype=torch.bool)
    torch.testing.assert_close(resample(images(), boxes, flips, 16, 3), resample(images(), boxes, flips, 16))


def test_views_of_images_that_are_kept_larger_have_the_size_that_is_judged() -> None:
    made = make(View(size=0.5), images(side=96), seed=0, patch=8, size=48)
    assert made.shape[-1] == 24
    assert torch.equal(make(View(), images(side=32), 1), make(View(), images(side=32), 1, size=32))


@pytest.mark.parametrize(("side", "kernel"), [(16, 3), (32, 3), (64, 7), (224, 23)])
def test_the_blur_is_a_tenth_of_the_side(side: int, kernel: int) -> None:
    point = torch.zeros(1, 1, side, side)
    point[..., side // 2, side // 2] = 1
    torch.manual_seed(0)
    seen = _colour(View(blur=1.0), 1, side)(point.expand(8, -1, -1, -1))
    assert int((seen > 0).any(0)[0].any(0).sum()) == kernel
