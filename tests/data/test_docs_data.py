"""docs/data.md: what lies there is drawn, its commands run and say what it says, its lists are those of the code."""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from ssbench import data
from ssbench.cli import app
from ssbench.data.suspicion import NAMES
from ssbench.errors import UserError
from ssbench.spec import DataSettings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "data.md").read_text()
BLOCKS = [part for block in re.findall(r"```console\n(.*?)```", PAGE, re.S) for part in block.strip().split("\n\n")]
COUNT, WIDTH, HEIGHT = 20, 320, 240  # of what `...` stands for
OBJECT = "<object><name>{}</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>90</xmax><ymax>90</ymax></bndbox></object>"
CELLS = {"split": ["train"] * 16 + ["test"] * 4, "species": ["elm", "oak"] * 10, "plant": [*"aaaabbbbccccddddeeee"]}
SHORT = shlex.split("--seeds 0 --device cpu --budget steps=2 --set train.batch=8 --set data.image_size=16")  # of a run


def named(first: str) -> list[str]:
    """001.jpg -> 001.jpg, 002.jpg, ..."""
    start, digits, end = re.split(r"(0+1)(?=[._])", first)
    return [f"{start}{at:0{len(digits)}}{end}" for at in range(1, COUNT + 1)]


def pictures(seed: int) -> list[Image.Image]:
    """Smooth random colours."""
    grains = np.random.default_rng(seed).integers(0, 256, (COUNT, 12, 16, 3), np.uint8)
    return [Image.fromarray(one).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC) for one in grains]


def as_cell(image: Image.Image) -> dict[str, bytes | None]:
    """What Hugging Face keeps of an image."""
    file = BytesIO()
    image.save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def lay(line: str, seed: int) -> None:
    """What a comment says: `PETS/cat/001.jpg ...`, or a file and its columns."""
    path, _, columns = line.partition(": ")
    file = Path(path.removesuffix(" ..."))
    images = sorted(file.parent.rglob("*.jpg")) or sorted(file.parent.parent.rglob("*.jpg"))
    file.parent.mkdir(parents=True, exist_ok=True)
    match file.suffix:
        case ".jpg":
            for name, image in zip(named(str(file)), pictures(seed)):
                image.save(name)
        case ".png":
            for name, image in zip(named(str(file)), pictures(seed)):
                image.convert("L").point(lambda level: level > 128).save(name)
        case ".tif":
            for name, image in zip(named(str(file)), pictures(seed)):
                image.convert("L").convert("F").save(name)
        case ".csv":
            cells = CELLS | {"file_name": [image.name for image in images]}
            rows = zip(*(cells[name] for name in columns.split(",")))
            file.write_text("\n".join([columns, *map(",".join, rows)]))
        case ".parquet":
            table = {"image": [as_cell(image) for image in pictures(seed)], "label": [0, 1] * (COUNT // 2)}
            pq.write_table(pa.table({name: table[name] for name in columns.split(",")}), file)
        case ".json":
            sized = {"width": WIDTH, "height": HEIGHT}
            entries = [{"id": at, "file_name": image.name, **sized} for at, image in enumerate(images)]
            boxes = [{"image_id": at, "category_id": at % 2, "bbox": [9, 9, 90, 90]} for at in range(COUNT)]
            kinds = [{"id": 0, "name": "bike"}, {"id": 1, "name": "car"}]
            file.write_text(json.dumps({"images": entries, "annotations": boxes, "categories": kinds}))
        case ".xml":
            for at, name in enumerate(named(str(file))):
                Path(name).write_text(f"<annotation>{OBJECT.format(('bike', 'car')[at % 2])}</annotation>")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where all of the page's files lie."""
    root = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        comments = [line[2:] for block in BLOCKS for line in block.splitlines() if line.startswith("# ")]
        for seed, line in enumerate(comments):
            lay(line, seed)
        yield root


COMMANDS = [line for block in BLOCKS for line in block.splitlines() if not line.startswith("# ")]


@pytest.mark.parametrize("line", [line for line in COMMANDS if "hf:" not in line and "torchvision:" not in line])
def test_the_pages_commands_say_what_the_page_says(place: Path, line: str) -> None:
    """All but those that download."""
    command, _, says = line.partition("  # ")
    words = shlex.split(command)[1:]
    ran = CliRunner().invoke(app, [*words, *(SHORT if words[0] == "run" else [])])
    assert ran.exit_code == 0 and says and says in ran.output, ran.output or ran.exception
    assert "refuses it" not in ran.output


def test_the_line_on_the_page_is_the_one_that_is_printed(place: Path) -> None:
    (line,) = re.findall(r"```text\n(.*)\n```", PAGE)
    assert CliRunner().invoke(app, ["data", "folder:PETS"]).output.splitlines()[0] == line


def suspicions() -> set[str]:
    """The names in all calls of `suspect`."""
    calls = (
        node
        for file in (ROOT / "ssbench").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "suspect"
    )
    return {str(ast.literal_eval(call.args[1])) for call in calls}


def test_the_page_names_every_suspicion_in_the_code_and_no_other() -> None:
    listed = re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.M)
    assert listed == sorted(suspicions()) == [*NAMES]


def test_a_suspicion_that_nobody_has_is_refused() -> None:
    with pytest.raises(UserError, match=r"data.allow=copy: no suspicion is called so; did you mean copies"):
        data.identify("digits", DataSettings(allow=("copy",)))


def test_the_page_names_every_setting_in_its_order() -> None:
    assert re.findall(r"^\| `data\.(\w+)` \|", PAGE, re.M) == [*DataSettings.model_fields]
