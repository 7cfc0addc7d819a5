"""Visible patches are encoded as if the others were not there, and predictions stand in the right places."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssbench.encoder import Encoder, build
from ssbench.methods.mim.architectures import ARCHITECTURES, MAEDecoder, MaskTokens
from ssbench.methods.mim.masks import random

VIT: dict[str, Any] = {"depth": 2, "embed_dim": 64, "num_heads": 2}
TRUNKS: dict[str, tuple[str, dict[str, Any]]] = {
    "class token": ("vit_tiny_patch16_224", VIT),
    "no class token": ("vit_tiny_patch16_224", VIT | {"class_token": False, "global_pool": "avg"}),
    "registers": ("vit_tiny_patch16_224", VIT | {"reg_tokens": 2}),
    "rotary": ("eva02_tiny_patch14_224", {"depth": 2}),
    "rotary, registers": ("vit_small_patch16_dinov3", {"depth": 2}),
}
SIZES: dict[str, Any] = {"img_size": 32, "patch_size": 8, "dynamic_img_size": True, "num_classes": 0}


def encoder_of(kind: str) -> Encoder:
    torch.manual_seed(0)
    name, sizes = TRUNKS[kind]
    trunk = timm.create_model(name, **SIZES, **sizes)
    for parameter in trunk.parameters():  # some start at zero, and would hide a mistake
        nn.init.normal_(parameter, std=0.1)
    return Encoder(trunk, torch.zeros(3), torch.ones(3)).eval()


def images_and_hidden(grid: tuple[int, int] = (4, 4)) -> tuple[Tensor, Tensor]:
    images = torch.randn(3, 3, grid[0] * 8, grid[1] * 8, generator=torch.Generator().manual_seed(1))
    return images, random(images, grid, 0.6, torch.Generator().manual_seed(2))


def places(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of the visible and the hidden patches."""
    return visible(mask), visible(~mask)


def visible(hidden: Tensor) -> Tensor:
    return torch.stack([(~row).nonzero()[:, 0] for row in hidden])


