"""The network that is judged: a trunk that gives patch tokens, a subset of them, a map, or one vector."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from ssbench.encoders.architecture import Architecture
from ssbench.errors import NotApplicable, UserError

OWN = "own"  # the vector of an encoder whose class says itself how it pools


class Sequence(NamedTuple):
    """What a ViT makes of an image, after the final norm."""

    prefix: Tensor  # (B, P, D): the class token, if there is one, and registers
    patches: Tensor  # (B, n, D)


class Form(NamedTuple):
    """What a forward pass showed a trunk to give."""

    dim: int
    poolings: tuple[str, ...]
    norm: bool | None  # whether timm can normalise the map; None where there is no map


class Encoder(nn.Module):
    """A trunk and the pixel statistics it was trained with. Images are float (B, C, H, W), out of `normalise`.

    `block` is the block that is read, counted from 1, and 0 the last; `architecture` says how the trunk is built again;
    `local` that a place of the map says nothing of pixels other than its own.
    """

    mean: Tensor
    std: Tensor
    block: int = 0
    local: bool = False
    architecture: Architecture | None = None

    def __init__(self, trunk: nn.Module, mean: Tensor, std: Tensor, size: int = 0) -> None:
        """A blank image of `size` px shows what the trunk gives; without a size, a ViT or a subclass says so itself."""
        super().__init__()
        self.trunk: Any = trunk
        self._own = type(self).pooled is not Encoder.pooled  # a class that says itself how it pools
        self.fixed = frozenset(name for name, weight in self.named_parameters() if not weight.requires_grad)
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1).float())
        self.register_buffer("std", std.reshape(1, -1, 1, 1).float())
        classed = getattr(trunk, "cls_token", None) is not None  # what else is in front of patches are registers
        said = Form(getattr(trunk, "num_features", 0), ("mean", "cls") if classed else ("mean",), True)
        self._form = said if self.has_tokens or not size else self._look(size)

    @property
    def dim(self) -> int:
        """Width of the headline's vector; of every pooling and of the map, but beside a class's own `pooled`."""
        return self._form.dim

    @property
    def patch(self) -> int | None:
        """Side of a patch in pixels; None for a trunk without patch tokens."""
        return int(self.trunk.patch_embed.patch_size[0]) if self.has_tokens else None

    @property
    def has_tokens(self) -> bool:
        """Whether patches are embedded one by one, so that some of them can be left out."""
        wanted = ("_pos_embed", "blocks", "norm_pre", "num_prefix_tokens")
        embedded = isinstance(getattr(self.trunk, "patch_embed", None), PatchEmbed)  # not so in hybrids
        return embedded and all(hasattr(self.trunk, name) for name in wanted)

    @property
    def depth(self) -> int:
        """Blocks that can be read one by one; 1 for a trunk that gives its last map alone."""
        return len(self.trunk.blocks) if self.has_tokens else 1

    @property
    def poolings(self) -> tuple[str, ...]:
        """What `readings` gives of the block that is read; the first is the headline's."""
        return (*((OWN,) if self._own else ()), *self._form.poolings)

    def lead(self, pooling: str) -> "Encoder":
        """Make one of its poolings the headline's, where it has that one."""
        rest = tuple(one for one in self._form.poolings if one != pooling)
        if len(rest) < len(self._form.poolings):
            self._form = self._form._replace(poolings=(pooling, *rest))
        return self

    def read(self, pooling: str = "", block: int = 0) -> "Encoder":
        """Give one pooling, or one block, alone; raises UserError where there is no such.

        Blocks are counted from 1 to `depth`, or from -1, the last, back; 0 leaves them as they are.
        """
        if pooling and pooling not in self.poolings:
            raise UserError(f"encoder.pooling={pooling}: this encoder gives {' and '.join(self.poolings)}")
        if abs(block) > self.depth:
            has = f"has {self.depth} blocks" if self.has_tokens else "gives its last map alone"
            raise UserError(f"encoder.block={block}: this encoder {has}")
        if pooling:
            self._own = pooling == OWN
            self._form = self._form._replace(poolings=() if self._own else (pooling,))
        if block:
            self.block = block % (self.depth + 1)
        return self

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
        return self.sequence(images, keep).patches

    def sequence(self, images: Tensor, keep: Tensor | None = None) -> Sequence:
        """Prefix and patch tokens; with `keep` (B, n), only those patches are ever computed, (B, n, D)."""
        return self._read(*self._enter(images, keep))

    def sequence_with_masks(self, images: Tensor, hidden: Tensor, mask_token: Tensor) -> Sequence:
        """Prefix and all patch tokens, (B, N, D), where `mask_token` (D,) stood in for the patches at `hidden` (B, n).

        It replaces their embeddings before positions are added, so a hidden place keeps its position (SimMIM, BEiT).
        """
        return self._read(*self._enter(images, None, hidden, mask_token))

    def layers(self, images: Tensor, last: int) -> list[Tensor]:
        """Patch tokens out of the `last` blocks, each (B, N, D), the deepest at the end and none of them normalised."""
        outputs = list(self._through(*self._enter(images)))[-last:]
        return [output[:, self.trunk.num_prefix_tokens :] for output in outputs]

    def attention(self, images: Tensor) -> Tensor:
        """How much the class token attends to each patch in the last block, mean over heads, (B, N); rows sum below 1.

        Without a class token, the mean over patches as queries. Raises NotApplicable for blocks that rotate positions.
        """
        x, rope = self._enter(images)
        last = self.trunk.blocks[-1]
        if rope is not None or not hasattr(last.attn, "qkv") or not hasattr(last.attn, "q_norm"):
            raise NotApplicable("this backbone's attention can't be read; take a plain ViT such as vit-nano")
        for before in self._through(x, None, len(self.trunk.blocks) - 1):
            x = before
        qkv = last.attn.qkv(last.norm1(x)).unflatten(2, (3, last.attn.num_heads, -1))  # (B, T, 3, heads, d)
        query, key = last.attn.q_norm(qkv[:, :, 0].transpose(1, 2)), last.attn.k_norm(qkv[:, :, 1].transpose(1, 2))
        prefix = self.trunk.num_prefix_tokens
        query = query[:, :, :1] if "cls" in self.poolings else query[:, :, prefix:]  # (B, heads, Q, d)
        weights = (query @ key.transpose(2, 3) * last.attn.scale).softmax(3)  # (B, heads, Q, T)
        return weights[..., prefix:].mean((1, 2))

    def pooled(self, images: Tensor) -> Tensor:
        """One vector an image, (B, D): the first of `poolings`."""
        return self.vectors(images)[self.poolings[0]]

    def readings(self, images: Tensor, last: int = 1) -> dict[str, Tensor]:
        """Every pooling, each (B, D), from one pass; `cls@11` and so on are those of up to `last` blocks, normalised.

        A subclass with a `pooled` of its own has that one first; one with its own `vectors` has no other blocks.
        """
        own = {OWN: self.pooled(images)} if self._own else {}
        if not self.has_tokens or type(self).vectors is not Encoder.vectors:
            return own | self.vectors(images)
        found, end = own, self.block or self.depth
        for block, x in enumerate(self._through(*self._enter(images), end), 1):
            if block > end - last:
                at = "" if block == end else f"@{block}"
                found |= {name + at: vector for name, vector in self._pool(self._sequence(x)).items()}
        return found

    def vectors(self, images: Tensor) -> dict[str, Tensor]:
        """Every pooling, each (B, D), from one pass: the mean over places, the class token, or both.

        A trunk whose features have no places gives timm's own pooled vector as `cls`.
        """
        if self.has_tokens:
            return self._pool(self.sequence(images))
        if self._form.norm is None:
            return {"cls": self.trunk(images)}
        if "cls" in self.poolings:
            whole, maps = self.trunk.forward_intermediates(images, indices=1, norm=self._form.norm)
            made = {"mean": maps[-1].mean((2, 3)), "cls": whole[:, 0]}
            return {name: made[name] for name in self._form.poolings}
        return {"mean": self.map(images).mean((2, 3))}

    def map(self, images: Tensor) -> Tensor:
        """The last feature map, (B, D, h, w): patch tokens in their places, or a conv net's last stage."""
        if self.has_tokens:
            h, w = self.grid(images)
            return self.tokens(images).transpose(1, 2).unflatten(2, (h, w))
        if self._form.norm is None:
            raise NotApplicable("this backbone gives one vector an image and no map; take a ViT such as vit-nano")
        norm = self._form.norm
        return self.trunk.forward_intermediates(images, indices=1, norm=norm, intermediates_only=True)[-1]

    def maps(self, images: Tensor, last: int) -> Tensor:
        """The maps of up to `last` blocks side by side, (B, D', h, w), the deepest last, as they are read one by one.

        A ViT's are each through the final norm. A conv net's stages are brought to the grid of the last but one, finer
        ones by means, coarser ones bilinearly. An encoder that gives one map alone gives that.
        """
        if type(self).map is not Encoder.map or self.block or last < 2:
            return self.map(images)
        if self.has_tokens:
            found = [self._sequence(x).patches for x in self._through(*self._enter(images))][-last:]
            return torch.cat(found, 2).transpose(1, 2).unflatten(2, self.grid(images))
        return torch.cat(_on_one_grid(self._stages(images, last)), 1)

    def _stages(self, images: Tensor, last: int) -> list[Tensor]:
        norm = self._form.norm
        for count in range(last, 1, -1):  # some have fewer
            with suppress(Exception):  # what timm can't give it refuses in ways of its own
                return self.trunk.forward_intermediates(images, indices=count, norm=norm, intermediates_only=True)
        return [self.map(images)]

    def summary(self, size: int) -> str:
        """What was built and what it gives for images of this size, in words; the same name can stand for several."""
        blank = self.mean.new_zeros(1, self.mean.shape[1], size, size)
        try:
            with torch.no_grad(), _evaluating(self):
                h, w = self.map(blank).shape[-2:]
        except NotApplicable:
            return f"width {self.dim}"
        return f"{f'patch {self.patch}, ' if self.has_tokens else ''}{h} x {w}, width {self.dim}"

    @torch.no_grad()
    def _look(self, size: int) -> Form:
        blank = self.mean.new_zeros(1, self.mean.shape[1], size, size)
        with _evaluating(self):
            for norm in (True, False):  # Hiera refuses the first
                try:
                    whole, maps = self.trunk.forward_intermediates(blank, indices=1, norm=norm)
                    width, h, w = maps[-1].shape[1:]
                except Exception:  # in ways of timm's own; what can't take the image at all raises below
                    continue
                tokens = isinstance(whole, Tensor) and whole.ndim == 3 and whole.shape[-1] == width
                classed = tokens and whole.shape[1] > h * w  # patches behind a class token
                return Form(width, ("mean", "cls") if classed else ("mean",), norm)
            return Form(self.trunk(blank).shape[1], ("cls",), None)

    def _enter(
        self,
        images: Tensor,
        keep: Tensor | None = None,
        hidden: Tensor | None = None,
        mask_token: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """What the first block sees, (B, P + n, D), and the rotations of Eva models' blocks. Positions are in both."""
        if not self.has_tokens:
            raise NotApplicable("this backbone gives no patch tokens; take a ViT such as vit-nano")
        trunk = self.trunk
        if keep is not None:
            return self._enter_visible(images, keep)
        patches = trunk.patch_embed(images)  # (B, h, w, D) or (B, N, D)
        if hidden is not None and mask_token is not None:
            flat = patches.reshape(len(patches), -1, patches.shape[-1])  # (B, N, D)
            token = mask_token.to(flat.dtype).expand(*hidden.shape, -1)
            patches = flat.scatter(1, hidden[..., None].expand_as(token), token).view_as(patches)
        x, rope = self._place(patches)
        return trunk.norm_pre(x), rope

    def _enter_visible(self, images: Tensor, keep: Tensor) -> tuple[Tensor, Tensor | None]:
        """The same for the patches at `keep` (B, n) alone: others are not even embedded, whatever the image's size."""
        trunk, side = self.trunk, self.patch
        embed, (rows, columns) = trunk.patch_embed, self.grid(images)
        cut = images.unflatten(3, (columns, side)).unflatten(2, (rows, side)).permute(0, 2, 4, 1, 3, 5)  # a view
        image = torch.arange(len(images), device=images.device)[:, None]
        pixels = cut[image, keep // columns, keep % columns].flatten(2)  # (B, n, C * side * side)
        visible = embed.norm(F.linear(pixels, embed.proj.weight.flatten(1), embed.proj.bias))  # (B, n, D)
        shape = (1, rows, columns) if trunk.dynamic_img_size else (1, rows * columns)
        places, rope = self._place(visible.new_zeros(*shape, visible.shape[-1]))  # (1, P + N, D)
        prefix = places[:, : trunk.num_prefix_tokens].expand(len(images), -1, -1)
        x = torch.cat([prefix, visible + places[0, trunk.num_prefix_tokens :][keep]], 1)
        if rope is not None:
            rope = rope[:, :, keep].transpose(1, 2) if self._mixed else rope[keep].unsqueeze(1)
        return trunk.norm_pre(x), rope

    def _place(self, patches: Tensor) -> tuple[Tensor, Tensor | None]:
        """Positions added and prefix tokens put in front, (B, P + N, D)."""
        placed = self.trunk._pos_embed(patches)
        return placed if isinstance(placed, tuple) else (placed, None)  # Eva models rotate in their blocks

    @property
    def _mixed(self) -> bool:
        """Whether each block of an Eva model has a rotation of its own."""
        return bool(getattr(self.trunk, "rope_mixed", False))

    def _through(self, x: Tensor, rope: Tensor | None, blocks: int | None = None) -> Iterator[Tensor]:
        """The output of each block, (B, T, D), of the first `blocks` of them."""
        for i, block in enumerate(self.trunk.blocks[:blocks]):
            x = block(x) if rope is None else block(x, rope=rope[i] if self._mixed else rope)
            yield x

    def _read(self, x: Tensor, rope: Tensor | None) -> Sequence:
        for output in self._through(x, rope, self.block or None):
            x = output
        return self._sequence(x)

    def _sequence(self, x: Tensor) -> Sequence:
        x = self.trunk.fc_norm(self.trunk.norm(x))  # one of the two is the identity, by timm's choice of pooling
        prefix = self.trunk.num_prefix_tokens
        return Sequence(x[:, :prefix], x[:, prefix:])

    def _pool(self, found: Sequence) -> dict[str, Tensor]:
        made = {"mean": lambda: found.patches.mean(1), "cls": lambda: found.prefix[:, 0]}
        return {name: made[name]() for name in self._form.poolings}


def _on_one_grid(maps: list[Tensor]) -> list[Tensor]:
    """Maps, the deepest last, on the grid of the last but one."""
    h, w = maps[-2:][0].shape[-2:]
    finer, rest = [one for one in maps if one.shape[-1] > w], [one for one in maps if one.shape[-1] <= w]
    averaged = [F.adaptive_avg_pool2d(one, (h, w)) for one in finer]
    return averaged + [F.interpolate(one, (h, w), mode="bilinear") if one.shape[-1] < w else one for one in rest]


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a moment."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
