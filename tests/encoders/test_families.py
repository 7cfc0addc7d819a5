"""One small network of each of timm's families that differ in what they give: all are judged alike, or refused."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from ssbench.check import check, refusal
from ssbench.encoders.build import build
from ssbench.encoders.copies import trainable
from ssbench.encoders.encoder import Encoder
from ssbench.errors import NotApplicable, UserError
from ssbench.plan import Suite, cells
from ssbench.results.store import Store
from ssbench.workshop import Workshop

BOTH, MEAN = ("mean", "cls"), ("mean",)
FAMILIES = [
    ("deit_tiny_distilled_patch16_224", 32, BOTH),
    ("eva02_tiny_patch14_224", 28, BOTH),
    ("test_vit_relpos", 32, MEAN),
    ("vit_tiny_r_s16_p8_224", 64, BOTH),  # a hybrid
    ("xcit_nano_12_p16_224", 32, BOTH),
    ("cait_xxs24_224", 32, BOTH),
    ("convit_tiny", 32, BOTH),
    ("volo_d1_224", 32, BOTH),
    ("gmixer_12_224", 32, MEAN),
    ("levit_128s", 32, MEAN),
    ("pit_ti_224", 32, MEAN),
    ("edgenext_xx_small", 32, MEAN),
    ("mobilevit_xxs", 32, MEAN),
    ("fastvit_t8", 32, MEAN),
    ("test_efficientnet", 32, MEAN),
    ("mobilenetv3_small_050", 32, MEAN),
    ("ghostnet_050", 32, MEAN),
    ("hrnet_w18_small", 32, MEAN),
    ("test_nfnet", 32, MEAN),
    ("test_mambaout", 32, MEAN),
    ("test_convnext", 32, MEAN),
    ("test_byobnet", 32, MEAN),
    ("resnetv2_18", 32, MEAN),
    ("regnetx_002", 32, MEAN),
    ("densenet121", 32, MEAN),
]
SHORTENED: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [  # whose smallest network is too large for a test
    ("beit_base_patch16_224", {"depth": 2, "embed_dim": 64, "num_heads": 2}, BOTH),
    ("tnt_s_legacy_patch16_224", {"depth": 2}, BOTH),
    ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1), "embed_dim": 48}, MEAN),
    ("hiera_tiny_224", {"stages": (1, 1, 1, 1), "embed_dim": 48}, MEAN),
]


@pytest.mark.parametrize(("name", "size", "poolings"), FAMILIES, ids=[name for name, *_ in FAMILIES])
def test_a_family_gives_what_it_says_and_learns(name: str, size: int, poolings: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    judge(build(name, size=size, channels=3, mean=torch.zeros(3), std=torch.ones(3)), size, poolings)


@pytest.mark.parametrize(("name", "sizes", "poolings"), SHORTENED, ids=[name for name, *_ in SHORTENED])
def test_a_large_family_does_so_too(name: str, sizes: dict[str, Any], poolings: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    trunk = timm.create_model(name, num_classes=0, img_size=32, **sizes)
    judge(Encoder(trunk, torch.zeros(3), torch.ones(3), size=32), 32, poolings)


def judge(encoder: Encoder, size: int, poolings: tuple[str, ...]) -> None:
    """Widths, poolings and map agree, and a step of training with a head on the pooled vector reaches the trunk."""
    encoder.eval()
    images = torch.randn(4, 3, size, size)
    with torch.no_grad():
        vectors, map_ = encoder.vectors(images), encoder.map(images)
    assert encoder.poolings == poolings == tuple(vectors)
    assert all(vector.shape == (4, encoder.dim) for vector in vectors.values())
    assert map_.ndim == 4 and map_.shape[:2] == (4, encoder.dim)
    torch.testing.assert_close(map_.mean((2, 3)), vectors["mean"], atol=1e-4, rtol=1e-4)

    copy, head = trainable(encoder, 0.1).train(), nn.Linear(encoder.dim, 2)
    F.cross_entropy(head(copy.pooled(images)), torch.tensor([0, 1, 0, 1])).backward()
    before = [weight.clone() for weight in copy.parameters()]
    torch.optim.SGD([*copy.parameters(), *head.parameters()], lr=0.1).step()
    assert sum(weight.grad is not None for weight in copy.parameters()) > len(before) / 2
    assert any(not torch.equal(old, new) for old, new in zip(before, copy.parameters()))


@pytest.mark.parametrize(
    ("name", "size", "own"), [("crossvit_tiny_240", 32, 240), ("efficientformer_l1", 64, 224), ("csatv2", 32, 512)]
)
def test_a_network_that_can_not_take_the_size_is_refused_in_one_line(name: str, size: int, own: int) -> None:
    with pytest.raises(UserError, match=f"^{name} can't take images of {size} px .*set data.image_size={own}, ") as e:
        build(name, size=size, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("channels", [1, 4])
def test_a_network_for_colours_alone_is_refused_for_its_channels_not_for_its_size(channels: int) -> None:
    mean, std = torch.zeros(channels), torch.ones(channels)
    with pytest.raises(UserError, match=f"^csatv2 takes images of 3 channels alone, not of {channels} .*take another"):
        build("csatv2", size=64, channels=channels, mean=mean, std=std)
    with pytest.raises(UserError, match=r"^csatv2 can't take images of 32 px"):
        build("csatv2", size=32, channels=channels, mean=mean, std=std)


@pytest.mark.parametrize(("name", "whole"), [("levit_128s", False), ("resnet10t", True)])
def test_views_that_a_network_can_not_take_are_refused_before_training(name: str, whole: bool, tmp_path: Path) -> None:
    words = ("data.image_size=32", "train.batch=16")
    asked = Suite(method=("swav",), task=("knn",), dataset=("digits",), backbone=(name,), seeds=(0,), set=words)
    shop = Workshop(Store(tmp_path), torch.device("cpu"))
    if whole:
        check(cells(asked), shop)
    else:
        with pytest.raises(UserError, match=f"^swav has views of 16 px, which {name} can't take beside .* 32 px") as e:
            check(cells(asked), shop)
        assert "\n" not in str(e.value)


def test_what_an_encoder_can_not_take_is_said_in_a_line() -> None:
    encoder = build("levit_128s", size=32, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    assert refusal(encoder, 32) == "" and refusal(encoder, 16) and "\n" not in refusal(encoder, 16)


def test_a_class_vector_is_the_one_that_timm_pools() -> None:
    for name in ("convit_tiny", "xcit_nano_12_p16_224"):
        torch.manual_seed(0)
        encoder = build(name, size=32, channels=3, mean=torch.zeros(3), std=torch.ones(3)).eval()
        images = torch.randn(2, 3, 32, 32)
        torch.testing.assert_close(encoder.vectors(images)["cls"], encoder.trunk(images), atol=1e-5, rtol=1e-4)


class OneVector(nn.Module):
    """A trunk without a map."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images.mean((2, 3)))


def test_a_trunk_without_a_map_has_one_vector_alone() -> None:

    encoder = Encoder(OneVector(), torch.zeros(3), torch.ones(3), size=8)
    images = torch.randn(2, 3, 8, 8)
    assert encoder.poolings == ("cls",) and encoder.dim == 5
    assert torch.equal(encoder.pooled(images), encoder.trunk(images))
    assert encoder.summary(8) == "width 5"
    with pytest.raises(NotApplicable, match="no map"):
        encoder.map(images)
