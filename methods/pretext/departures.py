"""In what these methods are not their published code: literals only, so that listing imports no torch."""

from ssbench.departures import Compared, Departure

COSINE = ("half a cosine to zero", "one form of schedule for all methods")
COMPARED: dict[str, Compared] = {
    "rotation": Compared(
        "gidariss/FeatureLearningRotNet: dataloader.py, config/CIFAR10_RotNet_NIN4blocks.py, "
        "config/ImageNet_RotNet_AlexNet.py, algorithms/ClassificationModel.py",
        (
            Departure(
                "crops",
                "shifted by up to 4 of 32 px, with a black border (CIFAR-10); 0.08 to 1 of the area (ImageNet)",
                "0.77 to 1 of the area",
                "one crop for all sizes, without a border that tells the turn",
            ),
        ),
    ),
    "jigsaw": Compared(
        "MehdiNoroozi/JigsawPuzzleSolver: train_val_cfn_jps.prototxt, solver_cfn_jps.prototxt, "
        "caffe-master-jps++/src/caffe/data_transformer.cpp, generate_jps_dataset.cpp",
        (
            Departure("crops", "the middle 255 of 256 px; 225 in the paper", "0.77 to 1 of the area, as 225 of 256 px"),
            Departure("rate of the imagenet recipe", "a tenth of it every 100,000 of 350,000 steps", *COSINE),
            Departure("tiles", "64 of 85 px; 64 of 75 in the paper", "64 of 75 px, in whole patches"),
            Departure(
                "channels", "moved against each other by up to 2 px", "not moved", "a quarter of a patch of 8 px"
            ),
            Departure(
                "grey", "half of the images; of the others half lose one direction of colour", "0.7, as the paper"
            ),
            Departure(
                "pixels",
                "ImageNet's mean is taken off",
                "each tile's own mean and deviation",
                "section 4.2 of the paper",
            ),
            Departure("head", "a layer for each tile; dropout 0.5", "the encoder's vectors side by side; batch norm"),
            Departure(
                "permutations", "a file of 100, or of 701", "100 by the paper's algorithm 1, which holds the identity"
            ),
        ),
    ),
    "relative-location": Compared(
        "cdoersch/deepcontext: train.py, utils.py",
        (
            Departure(
                "pairs", "all neighbours in a grid over the image", "the middle one of nine tiles and each other"
            ),
            Departure("coarse tiles", "a third of the tiles, down to 10 px", "none"),
            Departure(
                "dropped channels", "noise of half a grey level", "of 1/100 of the kept one's deviation (section 3.1)"
            ),
            Departure(
                "head",
                "a layer for each tile; batch norm without scale and shift, none behind the last hidden layer",
                "the encoder's vectors side by side; batch norm",
            ),
        ),
    ),
    "colorization": Compared(
        "richzhang/colorization: models/colorization_train_val_v2.prototxt, resources/caffe_traininglayers.py, "
        "train/solver.prototxt",
        (
            Departure("rate of the imagenet recipe", "a tenth of it every 225,000 of 500,000 steps", *COSINE),
            Departure("bins", "a list of 313, beyond sRGB too", "the 261 that a colour of sRGB falls into"),
            Departure("soft targets", "the 10 nearest bins", "the 5 nearest, as in the paper"),
            Departure("places", "single pixels, every fourth", "means over the places of the encoder's map"),
            Departure(
                "how rare a bin is",
                "in ImageNet; the equal share is of bins that occur",
                "in the training images; of all",
            ),
            Departure("grey images", "left out", "count"),
            Departure(
                "input", "lightness less 50, in one channel", "lightness in all channels, as images are normalised"
            ),
            Departure("crops", "176 of 256 px, unscaled", "0.47 to 1 of the area"),
            Departure("head", "three convolutions at twice the resolution and a linear layer", "a linear layer"),
        ),
    ),
}
