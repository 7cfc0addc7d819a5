"""In what these methods are not their published code: literals only, so that listing imports no torch."""

from ssbench.departures import Compared, Departure

FREEZE = Departure(
    "frozen prototypes", "for the first epoch", "for a share of the budget", "a budget may be less than an epoch"
)
COMPARED = {
    "byol": Compared(
        "google-deepmind/deepmind-research: byol/byol_experiment.py, byol/configs/byol.py, byol/utils/networks.py, "
        "helpers.py, augmentations.py, schedules.py, optimizers.py",
        (
            Departure(
                "start of the teacher",
                "weights of its own",
                "the student's",
                "the authors saw no significant difference (byol_experiment.py)",
            ),
        ),
    ),
    "simsiam": Compared(
        "facebookresearch/simsiam: simsiam/builder.py, main_simsiam.py, README.md",
        (
            Departure(
                "weight decay of the recipes", "biases and norms decay too", "they do not", "one rule for all methods"
            ),
        ),
    ),
    "dino": Compared(
        "facebookresearch/dino: main_dino.py, vision_transformer.py, utils.py, README.md",
        (
            FREEZE,
            Departure(
                "clipping", "each parameter's gradient at a norm of 3", "all at once", "one rule for all methods"
            ),
        ),
    ),
    "dinov2": Compared(
        "facebookresearch/dinov2: dinov2/train/ssl_meta_arch.py, train.py, dinov2/loss, dinov2/layers/dino_head.py, "
        "dinov2/data/augmentations.py, collate.py, masking.py, dinov2/utils/param_groups.py, dinov2/configs",
        (
            Departure(
                "masks",
                "a share of its own for each crop; blocks never over a whole side, and as few as they come to",
                "one number of patches for all crops of a step; blocks are trimmed and filled up to it",
                "hidden patches of a step are one tensor",
            ),
            Departure(
                "targets",
                "centred by default, balanced by Sinkhorn in train/vitl14.yaml",
                "balanced",
                "the larger run's",
            ),
            Departure(
                "rates by layer", "0.9 a block, 0.2 for the patch embedding", "none", "few blocks; none in vitl14.yaml"
            ),
            FREEZE,
            Departure("clipping", "encoder and head apart at a norm of 3", "together", "one rule for all methods"),
        ),
    ),
    "msn": Compared(
        "facebookresearch/msn: src/msn_train.py, src/losses.py, src/deit.py, src/data_manager.py, src/utils.py, "
        "configs/pretrain/msn_vits16.yaml",
        (
            Departure("dropped patches", "the same in all images of a step", "each image's own"),
            Departure("start of the projector", "a normal of 0.02, as DeiT's", "torch's", "lightly's head"),
            Departure("clipping", "of the encoder alone", "with the prototypes", "one rule for all methods"),
            Departure(
                "schedules of the recipe",
                "rate and weight decay take 1.25 budgets, and stop on the way",
                "they end with the budget",
                "one rule for all methods",
            ),
        ),
    ),
}
