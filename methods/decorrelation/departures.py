"""In what these methods are not their published code: literals only, so that listing imports no torch."""

from ssbench.departures import Compared, Departure

COMPARED = {
    "barlow-twins": Compared("facebookresearch/barlowtwins: main.py"),
    "vicreg": Compared(
        "facebookresearch/vicreg: main_vicreg.py, augmentations.py, README.md",
        (
            Departure(
                "views of the cifar recipe",
                "solo-learn solarises either with 0.1",
                "the second alone with 0.2",
                "as on ImageNet",
            ),
        ),
    ),
    "vicregl": Compared(
        "facebookresearch/VICRegL: main_vicregl.py, transforms.py, utils.py, optimizers.py, resnet.py, README.md",
        (
            Departure(
                "matches by place", "20 one way and 4 the other, the mean of both orders", "as many each way", "simpler"
            ),
            Departure(
                "mirrored crops",
                "their places are not mirrored by default (--no-flip-grid 1)",
                "they are",
                "places that match are the same place then",
            ),
            Departure(
                "norms of the heads", "layer norm on ConvNeXt, batch norm on ResNets", "batch norm", "ViTs have no rule"
            ),
            Departure("half-size views", "six for ConvNeXt, none for ResNets", "none", "as for ResNets"),
        ),
    ),
    "mmcr": Compared(
        "ThomasYerxa/mmcr: pretrain_cifar_stl.py, pretrain_imagenet.py, mmcr/cifar_stl: loss_mmcr.py, models.py, "
        "train.py, data.py; mmcr/imagenet/loss_mmcr_momentum.py",
        (
            Departure("views", "40 on CIFAR in batches of 32, 8 on ImageNet", "4", "the budget counts images"),
            Departure("teacher", "on ImageNet half of a centroid is a moving average's", "none", "as on CIFAR"),
            Departure(
                "loss", "less the nuclear norm", "what it lacks to its largest value", "zero is the best; same slope"
            ),
            Departure(
                "optimiser of the cifar recipe",
                "Adam at a constant rate, its decay in the gradient, biases and norms too",
                "AdamW with half a cosine, no decay of biases and norms",
                "the nearest there is",
            ),
        ),
    ),
    "lejepa": Compared(
        "rbalestr-lab/lejepa: README.md, MINIMAL.md, lejepa/univariate/epps_pulley.py, lejepa/multivariate/slicing.py; "
        "lightly-ai/lightly: lightly/loss/lejepa_loss.py",
        (
            Departure(
                "views",
                "MINIMAL.md: four alike, drawn to the mean of all; README.md: two full-size and six small ones",
                "README.md's, drawn to the mean of the full-size ones",
                "as lightly's",
            ),
            Departure("share of SIGReg", "MINIMAL.md 0.02", "0.05", "as lightly's"),
            Departure(
                "projector", "MINIMAL.md: on a linear layer of 512 behind the trunk", "on the trunk", "what tasks read"
            ),
            Departure("stochastic depth", "MINIMAL.md 0.1", "none", "said there to have no impact"),
            Departure(
                "weight decay", "MINIMAL.md: biases and norms decay too", "they do not", "one rule for all methods"
            ),
        ),
    ),
    "tico": Compared(
        "lightly-ai/lightly: lightly/loss/tico_loss.py, lightly/transforms/tico_transform.py, "
        "benchmarks/imagenet/resnet50/tico.py; sayannag/TiCo-pytorch: TiCo/main.py; no code of the authors is known",
        (
            Departure(
                "covariance", "sayannag's passes the gradient of this batch's share on", "carries none", "as lightly's"
            ),
        ),
    ),
    "w-mse": Compared(
        "htdt/self-supervised: cfg.py, model.py, train.py, methods/w_mse.py, methods/whitening.py, "
        "methods/norm_mse.py, datasets/transforms.py, datasets/cifar10.py",
        (
            Departure(
                "shrinkage of the covariance",
                "w_eps times the identity, 0",
                "0.001 times its mean variance times the identity",
                "with none, less images than dimensions, or a dead dimension, end the training",
            ),
            Departure("order", "colours before the crop", "the crop before colours", "one rule for all methods"),
            Departure(
                "batch norms of a conv net",
                "the trunk's see one view at a time",
                "both at once",
                "the head's do, there too",
            ),
            Departure("optimiser of the recipe", "Adam, its decay in the gradient", "AdamW", "the nearest there is"),
        ),
    ),
}
