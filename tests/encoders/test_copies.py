from typing import Any

import pytest
import timm
import torch
from timm.layers.drop import DropPath
from torch import nn

from ssbench.encoders.build import build
from ssbench.encoders.copies import set_drop_path, trainable
from ssbench.encoders.encoder import Encoder


def nano() -> Encoder:
    torch.manual_seed(0)
    return build("vit-nano", size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3))


def rates(trunk: nn.Module) -> dict[str, float]:
    return {name: module.drop_prob for name, module in trunk.named_modules() if isinstance(module, DropPath)}


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "eva02_tiny_patch14_224",
        "convnext_atto",
        "resnet18",
        "resnetv2_18",
        "regnetx_002",
        "swin_tiny_patch4_window7_224",
        "poolformerv2_s12",
        "test_vit_relpos",
        "test_nfnet",
    ],
)
def test_stochastic_depth_is_what_timm_builds(name: str) -> None:
    """Each place has the same rate, and the modules are the same, name for name."""
    with torch.device("meta"):
        plain, wanted = (timm.create_model(name, num_classes=0, drop_path_rate=rate) for rate in (0.0, 0.3))
    assert rates(wanted) and not any(rates(plain).values())
    set_drop_path(plain, 0.3)
    found = {key: rate for key, rate in rates(plain).items() if rate}
    assert found == pytest.approx({key: rate for key, rate in rates(wanted).items() if rate})
    set_drop_path(plain, 0.0)
    assert not rates(plain)


def test_a_family_without_places_for_it_is_left_as_it_is() -> None:
    trunk = timm.create_model("ghostnet_050", num_classes=0)
    before = repr(trunk)
    set_drop_path(trunk, 0.5)
    assert repr(trunk) == before


def test_a_resnet_skips_blocks_in_training_alone() -> None:
    torch.manual_seed(0)
    encoder = build("resnet18", size=32, channels=3, mean=torch.zeros(3), std=torch.ones(3)).eval()
    for block in encoder.trunk.layer4:
        nn.init.ones_(block.bn2.weight)  # timm starts a block as the identity
    images = torch.randn(8, 3, 32, 32)
    copy = trainable(encoder, 0.9)
    with torch.no_grad():
        assert torch.equal(copy.eval().pooled(images), encoder.pooled(images))
        copy.train()
        assert not torch.equal(copy.pooled(images), copy.pooled(images))


def test_a_copy_is_independent_and_gives_the_same() -> None:
    encoder = nano().eval()
    images = torch.randn(2, 3, 16, 16)
    copy = trainable(encoder, 0.1)
    with torch.no_grad():
        assert torch.equal(copy.eval().pooled(images), encoder.pooled(images))
        for weight in copy.parameters():
            weight.zero_()
        assert encoder.pooled(images).abs().sum() > 0
    assert not rates(encoder.trunk)


def test_a_copy_of_a_teacher_learns_but_fixed_positions_stay() -> None:
    encoder = nano()
    wanted = {name: weight.requires_grad for name, weight in encoder.named_parameters()}
    assert not wanted["trunk.pos_embed"] and wanted["trunk.norm.weight"]
    encoder.eval().pooled(torch.zeros(1, 3, 16, 16)).sum().backward()
    copy = trainable(encoder.requires_grad_(False))
    assert copy.training and all(weight.grad is None for weight in copy.parameters())
    assert {name: weight.requires_grad for name, weight in copy.named_parameters()} == wanted


def test_what_was_changed_in_a_judged_encoder_is_in_its_copy() -> None:
    """Rebuilding by name would have lost it."""
    encoder = nano()
    trunk: Any = encoder.trunk
    trunk.blocks = trunk.blocks[:1]
    assert len(trainable(encoder, 0.1).trunk.blocks) == 1
