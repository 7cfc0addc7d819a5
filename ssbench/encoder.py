"""The network that is judged: a timm trunk that gives patch tokens, a subset of them, a map, or one vector."""

from difflib import get_close_matches
from typing import Any

import timm
import torch
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from torch import Tensor, nn

from ssbench.backbones import PRESETS
from ssbench.errors import NotApplicable, UserError


class Encoder(nn.Module):
    """A trunk and the pixel statistics it was trained with. Images are float (B, C, H, W), out of `normalise`."""

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.trunk: Any = trunk
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1).float())
        self.register_buffer("std", std.reshape(1, -1, 1, 1).float())

    @property
    def dim(self) -> int:
        return int(self.trunk.num_features)

    @property
    def patch(self) -> int | None:
        """Side of a patch in pixels; None for a trunk without patch tokens."""
        return int(self.trunk.patch_embed.patch_size[0]) if self.has_tokens else None

    @property
    def has_tokens(self) -> bool:
        return all(hasattr(self.trunk, name) for name in ("_pos_embed", "blocks", "norm_pre", "num_prefix_tokens"))

    @property
    def poolings(self) -> tuple[str, ...]:
        """What `vectors` gives; the first is the headline's."""
        return ("mean", "cls") if getattr(self.trunk, "cls_token", None) is not None else ("mean",)

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Patches down and across for images of this size."""
        assert self.patch is not None
        return images.shape[-2] // self.patch, images.shape[-1] // self.patch

    def normalise(self, images: Tensor) -> Tensor:
        """uint8, or float in 0..1, -> float with the pretraining data's mean 0 and deviation 1 per channel."""
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images
        return (pixels - self.mean) / self.std

    def tokens(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        """Patch tokens after the final norm, (B, N, D); with `keep` (B, n), only those patches are ever computed."""
        return self._sequence(images, keep)[:, self.trunk.num_prefix_tokens :]

    def tokens_with_masks(self, images: Tensor, hidden: Tensor, mask_token: Tensor) -> Tensor:
        """All patch tokens, (B, N, D), where `mask_token` (D,) stood in for the patches at `hidden` (B, n).

        It replaces their embeddings before positions are added, so a hidden place keeps its position (SimMIM, BEiT).
        """
        return self._sequence(images, None, hidden, mask_token)[:, self.trunk.num_prefix_tokens :]

    def pooled(self, images: Tensor) -> Tensor:
        """One vector an image, (B, D): the mean of the patch tokens, or of a conv net's last map."""
        return self.vectors(images)["mean"]

    def vectors(self, images: Tensor) -> dict[str, Tensor]:
        """Every pooling, each (B, D), from one pass."""
        if not self.has_tokens:
            return {"mean": self.map(images).mean((2, 3))}
        sequence = self._sequence(images, None)  # (B, prefix + N, D)
        mean = sequence[:, self.trunk.num_prefix_tokens :].mean(1)
        return {"mean": mean, "cls": sequence[:, 0]} if "cls" in self.poolings else {"mean": mean}

    def map(self, images: Tensor) -> Tensor:
        """The last feature map, (B, D, h, w): patch tokens in their places, or a conv net's last stage."""
        if self.has_tokens:
            h, w = self.grid(images)
            return self.tokens(images).transpose(1, 2).unflatten(2, (h, w))
        return self.trunk.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)[-1]

    def _sequence(
        self, images: Tensor, keep: Tensor | None, hidden: Tensor | None = None, mask_token: Tensor | None = None
    ) -> Tensor:
        """Prefix and patch tokens after the final norm. Positions are added before patches are dropped."""
        if not self.has_tokens:
            raise NotApplicable("this backbone gives no patch tokens; take a ViT such as vit-nano")
        trunk = self.trunk
        patches = trunk.patch_embed(images)  # (B, h, w, D) or (B, N, D)
        if hidden is not None and mask_token is not None:
            flat = patches.reshape(len(patches), -1, patches.shape[-1])  # (B, N, D)
            token = mask_token.to(flat.dtype).expand(*hidden.shape, -1)
            patches = flat.scatter(1, hidden[..., None].expand_as(token), token).view_as(patches)
        embedded = trunk._pos_embed(patches)
        x, rope = embedded if isinstance(embedded, tuple) else (embedded, None)  # Eva models rotate in their blocks
        mixed = getattr(trunk, "rope_mixed", False)  # then each block has a rotation of its own
        if keep is not None:
            prefix = x[:, : trunk.num_prefix_tokens]
            visible = x[:, trunk.num_prefix_tokens :].gather(1, keep[..., None].expand(-1, -1, x.shape[-1]))
            x = torch.cat([prefix, visible], 1)
            if rope is not None:
                rope = rope[:, :, keep].transpose(1, 2) if mixed else rope[keep].unsqueeze(1)
        x = trunk.norm_pre(x)
        for i, block in enumerate(trunk.blocks):
            x = block(x) if rope is None else block(x, rope=rope[i] if mixed else rope)
        return trunk.fc_norm(trunk.norm(x))  # one of the two is the identity, by timm's choice of pooling


