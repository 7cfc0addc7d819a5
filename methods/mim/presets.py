"""Named cells of the grid mask x target x architecture: literals only, so that listing imports no torch."""

from typing import Any

from ssbench.registry import Entry

MAE = "He et al. 2021, arXiv:2111.06377"


def _cell(summary: str, paper: str, **preset: Any) -> Entry:
    return Entry("mim.model:MIM", "masked image modelling", summary, paper, preset=preset, scope="mim")


PRESETS = {
    "mim": _cell("any mask, target and architecture, such as --set mim.mask=block; as it is, mim-random", MAE),
    "mim-random": _cell(
        "MAE: random patches are hidden, their normalised pixels predicted from the visible ones",
        MAE,
        mask="random",
        ratio=0.75,
        target="pixels-normed",
        arch="mae",
    ),
    "mim-block": _cell(  # MAE, table 1f: blocks are best at less than 75 %; on 4 x 4 patches 0.6 leaves 6 visible
        "MAE with BEiT's masks: whole rectangles are hidden",
        "Bao et al. 2021, arXiv:2106.08254",
        mask="block",
        ratio=0.6,
        target="pixels-normed",
        arch="mae",
    ),
    "mim-adaptive": _cell(
        "MAE with masks of this project: the more edges a patch has, the more often it is hidden",
        MAE,
        mask="adaptive",
        ratio=0.75,
        target="pixels-normed",
        arch="mae",
    ),
}
