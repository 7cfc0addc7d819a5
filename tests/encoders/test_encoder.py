from copy import deepcopy
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.encoders.encoder import Encoder
from ssbench.encoders.start import sincos
from ssbench.errors import NotApplicable, UserError


def made(name: str, size: int = 32, channels: int = 3, patch: int = 0) -> Encoder:
    torch.manual_seed(0)
    return build(
        name, size=size, channels=channels, mean=torch.zeros(channels), std=torch.ones(channels), patch=patch
    ).eval()


def images(size: int = 32, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "name", ["vit-nano", "vit-micro", "vit_tiny_patch16_224", "deit3_small_patch16_224", "eva02_tiny_patch14_224"]
)
def test_a_vit_is_fitted_to_size_patch_and_channels(name: str) -> None:
    encoder = made(name, size=16, channels=1, patch=4)
    assert encoder.patch == 4 and encoder.has_tokens
    assert encoder.tokens(images(16, 1)).shape == (2, 16, encoder.dim)
    assert encoder.map(images(16, 1)).shape == (2, encoder.dim, 4, 4)
    assert encoder.pooled(images(16, 1)).shape == (2, encoder.dim)


@pytest.mark.parametrize(
    ("name", "size", "patch"),
    [
        ("vit_tiny_patch16_224", 224, 16),
        ("vit_tiny_patch16_224", 32, 16),
        ("vit_small_patch14_dinov2", 28, 14),
        ("vit-nano", 8, 2),  # presets have their own grid
        ("vit-nano", 16, 4),
        ("vit-nano", 32, 8),
        ("vit-nano", 64, 16),
        ("vit-nano", 224, 16),  # as long as a patch has 16 px at most
        ("vit-nano", 98, 14),
        ("vit-nano", 28, 7),
        ("vit-micro", 32, 4),
        ("vit-micro", 224, 16),
        ("vit-mini", 96, 12),
    ],
)
def test_a_name_keeps_its_patch(name: str, size: int, patch: int) -> None:
    encoder = made(name, size=size)
    assert encoder.patch == patch
    assert encoder.summary(size) == f"patch {patch}, {size // patch} x {size // patch}, width {encoder.dim}"


def test_a_summary_says_what_a_conv_net_gives() -> None:
    encoder = made("resnet18").train()
    assert encoder.summary(32) == "4 x 4, width 512" and encoder.summary(64) == "8 x 8, width 512"
    assert all(module.training for module in encoder.modules())


def test_looking_at_a_blank_image_draws_no_random_number_and_moves_no_statistics() -> None:
    torch.manual_seed(0)
    encoder = build("resnet18", size=32, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    state = torch.get_rng_state()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    Encoder(encoder.trunk, torch.zeros(3), torch.ones(3), size=32)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "mobilenetv3_small_050"])
def test_a_conv_net_gives_a_map_and_a_vector_but_no_tokens(name: str) -> None:
    encoder = made(name)
    assert encoder.pooled(images()).shape == (2, encoder.dim)
    assert encoder.map(images()).shape[:2] == (2, encoder.dim)
    assert encoder.poolings == ("mean",) and encoder.patch is None
    with pytest.raises(NotApplicable, match="gives no patch tokens"):
        encoder.tokens(images())


def test_a_small_resnet_keeps_the_resolution_of_its_stem() -> None:
    encoder = made("resnet18")
    assert encoder.map(images()).shape[-2:] == (4, 4)
    assert encoder.trunk.conv1.stride == (1, 1) and encoder.trunk.conv1.kernel_size == (3, 3)
    assert made("resnet18", size=96).trunk.conv1.kernel_size == (7, 7)


