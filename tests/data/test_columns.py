"""Which column is what: by type, by name, by what the settings say."""

import json
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from ssbench.data.sources.columns import Boxes, Labels, find_columns
from ssbench.data.sources.table import Table, fields
from ssbench.errors import UserError
from ssbench.spec import DataSettings

PLAIN = DataSettings()


def png(level: int = 0) -> bytes:
    file = BytesIO()
    Image.fromarray(np.full((4, 6, 3), level, np.uint8)).save(file, "png")
    return file.getvalue()


def table(content: "pa.Table | dict[str, Any]", name: str = "train") -> Table:
    whole = content if isinstance(content, pa.Table) else pa.table(content)

    def batches(columns: list[str], size: int) -> Iterable[Any]:
        return whole.select(columns).to_batches(size)

    return Table(name, len(whole), fields(whole.schema, name), Path(), batches)


def typed(columns: dict[str, list[Any]], features: dict[str, Any]) -> Table:
    """As Hugging Face's `datasets` writes it."""
    made = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    return table(made.with_format("arrow")[:].replace_schema_metadata(made.features.arrow_schema.metadata))


def label(kind: Any, **more: Any) -> Labels:
    return find_columns("x", [table({"image": [png()] * len(kind), "label": kind, **more})], PLAIN)[0].label


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([png()]),
        pa.array([png()], pa.large_binary()),
        pa.array([png()], pa.binary_view()),
        pa.array([png()], pa.binary(len(png()))),
        pa.array([{"bytes": png(), "path": None}]),
        pa.array([{"path": "a", "bytes": png(), "size": 3}]),
        pa.array([None, b"", b"broken", png()]),
        pa.array(["photos/1.JPG"]),
        pa.array(["a.png"], pa.string_view()),
        pa.array(["a.tiff"], pa.large_string()).dictionary_encode(),
        pa.array([{"bytes": None, "path": "a.webp"}]),
    ],
    ids=lambda cells: str(cells.type)[:30],
)
def test_images_are_bytes_structs_and_paths_of_any_arrow_type(cells: Any) -> None:
    content = {"other": ["text"] * len(cells), "sound": [b"RIFF"] * len(cells), "shot": cells}
    columns, left_out = find_columns("x", [table(content)], PLAIN)
    assert columns.image == "shot"
    assert left_out == [
        "columns other, none of which is called label (data.label can name one)",
        "columns sound that are not read",
    ]


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["depth", "image"], "image"),
        (["depth", "Image"], "Image"),
        (["thumbnail", "pixel_values"], "pixel_values"),
        (["picture", "img"], "img"),
        (["mask", "shot"], "shot"),
        (["label", "shot"], "shot"),
        (["mask"], "mask"),
    ],
)
def test_the_column_called_image_is_preferred_and_masks_are_none(there: list[str], taken: str) -> None:
    columns, left_out = find_columns("x", [table({name: [png()] for name in there})], PLAIN)
    assert columns.image == taken
    assert left_out == [f"column {n}, which holds images too" for n in there if n not in (taken, "mask", "label")]


def test_several_columns_of_images_without_a_usual_name_are_refused_by_name() -> None:
    both = table({"left": [png()], "right": [png()], "mask": [png()]})
    with pytest.raises(UserError, match=r"x has images in the columns left, right: say which, --set data.image=left"):
        find_columns("x", [both], PLAIN)
    columns, left_out = find_columns("x", [both], DataSettings(image="right", mask="left"))
    assert (columns.image, columns.mask) == ("right", "left")
    assert left_out == ["column mask, which holds images too"]


def test_images_as_bytes_are_preferred_to_paths_that_say_where_they_came_from() -> None:
    assert find_columns("x", [table({"file_name": ["a.png"], "crop": [png()]})], PLAIN)[0].image == "crop"
    assert find_columns("x", [table({"image": ["a.png"], "mask": [png()]})], PLAIN)[0].image == "image"


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([[[1, 2], [3, 4]]], r"column 'image' holds lists \(list<.*\), not an image file a row: write each as a PNG"),
        ([[b"abc"]], r"column 'image' holds lists \(list<.*\), not an image file a row: write each as a PNG"),
        (["https://example.org/1.png"], "column 'image' holds addresses, not images: download them"),
        ([b"RIFFWAVE"], "column 'image' holds bytes that are not an image file"),
        ([3], "column 'image' holds no images but int64"),
        (pa.array([None], pa.binary()), "column 'image' holds nothing"),
    ],
)
def test_what_is_no_image_is_said_with_the_columns_that_are_there(cells: Any, message: str) -> None:
    content = table({"id": ["a"], "image": cells})
    with pytest.raises(UserError, match=rf"x has no column of images: {message}; its columns: id \(string\), image"):
        find_columns("x", [content], PLAIN)
    with pytest.raises(UserError, match=message):
        find_columns("x", [content], DataSettings(image="image"))


