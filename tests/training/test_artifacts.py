from pathlib import Path

import pytest
import torch
from torch import Tensor

from ssbench.encoders.encoder import Encoder
from ssbench.method import Cached, Method
from ssbench.plan import cells as cells_of
from ssbench.plan import request
from ssbench.results.store import write_bytes
from ssbench.training.artifacts import prepare
from ssbench.training.trained import forget, picture_folder

IMAGES = torch.arange(4 * 3 * 2 * 2, dtype=torch.uint8).view(4, 3, 2, 2)


class Learned(Method):
    """Keeps the images' mean and some random numbers; counts how often they were made."""

    made = 0

    def prepare(self, images: Tensor, cached: Cached) -> None:
        def make() -> dict[str, Tensor]:
            self.made += 1
            return {"mean": images.float().mean(0), "drawn": torch.rand(2), "seconds": torch.tensor(7.0)}

        self.found = cached("mean of 3", make)
        self.after = torch.rand(2)


@pytest.fixture
def method(untrained: Encoder) -> Learned:
    return Learned(untrained, Learned.Settings())


def test_an_artifact_is_made_once_and_costs_the_same_when_it_is_found(method: Learned, tmp_path: Path) -> None:
    first = prepare(method, IMAGES, tmp_path, "me", "data", seed=0)
    made, after = method.found, method.after
    second = prepare(method, IMAGES, tmp_path, "me", "data", seed=0)
    assert method.made == 1 and len(list(tmp_path.iterdir())) == 1
    assert torch.equal(method.found["mean"], IMAGES.float().mean(0))
    assert all(torch.equal(method.found[name], made[name]) for name in made) and torch.equal(method.after, after)
    assert 7 < first < 8 and 7 < second < 8


def test_other_data_another_owner_or_another_name_is_another_artifact(method: Learned, tmp_path: Path) -> None:
    for owner, data in (("me", "data"), ("me", "other"), ("you", "data")):
        prepare(method, IMAGES, tmp_path, owner, data, seed=0)
    assert method.made == 3 and len(list(tmp_path.iterdir())) == 3


def test_what_is_kept_does_not_hang_on_the_seed_of_the_run_that_made_it(method: Learned, tmp_path: Path) -> None:
    prepare(method, IMAGES, tmp_path / "a", "me", "data", seed=0)
    kept, after = method.found["drawn"], method.after
    prepare(method, IMAGES, tmp_path / "b", "me", "data", seed=1)
    assert torch.equal(method.found["drawn"], kept) and not torch.equal(method.after, after)


def test_the_time_of_making_is_kept_where_the_method_names_none(untrained: Encoder, tmp_path: Path) -> None:
    class Plain(Method):
        def prepare(self, images: Tensor, cached: Cached) -> None:
            self.found = cached("ones", lambda: {"ones": torch.ones(2)})

    method = Plain(untrained, Plain.Settings())
    prepare(method, IMAGES, tmp_path, "me", "data", seed=0)
    assert method.found["seconds"].ndim == 0 and 0 <= float(method.found["seconds"]) < 1


def test_most_methods_prepare_nothing(untrained: Encoder, tmp_path: Path) -> None:
    assert prepare(Method(untrained, Method.Settings()), IMAGES, tmp_path, "me", "data", seed=0) < 0.1
    assert not list(tmp_path.iterdir())


def test_a_rerun_forgets_all_artifacts_and_its_own_pictures(tmp_path: Path) -> None:
    cells = cells_of(request({"method": ["random-init"], "seeds": [0, 1]}, "test"))
    specs = [cell.spec.pretraining for cell in cells]
    mine, other = (picture_folder(tmp_path, spec) / "000000.png" for spec in specs)
    artifact = tmp_path / "artifacts" / "a.safetensors"
    begun = artifact.with_name(".b.safetensors.x1y2")  # another process writes it
    for file in (mine, other, artifact, begun):
        write_bytes(file, b"")
    forget(tmp_path, specs[:1])
    assert not artifact.exists() and not mine.exists() and other.exists() and begun.exists()