def build(
    name: str, *, size: int, channels: int, mean: Tensor, std: Tensor, patch: int = 0, drop_path: float = 0.0
) -> Encoder:
    """A new encoder: any timm model or preset, fitted to the image size, channels and patch; raises UserError.

    ViTs start as MAE's do (Xavier weights, fixed sine-cosine positions: models_mae.py), which matters more than any
    other choice at small scale. ResNets get the 3x3 stem without pooling at 64 px and below, as in SimCLR's CIFAR code.
    """
    preset = PRESETS.get(name)
    if preset is None and not timm.is_model(name):
        close = get_close_matches(name, [*PRESETS, *timm.list_models()], n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(close)}?" if close else "; see ssbench list backbones"
        raise UserError(f"unknown backbone {name!r}{hint}")
    trunk_name = preset.trunk if preset else name
    sizes: dict[str, Any] = dict(preset.sizes) if preset else {}
    if drop_path:
        sizes["drop_path_rate"] = drop_path
    if _is_vit(trunk_name):
        patch = patch or largest_divisor(size, size // (preset.grid if preset else 8))
        if size % patch:
            raise UserError(f"backbone.patch={patch} does not divide the image size {size}")
        sizes |= {"img_size": size, "patch_size": patch, "dynamic_img_size": True}
    elif patch:
        raise UserError(f"backbone.patch={patch}: {name} is not a ViT whose patch size can be set")
    elif (config := timm.get_pretrained_cfg(name)) is not None and config.fixed_input_size:
        sizes["img_size"] = size
    trunk: Any = timm.create_model(trunk_name, in_chans=channels, num_classes=0, **sizes)
    if _is_vit(trunk_name):
        _start_as_mae(trunk)
    if trunk_name.startswith("resnet") and size <= 64 and isinstance(trunk.conv1, nn.Conv2d):  # no deep stem
        trunk.conv1 = nn.Conv2d(channels, trunk.conv1.out_channels, 3, 1, 1, bias=False)
        nn.init.kaiming_normal_(trunk.conv1.weight, mode="fan_out", nonlinearity="relu")
        trunk.maxpool = nn.Identity()
    return Encoder(trunk, mean, std)


def largest_divisor(size: int, most: int) -> int:
    """The largest divisor of `size` up to `most`, at least 1."""
    return next(p for p in range(max(most, 1), 0, -1) if size % p == 0)


def _is_vit(name: str) -> bool:
    """Whether timm's name stands for a VisionTransformer or Eva class: the two that can drop tokens."""
    return timm.model_entrypoint(name).__module__.rpartition(".")[2] in ("vision_transformer", "eva", "deit")


@torch.no_grad()
def _start_as_mae(trunk: Any) -> None:
    for module in trunk.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    weight = trunk.patch_embed.proj.weight
    nn.init.xavier_uniform_(weight.view(len(weight), -1))
    if getattr(trunk, "cls_token", None) is not None:
        nn.init.normal_(trunk.cls_token, std=0.02)
    if getattr(trunk, "pos_embed", None) is not None:
        trunk.pos_embed.requires_grad_(False)
        trunk.pos_embed.zero_()
        rows, columns = trunk.patch_embed.grid_size
        trunk.pos_embed[0, -rows * columns :] = sincos(rows, columns, trunk.embed_dim)


def sincos(rows: int, columns: int, width: int) -> Tensor:
    """Fixed sine-cosine positions (rows * columns, width), MAE's but for the order of channels; 4 divides the width."""
    if width % 4:
        raise UserError(f"sine-cosine positions need a width that is a multiple of 4, not {width}")
    return build_sincos2d_pos_embed([rows, columns], dim=width)
