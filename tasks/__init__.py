"""The contents page of tasks: what a pretrained encoder is judged by. Nothing here imports a task's file."""

from ssbench.registry import Entry

TASKS = {
    "knn": Entry(
        "knn:KNN",
        family="frozen features",
        summary="weighted vote of the 20 nearest training features; nothing is trained",
        paper="Wu et al. 2018, arXiv:1805.01978",
    ),
    "clustering": Entry(
        "clustering:Clustering",
        family="frozen features",
        summary="k-means without labels, compared with the classes",
        paper="Caron et al. 2018, arXiv:1807.05520",
    ),
    "retrieval": Entry(
        "retrieval:Retrieval",
        family="frozen features",
        summary="each test image looks for the others of its class; nothing is trained",
        paper="Caron et al. 2021, arXiv:2104.14294",
    ),
    "linear-probe": Entry(
        "linear_probe:LinearProbe",
        family="frozen features",
        summary="best of a grid of linear classifiers on cached features",
        paper="Alain and Bengio 2016, arXiv:1610.01644",
    ),
    "attentive-probe": Entry(
        "attentive_probe:AttentiveProbe",
        family="frozen maps",
        summary="a learned query pools the places of the feature map under a linear layer",
        paper="Darcet et al. 2025, arXiv:2502.08769",
    ),
    "logreg": Entry(
        "logreg:Logreg",
        family="frozen features",
        summary="logistic regression solved to the end for a path of C, with NLL, calibration and V-information",
        paper="Xu et al. 2020, arXiv:2002.10689",
    ),
    "ridge": Entry(
        "ridge:RidgeProbe",
        family="frozen features",
        summary="least squares on one-hot classes in closed form, all penalties at once",
        paper="Hoerl and Kennard 1970, doi:10.1080/00401706.1970.10488634",
    ),
    "layers": Entry(
        "layers:Layers",
        family="frozen features",
        summary="the ridge head on every pooling of every block, and where classes are told best",
        paper="Alain and Bengio 2016, arXiv:1610.01644",
    ),
    "few-labels": Entry(
        "few_labels:FewLabels",
        family="frozen features",
        summary="accuracy from 1, 2, 5, ... labels a class up to all, and the area under that curve",
        paper="Assran et al. 2022, arXiv:2204.07141",
    ),
    "multi-label": Entry(
        "multi_label:MultiLabel",
        family="frozen features",
        summary="a logistic regression for each of several labels an image",
        paper="Kornblith et al. 2018, arXiv:1805.08974",
    ),
    "regression": Entry(
        "regression:Regression",
        family="frozen features",
        summary="ridge regression of numbers, such as place, size and angle",
        paper="Hoerl and Kennard 1970, doi:10.1080/00401706.1970.10488634",
    ),
    "diagnostics": Entry(
        "diagnostics:Diagnostics",
        family="no labels",
        summary="RankMe, LiDAR, alpha-ReQ, uniformity and more of the test images' features; no labels",
        paper="Garrido et al. 2022, arXiv:2210.02885",
    ),
    "finetune": Entry(
        "finetune:Finetune",
        family="whole network",
        summary="all weights trained with labels, deeper layers faster",
        paper="He et al. 2021, arXiv:2111.06377",
    ),
    "peft": Entry(
        "peft:Peft",
        family="whole network",
        summary="LoRA, adapters, prompts, biases, the last block, the head or all weights trained with labels",
        paper="Hu et al. 2021, arXiv:2106.09685",
    ),
    "segmentation": Entry(
        "segmentation:Segmentation",
        family="frozen maps",
        summary="linear classifiers, and nearest neighbours, on each place of the feature map",
        paper="Oquab et al. 2023, arXiv:2304.07193",
    ),
    "segmentation-finetune": Entry(
        "segmentation_finetune:SegmentationFinetune",
        family="whole network",
        summary="all weights trained with masks, under a linear layer on each place of the map",
        paper="Bao et al. 2021, arXiv:2106.08254",
    ),
    "dense-regression": Entry(
        "dense_regression:DenseRegression",
        family="frozen maps",
        summary="ridge regression of depth on each place of the feature map",
        paper="Oquab et al. 2023, arXiv:2304.07193",
    ),
    "robustness": Entry(
        "robustness:Robustness",
        family="other images",
        summary="a head of clean features on a test seen through ImageNet-C's 15 corruptions",
        paper="Hendrycks and Dietterich 2019, arXiv:1903.12261",
    ),
    "invariance": Entry(
        "invariance:Invariance",
        family="other images",
        summary="how much features move under each of 13 augmentations; no labels",
        paper="Xiao et al. 2021, arXiv:2008.05659",
    ),
    "cue-conflict": Entry(
        "cue_conflict:CueConflict",
        family="other images",
        summary="shape or surface: which one a linear head reads where both told the class",
        paper="Geirhos et al. 2019, arXiv:1811.12231",
    ),
    "detection": Entry(
        "detection:Detection",
        family="frozen maps",
        summary="FCOS on a simple pyramid of the feature map; COCO's average precision of boxes",
        paper="Li et al. 2022, arXiv:2203.16527",
    ),
}