def test_the_pooled_vector_of_a_resnet_is_timms_own() -> None:
    encoder = made("resnet18", size=96)
    torch.testing.assert_close(encoder.pooled(images(96)), encoder.trunk(images(96)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["vit-nano", "eva02_tiny_patch14_224"])
def test_the_token_sequence_is_timms_own(name: str) -> None:
    encoder = made(name, patch=8)
    whole = encoder.trunk.forward_features(images())
    prefix = encoder.trunk.num_prefix_tokens
    torch.testing.assert_close(encoder.tokens(images()), encoder.trunk.fc_norm(whole)[:, prefix:], atol=1e-5, rtol=1e-4)


def test_mean_and_class_token_come_from_one_sequence() -> None:
    encoder = made("vit-nano")
    vectors = encoder.vectors(images())
    whole = encoder.trunk.forward_features(images())
    torch.testing.assert_close(vectors["cls"], whole[:, 0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(vectors["mean"], whole[:, 1:].mean(1), atol=1e-5, rtol=1e-4)


def trunk_of(**sizes: Any) -> Encoder:
    torch.manual_seed(0)
    plain: dict[str, Any] = {"img_size": 32, "patch_size": 8, "dynamic_img_size": True, "num_classes": 0, "depth": 3}
    trunk = timm.create_model("vit_tiny_patch16_224", **plain, embed_dim=64, num_heads=4, **sizes)
    for parameter in trunk.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return Encoder(trunk, torch.zeros(3), torch.ones(3), size=32).eval()


@pytest.mark.parametrize("size", [32, 48])
@pytest.mark.parametrize(
    "sizes",
    [{}, {"reg_tokens": 2}, {"class_token": False, "global_pool": "avg"}, {"qk_norm": True}],
    ids=["class token", "registers", "no class token", "normed queries"],
)
@torch.no_grad()
def test_attention_is_that_of_timms_last_block(sizes: dict[str, Any], size: int) -> None:
    """timm's own weights (B, heads, T, T), read where its attention dropout takes them."""
    encoder, seen = trunk_of(**sizes), list[Tensor]()
    last = encoder.trunk.blocks[-1].attn
    last.fused_attn = False
    last.attn_drop.register_forward_hook(lambda module, inputs, output: seen.append(output))
    encoder.trunk.forward_features(images(size))
    prefix = encoder.trunk.num_prefix_tokens
    patches = (size // 8) ** 2
    for found, weights in zip(encoder.attention(images(size)), seen[0]):
        queries = [0] if encoder.trunk.cls_token is not None else range(patches)
        rows = [weights[head, query] for head in range(4) for query in queries]
        wanted = torch.stack([sum(row[prefix + n] for row in rows) / len(rows) for n in range(patches)])
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-4)
        assert found.std() > 1e-4  # the weights are drawn so that it differs between patches


@pytest.mark.parametrize("name", ["eva02_tiny_patch14_224", "vit_small_patch16_dinov3"])
def test_attention_of_blocks_that_rotate_positions_is_refused(name: str) -> None:
    with pytest.raises(NotApplicable, match="attention can't be read; take a plain ViT such as vit-nano"):
        made(name, patch=8).attention(images())


@pytest.mark.parametrize("name", ["vit-nano", "eva02_tiny_patch14_224"])
@torch.no_grad()
def test_layers_are_what_the_last_blocks_give(name: str) -> None:
    encoder, seen = made(name, patch=8), list[Tensor]()
    for block in encoder.trunk.blocks:
        block.register_forward_hook(lambda module, inputs, output: seen.append(output))
    encoder.trunk.forward_features(images(64))
    whole = list(seen)
    prefix = encoder.trunk.num_prefix_tokens
    for last in (1, 2, len(whole)):
        found = encoder.layers(images(64), last)
        assert len(found) == last
        for a, b in zip(found, whole[-last:]):
            torch.testing.assert_close(a, b[:, prefix:], atol=1e-5, rtol=1e-5)


def test_other_image_sizes_resize_the_positions() -> None:
    encoder = made("vit-nano", size=32)
    assert encoder.map(images(64)).shape == (2, encoder.dim, 8, 8)


def test_positions_are_fixed_sines_and_the_class_token_has_none() -> None:
    trunk = made("vit-nano").trunk
    assert not trunk.pos_embed.requires_grad
    assert trunk.pos_embed[0, 0].abs().sum() == 0
    torch.testing.assert_close(trunk.pos_embed[0, 1:], sincos(4, 4, 96))
    codes = sincos(4, 4, 96)
    assert torch.cdist(codes, codes).fill_diagonal_(1).min() > 0.1  # every place has its own


def test_pixels_are_normalised_by_the_pretraining_data() -> None:
    encoder = Encoder(torch.nn.Identity(), torch.tensor([0.5, 0.25, 0.0]), torch.tensor([0.5, 0.5, 1.0]))
    bytes_ = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    torch.testing.assert_close(encoder.normalise(bytes_)[0, :, 0, 0], torch.tensor([1.0, 1.5, 1.0]))
    torch.testing.assert_close(encoder.normalise(bytes_), encoder.normalise(bytes_.float() / 255))


@pytest.mark.parametrize(
    ("name", "size", "patch", "message"),
    [
        ("vit-nanoo", 32, 0, "unknown backbone 'vit-nanoo'; did you mean vit-nano"),
        ("resnet81", 32, 0, "did you mean resnet"),
        (
            "vit-nano",
            32,
            5,
            "patch=5 does not divide the image size 32; set data.image_size=30 or 35, or backbone.patch=4",
        ),
        ("resnet18", 32, 4, "not a ViT"),
        ("vit-nano", 97, 0, "vit-nano has no patch that divides images of 97 px; set data.image_size=96 or 98$"),
        ("vit-micro", 37, 0, "set data.image_size=36 or 38$"),
        (
            "vit_tiny_patch16_224",
            40,
            0,
            "has patches of 16 px, .* 40; set data.image_size=32 or 48, or backbone.patch=10$",
        ),
        ("vit_small_patch14_dinov2", 32, 0, "of 14 px, .* 32; set data.image_size=28 or 42, or backbone.patch=8$"),
        ("vit_tiny_patch16_224", 13, 0, "set data.image_size=16$"),
        (
            "vit_tiny_patch16_224.augreg_in21k",
            32,
            0,
            "names trained weights: judge them with --encoder",
        ),
    ],
)
def test_a_backbone_that_can_not_be_made_says_why(name: str, size: int, patch: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(name, size=size, patch=patch)


def test_the_same_seed_starts_the_same_network() -> None:
    first, second = made("vit-nano").state_dict(), made("vit-nano").state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_maps_of_a_conv_net_are_its_stages_on_the_grid_of_the_last_but_one() -> None:
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    trunk = timm.create_model("resnet18", num_classes=0)
    found = Encoder(trunk, torch.zeros(3), torch.ones(3), 64).eval()
    with torch.no_grad():
        maps, stages = found.maps(images, 4), found.trunk.forward_intermediates(images, intermediates_only=True)
        assert maps.shape == (2, 64 + 128 + 256 + 512, 4, 4)
        torch.testing.assert_close(maps[:, 64 + 128 : 64 + 128 + 256], stages[-2])
        torch.testing.assert_close(maps[:, :64], F.avg_pool2d(stages[1], 4))
        torch.testing.assert_close(maps[:, -512:], F.interpolate(stages[-1], (4, 4), mode="bilinear"))
        torch.testing.assert_close(found.maps(images, 1), found.map(images))


def test_maps_of_a_vit_are_those_of_its_blocks_read_one_by_one() -> None:
    torch.manual_seed(0)
    found = build("vit-nano", size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3)).eval()
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        maps = found.maps(images, 2)
        for block, own in zip((-2, -1), maps.chunk(2, 1)):
            torch.testing.assert_close(own, deepcopy(found).read(block=block).map(images))
        assert torch.equal(deepcopy(found).read(block=2).maps(images, 4), deepcopy(found).read(block=2).map(images))