def test_sound_and_a_list_of_images_are_no_images() -> None:
    sound = {"audio": [{"bytes": b"RIFF", "path": None}]}
    with pytest.raises(UserError, match=r"no column of images: its columns: audio"):
        find_columns("x", [table(sound)], PLAIN)
    several = typed({"images": [[{"bytes": png(), "path": None}]]}, {"images": datasets.Sequence(datasets.Image())})
    with pytest.raises(UserError, match="column 'images' holds lists"):
        find_columns("x", [several], PLAIN)


@pytest.mark.parametrize(
    ("cells", "holds"),
    [
        (pa.array([0, 1]), "int"),
        (pa.array([0, 1], pa.uint8()), "int"),
        (pa.array(["a", "b"]), "text"),
        (pa.array(["a", "b"], pa.large_string()), "text"),
        (pa.array(["a", "b"], pa.string_view()), "text"),
        (pa.array(["a", "b"], pa.large_string()).dictionary_encode(), "text"),
        (pa.array([True, False]), "bool"),
        (pa.array([0.0, float("nan")]), "float"),
        (pa.array([0.0, None]), "float"),
        (pa.array([["a"], ["b", "c"]]), "text"),
        (pa.array([[1], []], pa.large_list(pa.int32())), "int"),
    ],
    ids=lambda cells: str(getattr(cells, "type", "")),
)
def test_integers_text_booleans_and_lists_are_labels(cells: Any, holds: str) -> None:
    assert label(cells) == Labels("label")
    assert fields(pa.table({"label": cells}).schema, "x")["label"].holds == holds


def test_a_class_label_brings_its_names() -> None:
    names = datasets.ClassLabel(names=["dull", "bright"])
    content: dict[str, list[Any]] = {"image": [{"bytes": png(), "path": None}], "look": [0], "kinds": [[1]]}
    features = {"image": datasets.Image(), "look": names, "kinds": datasets.Sequence(names)}
    columns, left_out = find_columns("x", [typed(content, features)], PLAIN)
    assert columns.label == Labels("look", ("dull", "bright"))
    assert left_out == ["column kinds, which holds labels too"]
    assert find_columns("x", [typed(content, features)], DataSettings(label="kinds"))[0].label.classes


@pytest.mark.parametrize("form", ["list", "sequence", "brackets"])
def test_feature_types_of_older_versions_are_read(form: str) -> None:
    one = {"num_classes": 2, "names": ["a", "b"], "id": None, "_type": "ClassLabel"}
    kinds = {
        "list": {"feature": one, "_type": "List"},
        "sequence": {"feature": one, "length": -1, "id": None, "_type": "Sequence"},
        "brackets": [one],
    }
    schema = pa.schema([("labels", pa.list_(pa.int64()))])
    known = json.dumps({"info": {"features": {"labels": kinds[form]}}})
    assert fields(schema.with_metadata({"huggingface": known}), "x")["labels"].classes == ("a", "b")


def test_stale_metadata_of_a_column_that_is_text_by_now_gives_no_classes() -> None:
    features = datasets.Features({"label": datasets.ClassLabel(names=["a"])})
    schema = pa.schema([("label", pa.string())]).with_metadata(features.arrow_schema.metadata)
    assert fields(schema, "x")["label"].classes == ()


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["id", "label"], "label"),
        (["category", "label"], "label"),
        (["fine_label", "Label"], "Label"),
        (["coarse", "fine_label"], "fine_label"),
        (["species", "y"], "species"),
        (["id", "count"], ""),
    ],
)
def test_the_column_called_label_is_preferred(there: list[str], taken: str) -> None:
    found, _ = find_columns("x", [table({"image": [png()], **{name: [1] for name in there}})], PLAIN)
    assert found.label.column == taken


def test_measurements_are_no_labels_and_can_be_predicted() -> None:
    content = table({"image": [png()] * 2, "target": [0.5, 1.0], "age": [30, 40]})
    columns, left_out = find_columns("x", [content], PLAIN)
    assert (
        columns.label == Labels()
        and left_out[0] == "column target, whose numbers are no classes (data.numbers can name it)"
    )
    with pytest.raises(UserError, match=r"column 'target' .* no classes; to predict them: --set data.numbers=target"):
        find_columns("x", [content], DataSettings(label="target"))
    assert find_columns("x", [content], DataSettings(numbers=("age", "target")))[0].numbers == ("age", "target")
    with pytest.raises(UserError, match=r"column 'image' \(data.numbers\) holds no numbers but binary"):
        find_columns("x", [content], DataSettings(numbers=("image",)))


@pytest.mark.parametrize(
    ("cells", "is_class"), [([-1, 0, 1], False), ([-1, 1], True), ([-2, -1, 0], True), ([-1], False), ([0, 1], False)]
)
def test_minus_one_is_a_class_beside_other_negative_ones_or_with_one_alone(cells: list[int], is_class: bool) -> None:
    assert label(cells).minus_one == is_class


