"""Nearest class mean: the class whose average feature is closest."""

import torch

from ssbench import Bench, Metric, Outcome, Task, setting
from ssbench import Settings as Base


class Means(Task):
    """Cosine or Euclidean distance to the class means of `fit`, whichever is better on `select`."""

    class Settings(Base):
        distances: tuple[str, ...] = setting(("cosine", "euclidean"), "distances to choose from", source="this page")

    metrics = (Metric("top1", "%", "higher", "accuracy"),)

    def evaluate(self, bench: Bench) -> Outcome:
        fit, label = bench.fit.pooled(), bench.fit.target("label")  # (N, D), (N,)
        means = torch.stack([fit[label == c].mean(0) for c in range(len(bench.data.classes))])  # (C, D)

        def predict(features: torch.Tensor, distance: str) -> torch.Tensor:
            if distance == "cosine":
                return (features @ (means / means.norm(dim=1, keepdim=True)).T).argmax(1)
            return torch.cdist(features, means).argmin(1)

        sweep = []
        for distance in self.settings.distances:
            hit = predict(bench.select.pooled(), distance) == bench.select.target("label")
            sweep.append({"distance": distance, "select": 100 * hit.float().mean().item()})
        best = max(sweep, key=lambda point: point["select"])
        test = bench.test(selected := {"distance": best["distance"]})
        outcome = Outcome(selected, sweep)
        outcome.add("top1", predicted=predict(test.pooled(), selected["distance"]), truth=test.target("label"))
        return outcome


META = {"family": "probe", "summary": "nearest class mean", "paper": "docs/add-a-task.md"}
