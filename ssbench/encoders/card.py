"""What an exported encoder says of itself: a value that JSON holds, the code that loads it, the model card."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ssbench.encoders.architecture import Architecture
from ssbench.spec import Frozen

SCORES = ("task", "metric", "data", "value", "95 % interval", "samples", "vector", "record")


class Result(Frozen):
    """One score of the encoder."""

    record: str  # its id
    task: str
    protocol: int
    data: str
    metric: str
    value: float
    low: float  # 95 % interval over test samples
    high: float
    unit: str
    better: Literal["higher", "lower"]
    samples: int
    pooling: str = ""  # that the task read or chose on held-out images; empty: it read no vector


class Description(Frozen):
    """An encoder that left its cache: all that builds it again, where it comes from, what it scored and cost."""

    written_by: Literal["ssbench export 1"] = "ssbench export 1"  # says what the file is, and its version
    architecture: Architecture
    mean: tuple[float, ...]  # of pixels in 0..1, a channel each
    std: tuple[float, ...]
    size: int  # px of the images that it was judged on
    dim: int
    patch: int | None  # px; None: no patch tokens
    pooling: str  # that was the headline's
    block: int  # that was read, counted from 1; 0: the last
    vector: str  # plain timm code: `model` and `x` (B, C, S, S) -> (B, dim); empty: a class's own pooling
    record: str  # the id of the one that was exported
    method: str
    version: int  # of the method's loss
    supervised: bool
    init: str = ""  # the given encoder whose weights it started from; empty: random ones
    pretrained_on: str
    judged_on: str
    backbone: str
    budget: str | None  # None: it was not trained
    seed: int
    precision: str
    settings: dict[str, Any]  # the method's
    train: dict[str, Any]  # the recipe
    scores: tuple[Result, ...]  # of every record of this encoder
    costs: dict[str, float]  # of pretraining, as in a record
    warning: str  # why it is to be taken for collapsed
    data_licence: str = "unknown"
    code: dict[str, str]  # version and commit of ssbench, and versions of timm and torch, that trained it


def lines(found: Description, weights: str) -> list[str]:
    """Code that needs timm, torch and safetensors alone: imports, then the network, its weights, its preprocessing.

    A stem for small images, which timm builds under no name, is a line more. `weights` is the path of the file.
    """
    options = {"num_classes": 0, **found.architecture.options}
    size = (len(found.mean), found.size, found.size)
    seen = {"input_size": size, "mean": found.mean, "std": found.std, "interpolation": "bicubic", "crop_pct": 1.0}
    small, unpooled = found.architecture.small_stem, found.architecture.unpooled
    conv = f"torch.nn.Conv2d({len(found.mean)}, model.conv1.out_channels, 3, 1, 1, bias=False)"
    return [
        f"import {'torch, ' * (small or unpooled)}timm.data, safetensors.torch",
        f"model = timm.create_model({found.architecture.name!r}, {_arguments(options)}).eval()",
        *([f"model.conv1, model.maxpool = {conv}, torch.nn.Identity()"] if small else []),
        *(["model.maxpool = torch.nn.Identity()"] if unpooled else []),
        f"model.load_state_dict(safetensors.torch.load_file({weights!r}))",
        f"prepare = timm.data.create_transform({_arguments(seen)})  # of a PIL image",
    ]


def folder_lines(folder: str) -> list[str]:
    """The same for a folder of the Hugging Face hub's layout."""
    return [
        "import timm.data",
        f"model = timm.create_model({f'local-dir:{folder}'!r}, pretrained=True).eval()",
        "prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(model))  # of a PIL image",
    ]


def _arguments(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in values.items())


def card(found: Description, name: str, code: list[str]) -> str:
    """The model card in Markdown; its front matter has the hub's keys. `code` loads the encoder from where it lies."""
    taught = "with labels" if found.supervised else "without labels"
    trained = f"pretrained {taught} by `{found.method}`" if found.budget else f"not trained (`{found.method}`)"
    block = f"block {found.block}" if found.block else "the last block"
    vector = f"An image is one vector of {found.dim} numbers: pooling `{found.pooling}`, out of {block}"
    how = f". Of a batch `x` of prepared images:\n\n```python\n{found.vector}\n```\n" if found.vector else ".\n"
    return f"""---
library_name: timm
license: unknown
tags: [ssbench, image-feature-extraction]
---

# {name}

A `{found.backbone}` encoder for images of {found.size} px, {trained} on `{found.pretrained_on}`, and judged by
ssbench on `{found.judged_on}` (record `{found.record}`).

## Load

```python
{chr(10).join(code)}
```

{vector}{how}
## Training

{_table(("", ""), _training(found))}

## Scores

On test splits that chose nothing. Intervals are over test samples, of this one encoder: another seed gives another.
The vector is what the task read, or chose on held-out images.

{_table(SCORES, [_row(one) for one in found.scores])}

## Costs

{_table(("of pretraining", ""), [(key.replace("_", " "), f"{value:,.10g}") for key, value in found.costs.items()])}

## Limits

{chr(10).join(f"- {limit}" for limit in _limits(found))}
"""


def _training(found: Description) -> list[tuple[str, str]]:
    made = {
        "method": f"{found.method}, loss version {found.version}",
        "data": found.pretrained_on,
        "start": found.init or "random weights",
        "budget": found.budget or "none",
        "seed": str(found.seed),
        "precision": found.precision,
        "settings": found.settings and f"`{_arguments(found.settings)}`",
        "recipe": found.train and f"`{_arguments(found.train)}`",
        "ssbench": ", ".join(f"{key} {value}" for key, value in found.code.items()),
    }
    return [(key, str(value)) for key, value in made.items() if value]


def _row(one: Result) -> tuple[str, ...]:
    arrow = {"higher": "↑", "lower": "↓"}[one.better]
    digits = 1 if one.unit == "%" else 3
    value, low, high = (f"{number:.{digits}f}" for number in (one.value, one.low, one.high))
    metric = " ".join(part for part in (one.metric, one.unit, arrow) if part)
    return (
        f"{one.task} (protocol {one.protocol})",
        metric,
        one.data,
        value,
        f"{low} to {high}",
        str(one.samples),
        one.pooling,
        one.record,
    )


def _limits(found: Description) -> list[str]:
    warned = [f"**It may have collapsed**: {found.warning}."] if found.warning else []
    return [
        *warned,
        f"What it gives on images unlike those of `{found.judged_on}`, or of another size than {found.size} px, "
        "was not measured.",
        "Images were cut to their centre square, or squashed to one where the data has masks, and resized (bicubic).",
        f"The licence of the data that it was trained on (`{found.pretrained_on}`) is {found.data_licence} to ssbench, "
        "and may bind the weights: look it up before they are passed on.",
        f"It was built by timm {found.code.get('timm', '(version not recorded)')}; another may build another network.",
    ]


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