@pytest.mark.parametrize("kind", TRUNKS)
@pytest.mark.parametrize("grid", [(4, 4), (3, 5)])
@torch.no_grad()
def test_visible_tokens_are_those_of_the_network_that_cannot_attend_to_hidden_ones(
    kind: str, grid: tuple[int, int]
) -> None:
    encoder, (images, hidden) = encoder_of(kind), images_and_hidden(grid)
    trunk = encoder.trunk
    prefix = torch.zeros(len(images), trunk.num_prefix_tokens, dtype=torch.bool)
    closed = torch.cat([prefix, hidden], 1)[:, None, None]  # (B, 1, 1, T)
    mask = torch.zeros(closed.shape).masked_fill(closed, float("-inf"))
    whole = trunk.fc_norm(trunk.forward_features(images, attn_mask=mask))[:, trunk.num_prefix_tokens :]
    keep = visible(hidden)
    wanted = whole.gather(1, keep[..., None].expand(-1, -1, encoder.dim))
    torch.testing.assert_close(encoder.tokens(images, keep), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", TRUNKS)
@torch.no_grad()
def test_keeping_every_patch_changes_nothing(kind: str) -> None:
    encoder, (images, _) = encoder_of(kind), images_and_hidden()
    trunk = encoder.trunk
    whole = trunk.fc_norm(trunk.forward_features(images))[:, trunk.num_prefix_tokens :]
    everything = torch.arange(16).expand(len(images), -1)
    torch.testing.assert_close(encoder.tokens(images), whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(encoder.tokens(images, everything), whole, atol=1e-5, rtol=1e-5)


def decoder_and_encoder(name: str, depth: int = 2) -> tuple[nn.Module, Encoder]:
    encoder = encoder_of("class token")
    return ARCHITECTURES[name](encoder, 5, decoder_depth=depth, decoder_width=64).eval(), encoder


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("grid", [(4, 4), (3, 5)])
def test_there_is_one_prediction_for_each_hidden_patch(name: str, grid: tuple[int, int]) -> None:
    predict, encoder = decoder_and_encoder(name)
    images, hidden = images_and_hidden(grid)
    assert predict(encoder, images, *places(hidden)).shape == (3, int(hidden[0].sum()), 5)


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_hidden_pixels_change_no_prediction_and_visible_ones_do(name: str) -> None:
    predict, encoder = decoder_and_encoder(name)
    images, hidden = images_and_hidden()
    pixels = hidden.view(-1, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    noise = torch.randn_like(images)
    first = predict(encoder, images, *places(hidden))
    assert torch.equal(predict(encoder, torch.where(pixels, noise, images), *places(hidden)), first)
    assert not torch.allclose(predict(encoder, torch.where(pixels, images, noise), *places(hidden)), first, atol=1e-3)


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_the_batch_does_not_matter_to_an_image(name: str) -> None:
    predict, encoder = decoder_and_encoder(name)
    images, hidden = images_and_hidden()
    alone = torch.cat([predict(encoder, images[i : i + 1], *places(hidden[i : i + 1])) for i in range(3)])
    torch.testing.assert_close(predict(encoder, images, *places(hidden)), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", TRUNKS)
@torch.no_grad()
def test_a_mask_token_takes_the_place_of_each_hidden_patch_before_positions_are_added(kind: str) -> None:
    encoder, (images, hidden) = encoder_of(kind), images_and_hidden()
    trunk, token = encoder.trunk, torch.randn(encoder.dim)
    original = trunk.patch_embed.forward

    def replaced(pixels: Tensor) -> Tensor:
        patches = original(pixels).clone()
        cells = patches.view(len(pixels), 16, -1)
        for i, row in enumerate(hidden.tolist()):
            for n, is_hidden in enumerate(row):
                if is_hidden:
                    cells[i, n] = token
        return patches

    found = encoder.tokens_with_masks(images, places(hidden)[1], token)
    trunk.patch_embed.forward = replaced
    wanted = trunk.fc_norm(trunk.forward_features(images))[:, trunk.num_prefix_tokens :]
    del trunk.patch_embed.forward
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_simmim_predicts_with_one_linear_layer_on_the_hidden_places() -> None:
    predict, encoder = decoder_and_encoder("simmim")
    assert isinstance(predict, MaskTokens)
    images, hidden = images_and_hidden()
    tokens = encoder.tokens_with_masks(images, places(hidden)[1], predict.mask_token)
    wanted = torch.stack([predict.head(tokens[i][row]) for i, row in enumerate(hidden)])
    torch.testing.assert_close(predict(encoder, images, *places(hidden)), wanted, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_mae_decoder_equals_one_that_puts_the_patches_back_in_their_places() -> None:
    decoder, encoder = decoder_and_encoder("mae")
    assert isinstance(decoder, MAEDecoder)
    nn.init.normal_(decoder.mask_token)
    images, hidden = images_and_hidden((3, 5))
    tokens = decoder.enter(encoder.tokens(images, visible(hidden)))
    wanted = []
    for i, row in enumerate(hidden.tolist()):
        left = iter(tokens[i])
        full = torch.stack([decoder.mask_token if is_hidden else next(left) for is_hidden in row])  # (N, width)
        full = full + torch.from_numpy(slow_positions(3, 5, 64)).float()
        out = decoder.head(decoder.norm(decoder.blocks(full[None])))[0]
        wanted.append(torch.stack([out[n] for n, is_hidden in enumerate(row) if is_hidden]))
    torch.testing.assert_close(decoder(encoder, images, *places(hidden)), torch.stack(wanted), atol=1e-5, rtol=1e-5)


def slow_positions(rows: int, columns: int, width: int) -> NDArray[np.float64]:
    """A quarter of the width each: sines of the row and of the column, then cosines."""
    quarter = width // 4
    frequency = 1 / 10000 ** (np.arange(quarter) / quarter)
    places = [(row, column) for row in range(rows) for column in range(columns)]
    return np.array([np.concatenate([f(x * frequency) for f in (np.sin, np.cos) for x in place]) for place in places])


def test_the_mae_decoder_starts_as_mae_does() -> None:
    encoder = build("vit-nano", size=32, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    decoder = MAEDecoder(encoder, 192, decoder_depth=2, decoder_width=128)
    for module in decoder.modules():
        if isinstance(module, nn.Linear):
            bound = (6 / (module.in_features + module.out_features)) ** 0.5
            assert 0.98 * bound < module.weight.abs().max() <= bound
            assert not module.bias.any()
    assert 0.015 < decoder.mask_token.std() < 0.025
    assert decoder.blocks[0].attn.num_heads == 4  # 32 wide each, as MAE's 512 / 16
