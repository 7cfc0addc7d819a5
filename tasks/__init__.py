"""The contents page of tasks: what a pretrained encoder is judged by. Nothing here imports a task's file."""

from ssbench.registry import Entry

TASKS = {
    "knn": Entry(
        "knn:KNN",
        family="frozen features",
        summary="weighted vote of the 20 nearest training features; nothing is trained",
        paper="Wu et al. 2018, arXiv:1805.01978",
    ),
    "linear-probe": Entry(
        "linear_probe:LinearProbe",
        family="frozen features",
        summary="best of a grid of linear classifiers on cached features",
        paper="Alain and Bengio 2016, arXiv:1610.01644",
    ),
    "finetune": Entry(
        "finetune:Finetune",
        family="whole network",
        summary="all weights trained with labels, deeper layers faster",
        paper="He et al. 2021, arXiv:2111.06377",
    ),
    "segmentation": Entry(
        "segmentation:Segmentation",
        family="frozen maps",
        summary="linear classifiers, and nearest neighbours, on each place of the feature map",
        paper="Oquab et al. 2023, arXiv:2304.07193",
    ),
    "detection": Entry(
        "detection:Detection",
        family="frozen maps",
        summary="FCOS on a simple pyramid of the feature map; COCO's average precision of boxes",
        paper="Li et al. 2022, arXiv:2203.16527",
    ),
}
