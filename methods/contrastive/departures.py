"""In what these methods are not their published code: literals only, so that listing imports no torch."""

from ssbench.departures import Compared, Departure

SHUFFLED = Departure(
    "batch norms of keys",
    "see other images than those of the queries, shuffled over GPUs",
    "see the batch, as those of the queries do",
    "one device; a conv net may tell a pair by its batch's statistics",
)
DECAY = Departure(
    "weight decay of the recipes", "biases and norms decay too", "they do not", "one rule for all methods"
)
BY_VIEW = (
    Departure("batch norms of the cifar recipe", "lightly's see one view at a time", "both at once", "as `simclr`'s"),
    DECAY._replace(what="weight decay of the cifar recipe"),
)
COMPARED = {
    "simclr": Compared(
        "google-research/simclr: data_util.py, model.py, model_util.py, objective.py, run.py, README.md",
        (
            Departure(
                "projector",
                "three layers (two in the paper), hidden ones as wide as the encoder, the last norm without a shift",
                "two layers, the last norm with a shift",
                "the paper's depth, in lightly's head",
            ),
            Departure(
                "loss",
                "the sum of both views' means",
                "the mean over all views, half of it",
                "AdamW sees no factor, nor does LARS in what it adapts; biases and norms move half as far there",
            ),
        ),
    ),
    "moco-v2": Compared(
        "facebookresearch/moco: moco/builder.py, main_moco.py, README.md",
        (
            SHUFFLED,
            Departure(
                "loss and momentum of the cifar recipe",
                "solo-learn's mocov2plus: both ways round, the momentum rises to 0.999",
                "one way, constant",
                "the authors' loss",
            ),
            DECAY,
        ),
    ),
    "moco-v3": Compared(
        "facebookresearch/moco-v3: moco/builder.py, moco/optimizer.py, main_moco.py, vits.py, CONFIG.md",
        (DECAY._replace(what="weight decay of the recipe for ViTs"),),
    ),
    "supcon": Compared(
        "HobbitLong/SupContrast: losses.py, networks/resnet_big.py, main_supcon.py, util.py, README.md",
        (
            Departure(
                "loss", "times the temperature over 0.07", "without the factor", "the paper's; the recipe's rate has it"
            ),
            Departure(
                "projector",
                "no norms",
                "batch norms",
                "without, a ViT's embeddings, nearly equal at first, stay so (600 steps on shapes)",
            ),
            DECAY,
        ),
    ),
    "dcl": Compared(
        "raminnakhli/Decoupled-Contrastive-Learning: loss/dcl.py; lightly-ai/lightly: lightly/loss/dcl_loss.py, "
        "benchmarks/imagenet/resnet50/dcl.py, docs/source/getting_started/benchmarks/cifar10_benchmark.py; "
        "no code of the authors is known",
        BY_VIEW,
    ),
    "dclw": Compared(
        "raminnakhli/Decoupled-Contrastive-Learning: loss/dcl.py; lightly-ai/lightly: lightly/loss/dcl_loss.py, "
        "benchmarks/imagenet/resnet50/dclw.py, docs/source/getting_started/benchmarks/cifar10_benchmark.py; "
        "no code of the authors is known",
        (
            Departure("weights of positives", "raminnakhli's pass the gradient on", "carry none", "as lightly's"),
            *BY_VIEW,
        ),
    ),
    "nnclr": Compared(
        "vturrisi/solo-learn: solo/methods/nnclr.py, solo/losses/nnclr.py; lightly-ai/lightly: "
        "examples/pytorch/nnclr.py; no code of the authors is known",
        (
            Departure(
                "negatives",
                "lightly's are all other neighbours and predictions of the batch (NT-Xent)",
                "the other predictions alone",
                "as solo-learn's",
            ),
        ),
    ),
    "ressl": Compared(
        "KyleZheng1997/ReSSL: ressl.py, network/ressl.py, network/backbone.py, network/head.py, data/augmentation.py",
        (
            SHUFFLED,
            Departure(
                "views and momentum of the cifar recipe",
                "solo-learn's: saturation 0.2, the momentum rises to 1",
                "0.4, constant",
                "the authors'",
            ),
            DECAY._replace(what="weight decay of the cifar recipe"),
        ),
    ),
}
