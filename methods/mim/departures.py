"""In what these methods are not their published code: literals only, so that listing imports no torch."""

from ssbench.departures import Compared, Departure

SAME = "rows of masks differ in the mask alone"

BEIT_COLOURS = Departure("colours", "jittered before the crop", "after it", "one order for all methods")

COMPARED: dict[str, Compared] = {
    "mim": Compared(
        "what its presets share; the code is named beside each",
        (
            Departure(
                "hidden patches",
                "the kept are truncated (MAE), the hidden truncated (CAPI), rounded (MaskFeat) or given (BEiT)",
                "the kept are truncated: on 4 x 4 patches one more is hidden for `beit`, `maskfeat` and `capi`",
                "one rule for all masks",
            ),
            Departure(
                "last rectangle of block masks",
                "one that hides too much is drawn again, after ten tries fewer are hidden; may be below the smallest",
                "one of the smallest area at least, trimmed at random",
                "as many are hidden in every image",
            ),
            Departure(
                "crops", "bicubic, but for I-JEPA", "bilinear, antialiased, not rounded to pixels", "faster in batches"
            ),
            Departure("pixels", "ImageNet's mean and deviation, or 0.5 (BEiT)", "those of the training images"),
            Departure(
                "start of the trunk",
                "truncated normal of 0.02, but for MAE, HPM, CMAE and CAPI; positions learned (iBOT, MaskFeat), "
                "relative (BEiT, data2vec, SimMIM) or rotary (CAPI)",
                "Xavier and fixed sine-cosine positions, for all",
                "the largest gain at this scale, and one trunk for all rows",
            ),
            Departure(
                "blocks of the trunk",
                "layer scale (BEiT, data2vec, SimMIM), drop path (these, iBOT, CAPI), registers and no class token "
                "(CAPI), no class token (I-JEPA)",
                "plain, with a class token",
                "one trunk for all rows",
            ),
            Departure(
                "start of mask tokens and of linear predictions",
                "truncated normal of 0.02; iBOT's token is 0, SimMIM's layer torch's default",
                "normal of 0.02 (MAE), and torch's default",
            ),
            Departure(
                "teacher's momentum",
                "0.996 to 1 by a cosine (iBOT), a line (I-JEPA), 0.999 to 1 (CAPI), 0.9998 (data2vec), 0.999 to 0.9999 "
                "(HPM), 0.996 (CMAE)",
                "0.98, constant",
                "about 1,000 steps instead of 100,000",
            ),
        ),
    ),
    "mim-random": Compared(
        "facebookresearch/mae: models_mae.py, main_pretrain.py, engine_pretrain.py, PRETRAIN.md",
        (
            Departure(
                "decoder",
                "the class token goes through it, too",
                "the class token stays in the encoder",
                "it asks patches alone",
            ),
        ),
    ),
    "mim-block": Compared(
        "as `mim-random`; microsoft/unilm: beit/masking_generator.py",
        (Departure("ratio", "0.75 of MAE, 0.38 of BEiT", "0.6", "MAE finds blocks best below 0.75; 6 of 16 stay"),),
    ),
    "mim-adaptive": Compared("as `mim-random`; the mask is of this project"),
    "mim-object": Compared(
        "as `mim-random`; ucasligang/SemMAE: models_mae_setting3.py, engine_pretrain_setting3.py",
        (
            Departure(
                "parts",
                "seven masks an image, read beside it: parts that were learned before",
                "six clusters of its patches by colour and place",
                "no pretrained network",
            ),
            Departure("schedule", "from 75 % of each part to whole parts, by a cosine", "whole parts from the start"),
        ),
    ),
    "mim-attention": Compared(
        "gkakogeorgiou/attmask: attmask.py, main_attmask.py, README.md",
        (
            Departure(
                "loss", "iBOT's, of patches and class token", "MAE's; the class token has no term of its own", SAME
            ),
            Departure("ratio", "0.1 to 0.5, drawn for each batch, of every other image", "0.75 of every image", SAME),
            Departure(
                "hints, `mim.attend=hint`",
                "shown from the tenth that is most attended, so that fewer are hidden",
                "as many less attended patches are hidden instead",
                "as many are hidden in every image",
            ),
        ),
    ),
    "mim-hard": Compared(
        "as `mim-random`; Haochen-Wang409/HPM: engine_pretrain.py, models_mae_learn_loss.py, mask_transform.py, "
        "scripts/pretrain_base.sh",
        (
            Departure("target", "pixels as they are: its scripts don't set `--norm_pix_loss`", "normalised", SAME),
            Departure(
                "head that foretells the loss",
                "on the reconstruction's first layer and mask token, with blocks of its own",
                "all its own",
                "parts stand alone",
            ),
            Departure("expected loss", "the mean of as many outputs as a patch has values", "one output"),
            Departure("share of hard patches", "grows with each epoch", "grows with each step", "runs of few epochs"),
        ),
    ),
    "simmim": Compared(
        "microsoft/SimMIM: models/simmim.py, data/data_simmim.py, configs/vit_base__800ep",
        (
            Departure(
                "units",
                "of 2 x 2 patches, their number rounded up",
                "the last one is trimmed at random, and below 8 x 8 patches they are single patches",
                "one rule for all masks; a unit would be a quarter of a side",
            ),
        ),
    ),
    "beit": Compared(
        "microsoft/unilm: beit/masking_generator.py, datasets.py, modeling_pretrain.py, engine_for_pretraining.py, "
        "run_beit_pretraining.py, README.md",
        (
            BEIT_COLOURS,
            Departure(
                "tokens",
                "DALL-E's dVAE, 8,192 codes, of the same crop at half its size",
                "a small dVAE trained on the same images, of the crop itself",
                "DALL-E's weights are not to be had offline",
            ),
        ),
    ),
    "maskfeat": Compared(
        "facebookresearch/SlowFast: slowfast/models/masked.py, operators.py, head_helper.py, losses.py, "
        "slowfast/datasets/imagenet.py, transform.py, configs/masked_ssl/in1k_VIT_B_MaskFeat_PT.yaml",
        (
            Departure(
                "smallest block",
                "a fifth of what is hidden, 15 of 78",
                "a third of the grid's side, squared, at least 4 (iBOT): 16 on 14 x 14 patches",
                "one strategy for all block masks",
            ),
        ),
    ),
    "data2vec": Compared(
        "facebookresearch/data2vec_vision: beit/engine_for_cyclical.py, modeling_cyclical.py, run_cyclical.py, "
        "datasets.py, README.md",
        (
            BEIT_COLOURS,
            Departure(
                "averaged blocks",
                "each token of each normalised over its channels",
                "each channel of each normalised over an image's tokens, as in data2vec 2.0",
                "RankMe on CIFAR-10 of 41, and of 21 without",
            ),
            Departure("number of them", "6 of 12", "2 of 3"),
        ),
    ),
    "ibot": Compared(
        "bytedance/ibot: main_ibot.py, loader.py, models/head.py, utils.py, README.md",
        (
            Departure(
                "masked views",
                "each of two with probability one half; the patch term of a view without a mask is 0",
                "the first always, the second never; `pair_weight=2` keeps patch to class term at 0.5 to 1",
                "as many are hidden in every image",
            ),
            Departure("ratio", "0.1 to 0.5, drawn for each image", "drawn for each step", "batches are rectangular"),
            Departure("teacher's passes", "each view once", "the first twice, once for each term", "parts stand alone"),
            Departure("blur", "by 0.1 to 2 px of 224", "by as many px of any size, cut off", "as the other methods"),
            Departure("local crops", "10 of 0.05 to 0.25", "none; `dino` and `dinov2` have them"),
            Departure(
                "centre of patches", "of both views", "of the masked view", "the other one's patches predict nothing"
            ),
            Departure(
                "last layer", "its lengths are learned (ViT-S), after an epoch's rest", "lengths of 1, learns at once"
            ),
            Departure(
                "teacher's temperature",
                "rises for 30 epochs, of 100 or 800",
                "rises for 30 % of the budget",
                "short runs",
            ),
        ),
    ),
    "ijepa": Compared(
        "facebookresearch/ijepa: configs/in1k_vith14_ep300.yaml, src/masks/multiblock.py, src/train.py, "
        "src/transforms.py, src/models/vision_transformer.py, src/helper.py",
        (
            Departure(
                "target blocks",
                "sides tied to one random number a batch, last row and column never reached",
                "sides and corners drawn for each image, up to the border",
            ),
            Departure(
                "context",
                "a block of 0.85 to 1 of the image without the targets, cut to the batch's shortest",
                "40 % of the patches: what the four blocks leave short of 60 % is hidden at random, and predicted too",
                "as many are hidden in every image",
            ),
            Departure(
                "predictor",
                "self-attention over context and one block, four times; patches in two blocks count twice",
                "cross-attention from all hidden places at once; each counts once",
                "one pass",
            ),
        ),
    ),
    "capi": Compared(
        "facebookresearch/capi: default_pretrain_config.yaml, data.py, model.py, train_capi.py, utils.py",
        (
            Departure("asked places", "5 % of the hidden", "all", "5 % of 16 patches are none"),
            Departure(
                "clustering", "an optimiser of its own, at half the rate", "shares the optimiser", "one loop for all"
            ),
            Departure(
                "predictor",
                "RMS norms, rotary positions, looks at registers, too; as wide as the encoder",
                "layer norms, fixed positions, looks at patches; narrower, so that a linear layer leads to the head",
            ),
        ),
    ),
    "cmae": Compared(
        "as `mim-random`; ZhichengHuang/CMAE: configs/pre-training/cmae/cmae_vit-base-p16_16xb256-coslr-300e_in1k.py, "
        "cmae/models/algorithms/cmae.py, backbones/cmae_vit.py, heads/cmae_head.py, necks, "
        "cmae/datasets/cmae_dataset.py, cmae/core/hooks/momentum_update_hook.py",
        (
            Departure(
                "units", "of 2 x 2 patches", "single patches below 8 x 8 of them", "a unit would be a quarter of a side"
            ),
            Departure(
                "features of the masked view",
                "the mean of a decoder of 2 blocks over all places",
                "the mean of the encoder's visible tokens",
            ),
            Departure(
                "second view",
                "the same crop, shifted by up to 31 px of 224, with jitter 0.4, hue 0.1, grey 0.2 and blur 0.5",
                "a crop of its own, as the first",
                "views of one kind",
            ),
            Departure("teacher's tokens", "without the final norm", "with it"),
            Departure("last layer of projector and predictor", "without bias", "with it"),
        ),
    ),
}
