"""What starts from given weights starts with exactly them; what tasks judge comes back from the cache as it was."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models import save_for_hf

from ssbench import Results, UserError, run
from ssbench.contracts import gives_vectors
from ssbench.data import Dataset
from ssbench.encoders.weights import weights_digest
from ssbench.plan import Cell, cells, request
from ssbench.results.store import Store
from ssbench.training.trained import assemble, trained_encoder
from ssbench.workshop import Job, Workshop

VIT: dict[str, Any] = {"patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 1, "img_size": 32, "init_values": 0.1}
NET = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.size = nn.Conv2d(3, 8, 4, 4), 16
    def forward(self, images):
        return self.stem(images)
def net(): return Net()
"""
LAYERED = """
import torch
from torch import nn
from ssbench import Entry, Method
from ssbench.encoders.encoder import Encoder

class Layered(Encoder):
    def __init__(self, inner):
        super().__init__(inner.trunk, inner.mean, inner.std)
        self.extra = nn.Linear(inner.dim, 5)
    @property
    def dim(self):
        return 5
    def pooled(self, images):
        return self.extra(self.vectors(images)["mean"])

class Judging(Method):
    def build(self):
        self.layered = Layered(self.encoder)
    def loss(self, batch):
        return {"spread": -self.layered.pooled(batch.views[0]).std(0).mean()}
    def judged(self):
        return self.layered

METHODS = {"judging": Entry("Judging", "test", "judges a layer more", "none")}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT with layer scale, in which nothing is as it starts, and a ResNet."""
    made = tmp_path_factory.mktemp("weights")
    torch.manual_seed(5)
    networks: dict[str, dict[str, Any]] = {"vit_tiny_patch16_224": VIT, "resnet18": {}}
    for name, options in networks.items():
        weights = timm.create_model(name, num_classes=0, **options).state_dict()
        shifted = {k: v + 0.1 * torch.rand_like(v) if v.is_floating_point() else v for k, v in weights.items()}
        save_file(shifted, made / f"{name.partition('_')[0]}.safetensors")
    return made


def opened(folder: Path, method: str, results: Path, **words: Any) -> Job:
    """The job of the method itself on digits of 16 px."""
    base: dict[str, Any] = {"method": [method], "task": ["knn"], "dataset": ["digits"], "seeds": [0]}
    base |= {"budget": "steps=2", "set": ["data.image_size=16", "train.batch=16", "backbone.patch=4"]}
    first: Cell = cells(request(base | {"init": f"file:{folder / 'vit.safetensors'}"} | words, "run"))[0]
    return Workshop(Store(results), torch.device("cpu")).open(first)


