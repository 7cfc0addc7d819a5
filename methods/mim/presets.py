"""Named cells of the grid mask x target x architecture: literals only, so that listing imports no torch.

Each holds what its paper sets; `source` names the file of the published code, or the section.
Sizes that follow the data and the trunk (decoder, codes, prototypes, clusters, momentum) are the settings' defaults.
"""

from typing import Any

from ssbench.registry import Entry

MAE = "He et al. 2021, arXiv:2111.06377"


def _cell(summary: str, paper: str, source: str = "", **preset: Any) -> Entry:
    return Entry("mim.model:MIM", "masked image modelling", summary, paper, preset, source, scope="mim")


def _mae(mask: str, summary: str, paper: str, source: str = "", ratio: float = 0.75, **more: Any) -> Entry:
    """MAE with another mask: everything else is MAE's, so that rows differ in the mask alone."""
    source = f"MAE, figure 5, table 1d and section 3{source and ', but for the mask: '}{source}"
    return _cell(summary, paper, source, mask=mask, ratio=ratio, target="pixels-normed", arch="mae", **more)


PRESETS = {
    "mim": _cell("any mask, target and architecture, such as --set mim.mask=block; as it is, mim-random", MAE),
    "mim-random": _mae(
        "random", "MAE: random patches are hidden, their normalised pixels predicted from the visible ones", MAE
    ),
    "mim-block": _mae(
        "block",
        "MAE with BEiT's masks: whole rectangles are hidden",
        "Bao et al. 2021, arXiv:2106.08254",
        "BEiT, masking_generator.py, and 0.6, for MAE (table 1f) finds blocks best below 75 %; 6 of 4 x 4 stay visible",
        ratio=0.6,
    ),
    "mim-adaptive": _mae(
        "adaptive",
        "MAE with masks of this project: the more edges a patch has, the more often it is hidden",
        MAE,
        "this project",
    ),
    "mim-object": _mae(
        "object",
        "MAE with whole regions of like colour hidden, found without labels",
        "after Li et al. 2022 (SemMAE), arXiv:2206.10207",
        "this project, after SemMAE",
    ),
    "mim-attention": _mae(
        "attention",
        "MAE with the patches hidden that its moving average attends to most",
        "Kakogeorgiou et al. 2022 (AttMask), arXiv:2203.12719",
        "AttMask, attmask.py",
        attend="high",
    ),
    "mim-hard": _mae(
        "hard",
        "MAE with the patches hidden that its moving average expects to be hard, more and more of them",
        "Wang et al. 2023 (HPM), arXiv:2304.05919",
        "HPM, engine_pretrain.py",
        hard_share=0.5,
    ),
    "simmim": _cell(
        "mask tokens in the encoder, raw pixels by one linear layer, under L1",
        "Xie et al. 2021, arXiv:2111.09886",
        "SimMIM, configs/vit_base__800ep and data_simmim.py",
        mask="unit",
        ratio=0.6,
        target="pixels",
        arch="simmim",
        p=1,
        crop_min=0.67,
    ),
    "beit": _cell(
        "mask tokens in the encoder, discrete tokens of a dVAE trained on the same data",
        "Bao et al. 2021, arXiv:2106.08254",
        "BEiT, README.md and run_beit_pretraining.py: 75 of 196; the tokenizer is this project's own dVAE",
        mask="block",
        ratio=0.38,
        target="dvae",
        arch="simmim",
        crop_min=0.08,
        jitter=0.4,
        jitter_p=1,
    ),
    "maskfeat": _cell(
        "mask tokens in the encoder, histograms of oriented gradients",
        "Wei et al. 2021, arXiv:2112.09133",
        "MaskFeat, in1k_VIT_B_MaskFeat_PT.yaml",
        mask="block",
        ratio=0.4,
        target="hog",
        arch="simmim",
        crop_min=0.5,
    ),
    "data2vec": _cell(
        "mask tokens in the encoder, the moving average's upper blocks on the whole image",
        "Baevski et al. 2022, arXiv:2202.03555",
        "data2vec, beit/README.md: 120 of 196; half of the blocks, here 2 of 3; smooth L1 with beta 2; BEiT's crop and "
        "colours",
        mask="block",
        ratio=0.61,
        target="ema",
        top_layers=2,
        beta=2,
        arch="simmim",
        crop_min=0.08,
        jitter=0.4,
        jitter_p=1,
    ),
    "ibot": _cell(
        "the moving average's online tokens of hidden patches, and of the image across views",
        "Zhou et al. 2021, arXiv:2111.07832",
        "iBOT, README.md: 0.3 +- 0.2 and one head; a weight of 2, for half of its views are not masked and count as 0 "
        "in the patch term; main_ibot.py: colours, which are DINO's",
        mask="block",
        ratio=0.3,
        ratio_spread=0.2,
        target="ibot",
        arch="simmim",
        pair="dino",
        pair_weight=2,
        crop_min=0.25,
        jitter=0.4,
        hue=0.1,
        saturation=0.2,
        grey=0.2,
        blur=1,
        solarise=0.2,
        judge="teacher",
    ),
    "ijepa": _cell(
        "four blocks of the moving average's features, predicted from the rest",
        "Assran et al. 2023, arXiv:2301.08243",
        "I-JEPA, configs/in1k_vith14_ep300.yaml and src/train.py; the predictor cross-attends",
        mask="multi-block",
        ratio=0.6,
        target="ema",
        top_layers=0,
        beta=1,
        arch="cross",
        crop_min=0.3,
        flip=0,
        judge="teacher",
    ),
    "capi": _cell(
        "clusters of the moving average's patches, predicted by cross-attention from one visible block",
        "Darcet et al. 2025, arXiv:2502.08769",
        "CAPI, default_pretrain_config.yaml; it asks 5 % of the hidden at 16 x 16 patches, here all",
        mask="inverse-block",
        ratio=0.65,
        target="capi",
        arch="cross",
        crop_min=0.6,
        judge="teacher",
    ),
    "cmae": _cell(
        "MAE, and the masked view finds the whole other view of its image",
        "Huang et al. 2022, arXiv:2207.13532",
        "CMAE, configs/pre-training/cmae and models/heads/cmae_head.py: units of 2 x 2 patches; twice the temperature "
        "is the weight; the second view is a crop of its own",
        mask="unit",
        ratio=0.65,
        target="pixels-normed",
        arch="mae",
        pair="infonce",
        pair_weight=0.14,
    ),
}
