"""Visible patches are encoded as if the others were not there, and predictions stand in the right places."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssbench.encoders.build import build
from ssbench.encoders.encoder import Encoder
from ssbench.methods.mim.architectures import ARCHITECTURES, CrossDecoder, MAEDecoder, MaskTokens, Seen, take
from ssbench.methods.mim.masks import hidden_count, random
from ssbench.methods.mim.settings import named

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
    return images, random(images, grid, hidden_count(grid[0] * grid[1], 0.6), torch.Generator().manual_seed(2))


def visible(hidden: Tensor) -> Tensor:
    """Positions of the patches that a mask leaves visible."""
    return torch.stack([(~row).nonzero()[:, 0] for row in hidden])


@pytest.mark.parametrize("kind", TRUNKS)
@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (8, 6)])
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


@pytest.mark.parametrize("kind", TRUNKS)
@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (8, 6)])
@torch.no_grad()
def test_pixels_of_patches_that_are_not_kept_are_never_read(kind: str, grid: tuple[int, int]) -> None:
    encoder, (images, hidden) = encoder_of(kind), images_and_hidden(grid)
    keep = visible(hidden)
    nothing = images.masked_fill(pixels_of(hidden, grid), float("nan"))
    assert nothing.isnan().any()
    assert torch.equal(encoder.tokens(nothing, keep), encoder.tokens(images, keep))


@pytest.mark.parametrize("kind", TRUNKS)
def test_the_gradients_of_visible_tokens_are_those_of_the_network_that_cannot_attend_to_hidden_ones(kind: str) -> None:
    encoder, (images, hidden) = encoder_of(kind), images_and_hidden((3, 5))
    trunk, images, keep = encoder.trunk, images.requires_grad_(), visible(hidden)
    prefix = torch.zeros(len(images), trunk.num_prefix_tokens, dtype=torch.bool)
    closed = torch.cat([prefix, hidden], 1)[:, None, None]
    mask = torch.zeros(closed.shape).masked_fill(closed, float("-inf"))
    whole = trunk.fc_norm(trunk.forward_features(images, attn_mask=mask))[:, trunk.num_prefix_tokens :]
    weights = [images, *(p for p in encoder.parameters() if p.requires_grad)]
    wanted = torch.autograd.grad(take(whole, keep).square().mean(), weights, allow_unused=True)
    found = torch.autograd.grad(encoder.tokens(images, keep).square().mean(), weights, allow_unused=True)
    for a, b in zip(found, wanted):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def decoder_and_encoder(name: str, depth: int = 2) -> tuple[Any, Encoder]:
    encoder = encoder_of("class token")
    made = ARCHITECTURES[name]
    return made(
        encoder, 5, **{k: {"decoder_depth": depth, "decoder_width": 64}[k] for k in named(made)}
    ).eval(), encoder


def predicted(arch: Any, encoder: Encoder, images: Tensor, hidden: Tensor, asked: Tensor | None = None) -> Tensor:
    seen = arch.see(encoder, images, visible(hidden))
    return arch(seen, visible(~hidden) if asked is None else asked, encoder.grid(images))


def pixels_of(hidden: Tensor, grid: tuple[int, int] = (4, 4)) -> Tensor:
    """Where hidden patches (B, N) are in images, (B, 1, H, W)."""
    return hidden.view(-1, 1, *grid).repeat_interleave(8, 2).repeat_interleave(8, 3)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("grid", [(4, 4), (3, 5)])
def test_there_is_one_prediction_for_each_hidden_patch(name: str, grid: tuple[int, int]) -> None:
    arch, encoder = decoder_and_encoder(name)
    images, hidden = images_and_hidden(grid)
    assert predicted(arch, encoder, images, hidden).shape == (3, int(hidden[0].sum()), 5)


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_hidden_pixels_change_no_prediction_and_visible_ones_do(name: str) -> None:
    arch, encoder = decoder_and_encoder(name)
    images, hidden = images_and_hidden()
    pixels, noise = pixels_of(hidden), torch.randn_like(images)
    first = predicted(arch, encoder, images, hidden)
    for other in (noise, torch.full_like(images, torch.nan)):
        assert torch.equal(predicted(arch, encoder, torch.where(pixels, other, images), hidden), first)
    changed = predicted(arch, encoder, torch.where(pixels, images, noise), hidden)
    assert not torch.allclose(changed, first, atol=1e-3)


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_the_batch_does_not_matter_to_an_image(name: str) -> None:
    arch, encoder = decoder_and_encoder(name)
    images, hidden = images_and_hidden()
    alone = torch.cat([predicted(arch, encoder, images[i : i + 1], hidden[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(predicted(arch, encoder, images, hidden), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_what_the_encoder_saw_stands_at_the_places_it_names(name: str) -> None:
    """Visible places of the sequence hold the visible tokens, and their order does not matter to a prediction."""
    arch, encoder = decoder_and_encoder(name)
    images, hidden = images_and_hidden((3, 5))
    seen = arch.see(encoder, images, visible(hidden))
    assert seen.prefix.shape == (3, 1, encoder.dim) and seen.patches.shape[:2] == seen.places.shape
    if name == "simmim":
        assert seen.places.tolist() == [list(range(15))] * 3
        return
    assert torch.equal(seen.places, visible(hidden))
    assert torch.equal(seen.patches, encoder.tokens(images, visible(hidden)))
    flipped = Seen(seen.prefix, seen.patches.flip(1), seen.places.flip(1))
    asked = visible(~hidden)
    torch.testing.assert_close(arch(flipped, asked, (3, 5)), arch(seen, asked, (3, 5)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["simmim", "cross"])
@torch.no_grad()
def test_asking_for_fewer_places_changes_nothing_where_places_do_not_look_at_one_another(name: str) -> None:
    arch, encoder = decoder_and_encoder(name)
    images, hidden = images_and_hidden()
    asked = visible(~hidden)[:, [3, 0, 5]]
    wanted = predicted(arch, encoder, images, hidden)[:, [3, 0, 5]]
    torch.testing.assert_close(predicted(arch, encoder, images, hidden, asked), wanted, atol=1e-5, rtol=1e-5)


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

    prefix, found = encoder.sequence_with_masks(images, visible(~hidden), token)
    trunk.patch_embed.forward = replaced
    wanted = trunk.fc_norm(trunk.forward_features(images))
    del trunk.patch_embed.forward
    torch.testing.assert_close(torch.cat([prefix, found], 1), wanted, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_simmim_predicts_with_one_linear_layer_on_the_hidden_places() -> None:
    arch, encoder = decoder_and_encoder("simmim")
    assert isinstance(arch, MaskTokens)
    images, hidden = images_and_hidden()
    tokens = encoder.sequence_with_masks(images, visible(~hidden), arch.mask_token).patches
    wanted = torch.stack([arch.head(tokens[i][row]) for i, row in enumerate(hidden)])
    torch.testing.assert_close(predicted(arch, encoder, images, hidden), wanted, atol=1e-5, rtol=1e-5)


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
    torch.testing.assert_close(predicted(decoder, encoder, images, hidden), torch.stack(wanted), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_cross_decoder_is_a_loop_over_queries() -> None:
    decoder, encoder = decoder_and_encoder("cross")
    assert isinstance(decoder, CrossDecoder)
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    images, hidden = images_and_hidden((3, 5))
    positions = torch.from_numpy(slow_positions(3, 5, 64)).float()
    found = predicted(decoder, encoder, images, hidden)
    for i, row in enumerate(hidden.tolist()):
        shown = [n for n, is_hidden in enumerate(row) if not is_hidden]
        known = decoder.enter(encoder.tokens(images[i : i + 1], torch.tensor([shown])))[0] + positions[shown]
        for out, place in zip(found[i], [n for n, is_hidden in enumerate(row) if is_hidden]):
            query = decoder.mask_token + positions[place]
            for block in decoder.blocks:
                query = slow_cross(block, query, known)
            torch.testing.assert_close(out, decoder.head(decoder.norm(query)), atol=1e-5, rtol=1e-4)


def slow_cross(block: Any, query: Tensor, known: Tensor) -> Tensor:
    """One query (width,) looks at known tokens (v, width), head by head and token by token."""
    heads, width = block.heads, len(query)
    q = block.query(block.norm(query)).view(heads, -1)
    kv = [block.key_value(block.norm_seen(token)) for token in known]
    out = []
    for h in range(heads):
        keys, values = ([x[half * width : (half + 1) * width].view(heads, -1)[h] for x in kv] for half in (0, 1))
        scores = [float(q[h] @ key) / len(q[h]) ** 0.5 for key in keys]
        weights = np.exp(np.array(scores) - max(scores))
        out.append(sum(float(w) * value for w, value in zip(weights / weights.sum(), values)))
    query = query + block.proj(torch.cat([torch.as_tensor(o) for o in out]))
    return query + block.mlp.fc2(nn.functional.gelu(block.mlp.fc1(block.norm_mlp(query))))


def slow_positions(rows: int, columns: int, width: int) -> NDArray[np.float64]:
    """A quarter of the width each: sines of the row and of the column, then cosines."""
    quarter = width // 4
    frequency = 1 / 10000 ** (np.arange(quarter) / quarter)
    places = [(row, column) for row in range(rows) for column in range(columns)]
    return np.array([np.concatenate([f(x * frequency) for f in (np.sin, np.cos) for x in place]) for place in places])


@pytest.mark.parametrize("kind", [MAEDecoder, CrossDecoder])
def test_a_decoder_starts_as_maes_does(kind: type[Any]) -> None:
    encoder = build("vit-nano", size=32, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    decoder = kind(encoder, 192, decoder_depth=2, decoder_width=128)
    for module in decoder.modules():
        if isinstance(module, nn.Linear):
            bound = (6 / (module.in_features + module.out_features)) ** 0.5
            assert 0.98 * bound < module.weight.abs().max() <= bound
            assert not module.bias.any()
    assert 0.015 < decoder.mask_token.std() < 0.025


def test_attention_heads_of_decoders_are_as_wide_as_maes() -> None:
    encoder = build("vit-nano", size=32, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    sizes: dict[str, Any] = {"decoder_depth": 2, "decoder_width": 128}
    assert MAEDecoder(encoder, 192, **sizes).blocks[0].attn.num_heads == 4  # 32 wide each: 512 / 16
    assert CrossDecoder(encoder, 192, **sizes).blocks[0].heads == 4
