"""In what these methods are not their published code: literals only, so that listing imports no torch."""

from ssbench.departures import Compared, Departure

COMPARED = {
    "swav": Compared(
        "facebookresearch/swav: main_swav.py, src/multicropdataset.py, src/resnet50.py, scripts, README.md",
        (
            Departure(
                "epsilon and strength of the jitter",
                "0.05 and 1",
                "0.03 and 0.5",
                "with theirs the loss stays at ln K on shapes (200 steps); README.md suggests both changes",
            ),
            Departure(
                "queue",
                "empty until the epoch in which it is used",
                "filled from the start, where there is one",
                "vectors in it are as old either way",
            ),
            Departure(
                "frozen prototypes",
                "for an epoch or less",
                "for a share of the budget",
                "a budget may be less than an epoch",
            ),
            Departure(
                "LARS of the recipes",
                "adapts and decays biases and norms too",
                "it does not",
                "one rule for all methods",
            ),
        ),
    ),
    "deepcluster-v2": Compared(
        "facebookresearch/swav: main_deepclusterv2.py, src/multicropdataset.py, src/resnet50.py, "
        "scripts/deepclusterv2_400ep_pretrain.sh",
        (
            Departure("first memory", "of crops, in training mode", "of whole images, in evaluation mode", "simpler"),
            Departure(
                "images that the last, incomplete batch leaves out",
                "are ignored in the next epoch",
                "keep what they had",
                "all images are there in every epoch",
            ),
            Departure("strength of the jitter", "1", "0.5", "as SwAV's here"),
            Departure(
                "LARS of the recipes",
                "adapts and decays biases and norms too",
                "it does not",
                "one rule for all methods",
            ),
        ),
    ),
    "smog": Compared(
        "lightly-ai/lightly: examples/pytorch/smog.py, lightly/models/modules/heads.py, "
        "lightly/transforms/smog_transform.py; no code of the authors is known",
        (
            Departure(
                "embeddings and groups",
                "groups move by embeddings that are about 11 long, so that beta weighs less",
                "both are unit vectors",
                "beta is then what it says",
            ),
            Departure(
                "groups made anew", "every 300 steps, random at the start", "before every epoch", "budgets are short"
            ),
            Departure("views", "four full-size and four small ones", "two", "lightly's example for CIFAR has two"),
            Departure("solarised", "the small views", "the second", "the only other one"),
        ),
    ),
}