@pytest.mark.parametrize("method", ["mim-attention", "simclr", "supervised"])
def test_a_method_starts_with_the_weights_of_the_file(method: str, folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    found = assemble(opened(folder, method, tmp_path))[0]
    weights, start = load_file(folder / "vit.safetensors"), found.encoder.trunk.state_dict()
    assert start.keys() == weights.keys()
    for name in set(weights) - {"pos_embed", "patch_embed.proj.weight"}:  # resized below, as another patch is asked for
        assert torch.equal(start[name], weights[name]), name
    assert {"cls_token", "blocks.1.ls2.gamma", "norm.bias"} <= start.keys()
    torch.testing.assert_close(start["pos_embed"], resample_abs_pos_embed(weights["pos_embed"], [4, 4]))
    assert start["patch_embed.proj.weight"].shape[-1] == 4
    assert found.encoder.trunk.pos_embed.requires_grad  # a network that has learnt its positions goes on to


@pytest.mark.parametrize("settings", ["mim.target=ibot", "mim.mask=attention"])
def test_a_teacher_starts_as_an_equal_copy(settings: str, folder: Path, tmp_path: Path) -> None:
    words = ["data.image_size=16", "train.batch=16", "backbone.patch=4", settings]
    found: Any = assemble(opened(folder, "mim", tmp_path, set=words))[0]
    assert weights_digest(found.teacher) == weights_digest(found.encoder)
    assert not any(weight.requires_grad for weight in found.teacher.parameters())
    own = {weight.data_ptr() for weight in found.encoder.parameters()}
    assert not own & {weight.data_ptr() for weight in found.teacher.parameters()}
    assert found.teacher.poolings == found.encoder.poolings == ("cls", "mean")


def test_the_twin_does_not_start_with_them(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    twin = assemble(opened(folder, "random-init", tmp_path))[0].encoder.trunk
    given = load_file(folder / "vit.safetensors")["blocks.0.attn.qkv.weight"]
    assert not torch.allclose(twin.blocks[0].attn.qkv.weight, given, atol=1e-2)
    assert torch.equal(twin.blocks[0].attn.qkv.bias, torch.zeros(192))


def judge(method: str, init: str, results: Path, **more: Any) -> Results:
    words: dict[str, Any] = {"set": {"train.batch": 16, "data.image_size": 16}, "budget": "steps=2"}
    return run(method, "knn", "digits", init=init, seeds=0, device="cpu", results=results, **words | more)


def test_a_method_that_the_network_does_not_fit_says_so_in_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^masked image modelling needs patch tokens [^\n]*$"):
        judge("mim", f"file:{folder / 'resnet18.safetensors'}", tmp_path / "results")
    assert not [file for file in (tmp_path / "results").rglob("*") if file.is_file()]


def test_a_module_can_be_gone_on_from_and_its_twin_is_not_applicable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net_to_go_on_from.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    found = judge("simclr", "python:net_to_go_on_from:net", tmp_path / "results")
    said = {record.spec.pretraining.method: (record.status, record.reason) for record in found.records}
    assert {method: status for method, (status, _) in said.items()} == {
        "simclr": "done",
        "random-init": "not-applicable",
        "raw-pixels": "done",
        "supervised": "done",
        "given": "done",
    }
    assert "is a module, of which nothing says how it starts" in said["random-init"][1]


def test_what_went_on_has_moved_and_its_record_says_from_where(folder: Path, tmp_path: Path) -> None:
    found = judge("mim", f"file:{folder / 'vit.safetensors'}", tmp_path)
    known = {record.spec.pretraining.method: record.pretrained for record in found.records}
    assert known["mim"]["given"]["name"] == known["given"]["given"]["name"] and known["given"]["given"]["share"] == 1.0
    assert len({known[method]["weights"] for method in ("mim", "given", "random-init", "supervised")}) == 4
    assert "given" not in known["random-init"]


def test_a_network_that_only_judged_gives_comes_back_from_the_cache(
    folder: Path, tmp_path: Path, tiny: Dataset
) -> None:
    plugin = tmp_path / "layered.py"
    plugin.write_text(LAYERED)
    job = opened(folder, "judging", tmp_path / "results", init="", plugin=[str(plugin)])
    trained, done, made = trained_encoder(job)
    again, same, told = trained_encoder(job)
    assert trained is not again and type(again).__name__ == "Layered" and same == done and told == made
    assert weights_digest(again) == weights_digest(trained) == made["weights"]
    start = assemble(job)[0].judged()
    assert not torch.equal(start.state_dict()["extra.weight"], again.state_dict()["extra.weight"])
    x = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(again.eval().pooled(x), trained.eval().pooled(x))
    assert again.pooled(x).shape == (2, 5)
    gives_vectors(job.cell.method, tiny)


def test_the_cache_of_another_network_under_the_same_name_is_made_anew(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = tmp_path / "layered.py"
    plugin.write_text(LAYERED)
    job = opened(folder, "judging", tmp_path / "results", init="", plugin=[str(plugin)])
    first = trained_encoder(job)[0]
    (file,) = (tmp_path / "results").rglob("*.safetensors")
    save_file({key: value[:1].clone() for key, value in first.state_dict().items()}, file)
    assert weights_digest(trained_encoder(job)[0]) == weights_digest(first)


def test_a_given_network_with_a_vector_of_its_own_is_judged_by_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 1, "img_size": 16}
    trunk = timm.create_model("vit_base_patch16_siglip_224", num_classes=0, **options)
    save_for_hf(trunk, str(tmp_path / "siglip"), model_args=options, safe_serialization=True)
    words: dict[str, Any] = {"encoders": f"timm:local-dir:{tmp_path / 'siglip'}", "seeds": 0, "device": "cpu"}
    words["set"] = {"linear-probe.epochs": 1, "finetune.epochs": 1, "finetune.lrs": 1e-3}
    found = run((), "knn,linear-probe,finetune", "digits", results=tmp_path / "results", **words)
    given = {r.spec.task: r for r in found.records if r.spec.pretraining.method == "given"}
    assert {record.status for record in given.values()} == {"done"}, [record.reason for record in given.values()]
    assert given["knn"].selected["pooling"] == "own"
    assert {row["pooling"] for row in given["linear-probe"].sweep} == {"own", "mean"}
    assert given["knn"].measures["rankme"] > 1
