from pathlib import Path

import torch

from ssbench import api
from ssbench.training.trained import pixel_statistics


def test_pixel_statistics_are_torchs_own() -> None:
    images = torch.randint(0, 200, (300, 3, 7, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[:, 2] = 9
    mean, std = pixel_statistics(images)
    whole = images.double() / 255
    torch.testing.assert_close(mean, whole.mean((0, 2, 3)).float(), atol=1e-7, rtol=1e-7)
    torch.testing.assert_close(std[:2], whole.std((0, 2, 3)).float()[:2], atol=1e-7, rtol=1e-7)
    assert std[2] == torch.tensor(1e-3)  # a channel of one value is not divided by zero


def test_pixel_statistics_are_of_evenly_spaced_images() -> None:
    images = torch.randint(0, 256, (12_000, 1, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = pixel_statistics(images)
    sample = images[::2].float() / 255
    torch.testing.assert_close(mean, sample.mean((0, 2, 3)), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(std, sample.std((0, 2, 3)), atol=1e-6, rtol=1e-6)


def test_pixel_statistics_are_counted_once() -> None:
    images = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    first = pixel_statistics(images)
    assert pixel_statistics(images)[0] is first[0]
    assert pixel_statistics(images.clone())[0] is not first[0]


def test_what_is_refused_only_when_training_begins_fails_alone(photos: Path, tmp_path: Path) -> None:
    """`deepcluster-v2` has 96 clusters for the 48 images of a share."""
    asked = {"tasks": "knn", "seeds": 0, "share": "50%", "budget": "steps=3", "set": {"train.batch": 16}}
    found = api.run("deepcluster-v2", dataset=f"folder:{photos}", results=tmp_path, device="cpu", **asked)  # type: ignore[arg-type]
    by_method = {one.spec.pretraining.method: one for one in found.records}
    assert by_method["supervised"].status == "done"
    assert by_method["deepcluster-v2"].status == "failed"
    assert "deepcluster-v2.prototypes=96 is more than the" in by_method["deepcluster-v2"].reason