def test_places_of_zeros_and_ones_are_told_from_lists_of_classes() -> None:
    assert label([[0, 1, 1], [0, 0, 0]]).hot and label([[True, False], [False, True]]).hot and label([[0.0, 0.0]]).hot
    assert not label([[0, 1], [1]]).hot and not label([[0, 2], [1, 2]]).hot and not label([[0], [1]]).hot


def test_classes_called_like_splits_are_what_a_loader_made_of_folders() -> None:
    made = typed(
        {"image": [{"bytes": png(), "path": None}], "label": [0]},
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["test", "train"])},
    )
    columns, left_out = find_columns("x", [made], PLAIN)
    assert not columns.label.column and left_out == ["column label, whose classes are called like splits"]
    assert find_columns("x", [made], DataSettings(label="label"))[0].label.column == "label"


def test_an_image_called_label_is_the_mask() -> None:
    assert find_columns("x", [table({"pixel_values": [png()], "label": [png()]})], PLAIN)[0].mask == "label"
    assert find_columns("x", [table({"image": [png()], "annotation": ["a.png"]})], PLAIN)[0].mask == "annotation"
    assert find_columns("x", [table({"image": [png()], "annotation": ["a.xml"]})], PLAIN)[0].mask == ""
    with pytest.raises(UserError, match=r"column 'label' holds no images but int64 \(data.mask\)"):
        find_columns("x", [table({"image": [png()], "label": [1]})], DataSettings(mask="label"))


@pytest.mark.parametrize("shape", ["struct of lists", "list of structs", "sequence"])
def test_boxes_are_found_in_either_shape_with_the_names_of_their_classes(shape: str) -> None:
    corners, kind = datasets.Sequence(datasets.Value("float32"), length=4), datasets.ClassLabel(names=["cat", "dog"])
    features: Any = {"bbox": datasets.Sequence(corners), "category": datasets.Sequence(kind)}
    cell: Any = {"bbox": [[0, 1, 2, 3]], "category": [1]}
    if shape == "list of structs":
        features, cell = datasets.List({"bbox": corners, "category": kind}), [{"bbox": [0, 1, 2, 3], "category": 1}]
    if shape == "sequence":
        features = datasets.Sequence({"bbox": corners, "category": kind})
    image = {"bytes": png(), "path": None}
    found = typed({"image": [image], "objects": [cell]}, {"image": datasets.Image(), "objects": features})
    assert find_columns("x", [found], PLAIN)[0].boxes == Boxes("objects", "bbox", "category", ("cat", "dog"))


def test_a_column_of_boxes_can_be_named_and_is_refused_without_its_parts() -> None:
    content = table({"image": [png()], "birds": [[{"box": [0.0, 1, 2, 3], "label": "owl"}]]})
    assert not find_columns("x", [content], PLAIN)[0].boxes.column
    assert find_columns("x", [content], DataSettings(boxes="birds"))[0].boxes == Boxes("birds", "box", "label")
    with pytest.raises(UserError, match=r"column 'image' \(data.boxes\) has no bbox and category but binary"):
        find_columns("x", [content], DataSettings(boxes="image"))


@pytest.mark.parametrize("use", ["image", "label", "mask", "boxes", "group", "numbers"])
def test_a_column_that_is_not_there_is_named_with_near_misses(use: str) -> None:
    settings = DataSettings.model_validate({use: ("kimd",) if use == "numbers" else "kimd"})
    with pytest.raises(UserError, match=rf"x has no column 'kimd' \(data.{use}\); did you mean kind\?"):
        find_columns("x", [table({"image": [png()], "kind": [1]})], settings)


def test_a_split_may_lack_labels_and_masks_but_not_images_groups_or_other_classes() -> None:
    train = table({"image": [png()], "label": [1], "mask": [png()], "group": ["a"], "age": [1.5]})
    bare = table({"image": [png()], "group": ["b"], "age": [2.5]}, "test")
    columns, _ = find_columns("x", [train, bare], DataSettings(numbers=("age",)))
    assert columns.roles == {"image": "image", "label": "label", "mask": "mask", "group": "group"}
    assert columns.used == ["image", "label", "mask", "group", "age"]
    for name in ("image", "group"):
        lacking = {key: [png()] if key == "image" else ["b"] for key in ("image", "group") if key != name}
        with pytest.raises(UserError, match=f"x: test has no column '{name}', which others have"):
            find_columns("x", [train, table(lacking, "test")], PLAIN)
    with pytest.raises(UserError, match="test has labels of string in column 'label', others of int64"):
        find_columns("x", [train, table({"image": [png()], "group": ["b"], "label": ["b"]}, "test")], PLAIN)
    nulls = table({"image": [png()], "group": ["b"], "label": pa.nulls(1)}, "test")
    assert find_columns("x", [nulls, train], PLAIN)[0].label.column == "label"


def test_two_class_labels_of_other_names_are_refused() -> None:
    both = [
        typed({"image": [None], "label": [0]}, {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
        for names in (["a", "b"], ["b", "a"])
    ]
    with pytest.raises(UserError, match="has other classes in column 'label'"):
        find_columns("x", both, PLAIN)
