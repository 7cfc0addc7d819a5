"""What a page of data says and draws, against data whose facts are known."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ssbench.contracts import tiny
from ssbench.data import Dataset, Split, identify, load
from ssbench.data.leaks import Copy, all_copies
from ssbench.data.needs import refuse_targets
from ssbench.data.pages import bars, counts, pictures, written
from ssbench.data.pages.page import page
from ssbench.data.pages.written import Page, Picture, Section
from ssbench.data.understood import sentence
from ssbench.errors import UserError
from ssbench.spec import DataSettings

PLAIN = DataSettings()
GREY = torch.full((1, 3, 16, 16), 100, dtype=torch.uint8)
TURN = pictures.SIDE // 16  # px of the picture for each of 16


def section(found: Page, title: str) -> Section:
    return next(one for one in found.sections if one.title.startswith(title))


def seen(content: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(content)).convert("RGB"))


def one_image(**targets: torch.Tensor) -> Dataset:
    part = Split(GREY, ("only",), targets)
    return replace(
        tiny(), fit=part, select=part, test=part, box_classes=("cell", "a longer name than the box has room")
    )


@pytest.fixture(scope="module")
def shown(photos: Path) -> Page:
    return page(f"folder:{photos}", PLAIN)


def test_the_page_begins_with_the_sentence_that_run_prints(shown: Page, photos: Path) -> None:
    source = f"folder:{photos}"
    assert shown.said[0] == sentence(load(source, PLAIN, identify(source, PLAIN)))


def test_parts_and_classes_are_counted(shown: Page) -> None:
    assert section(shown, "Parts").rows == [("fit", "84"), ("select", "12"), ("test", "24")]
    labels = section(shown, "Labels (2 classes)")
    assert labels.header == ("images of", "fit", "select", "test")
    assert labels.rows == [("bright", "42", "6", "12"), ("dark", "42", "6", "12")]
    assert labels.lines == ["in fit each class has 42 images"]


def test_a_task_that_is_not_allowed_has_the_reason_that_run_gives(shown: Page, photos: Path) -> None:
    source = f"folder:{photos}"
    tasks = {name: (allowed, why) for name, allowed, why in section(shown, "Tasks").rows}
    assert tasks["knn"] == ("yes", "")
    data = load(source, PLAIN, identify(source, PLAIN))
    with pytest.raises(UserError) as refused:
        refuse_targets("segmentation", frozenset({"mask"}), source, data, PLAIN)
    assert tasks["segmentation"] == ("no", str(refused.value)) and "its targets: label" in str(refused.value)


def test_data_that_run_refuses_as_suspicious_is_shown_with_the_reason(photos: Path, tmp_path: Path) -> None:
    for part, name, count in (("train", "dark", 20), ("test", "dark", 5), ("test", "bright", 5)):
        (tmp_path / "new" / part / name).mkdir(parents=True)
        for file in sorted((photos / name).iterdir())[:count]:
            (tmp_path / "new" / part / name / f"{part}-{file.name}").write_bytes(file.read_bytes())
    source = f"folder:{tmp_path / 'new'}"
    with pytest.raises(UserError, match="unseen-classes") as refused:
        load(source, PLAIN, identify(source, PLAIN))
    found = page(source, PLAIN)
    assert found.said[1] == f"ssbench run refuses it: {refused.value}"
    assert "5 of 10 test images" in found.said[2] and found.said[2].endswith("data.allow=unseen-classes,copies")
    assert section(found, "Labels").rows == [("bright", "0", "0", "5"), ("dark", "18", "2", "5")]
    allowed = page(source, DataSettings(allow=("unseen-classes", "copies")))
    assert len(allowed.said) == 1, "what the user means is no reason"


def test_data_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        page(f"folder:{tmp_path / 'nowhere'}", PLAIN)


def test_copies_are_told_by_part_and_equal_ones_from_near_ones() -> None:
    images = torch.randint(0, 256, (6, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = torch.nn.functional.interpolate(images.float(), (32, 32), mode="bicubic").clamp(0, 255).to(torch.uint8)
    near = (images[1].int() * 9 // 10 + 5).to(torch.uint8)
    parts = {
        "fit": Split(torch.stack([images[0], images[1], images[2], images[0]]), ("a", "b", "c", "d")),
        "select": Split(images[3:5], ("e", "f")),
        "test": Split(torch.stack([near, images[5], images[4]]), ("g", "h", "i")),
    }
    assert all_copies(parts) == [
        Copy("fit", 3, "fit", 0, True),
        Copy("test", 0, "fit", 1, False),
        Copy("test", 2, "select", 1, True),
    ]


def test_a_mask_is_tinted_and_outlined_and_void_is_grey() -> None:
    mask = torch.zeros(1, 16, 16, dtype=torch.uint8)
    mask[:, 4:12, 4:12], mask[:, 13:] = 2, 255
    data = one_image(mask=mask)
    found = np.asarray(pictures.drawn(data, data.fit, 0))
    assert found.shape == (pictures.SIDE, pictures.SIDE, 3)
    ink = np.array(pictures.colour(2))
    inside = 100 * (1 - pictures.TINT) + ink * pictures.TINT
    assert np.abs(found[8 * TURN, 8 * TURN] - inside).max() <= 1
    assert (found[4 * TURN, 8 * TURN] == ink).all(), "the outline"
    assert (found[2 * TURN, 2 * TURN] == 100).all(), "class 0 is not tinted"
    assert np.abs(found[15 * TURN, 8 * TURN] - (100 * (1 - pictures.TINT) + 128 * pictures.TINT)).max() <= 1
    assert (np.asarray(pictures.drawn(data, data.fit, 0, plain=True)) == 100).all()


def test_a_box_is_drawn_in_the_colour_of_its_class_and_named_where_there_is_room() -> None:
    boxes = torch.tensor([[[1.0, 1, 7, 7, 0], [8, 8, 14, 14, 1], [-1, -1, -1, -1, -1]]])
    data = one_image(boxes=boxes)
    found = np.asarray(pictures.drawn(data, data.fit, 0))
    inks = [np.array(pictures.colour(number)) for number in (0, 1)]
    assert (found[4 * TURN, 1 * TURN] == inks[0]).all() and (found[11 * TURN, 8 * TURN] == inks[1]).all()
    assert (found[4 * TURN, 4 * TURN] == 100).all(), "a box is not filled"
    filled = [
        (found[top + 3 : top + 10, left + 3 : left + 9] != 100).all(-1).mean() for top, left in ((12, 12), (96, 96))
    ]
    assert filled == [1, 0], "the second name has no room"


def test_images_of_four_channels_are_shown_by_three_and_each_channel_alone() -> None:
    images = torch.stack([torch.full((16, 16), level, dtype=torch.uint8) for level in (10, 20, 30, 200)])[None]
    assert pictures.visible(images[0])[0, 0].tolist() == [10, 20, 30]
    assert pictures.visible(images[0, :2])[0, 0].tolist() == [10, 10, 10]
    part = Split(images, ("only",))
    found = seen(pictures.channels(replace(tiny(), fit=part)))
    across = [found[50, pictures.GAP + 50 + at * (pictures.SIDE + pictures.GAP)].tolist() for at in range(4)]
    assert across == [[level] * 3 for level in (10, 20, 30, 200)]


def test_samples_are_spread_over_the_classes_and_the_same_each_time() -> None:
    data = tiny()
    index = pictures.spread(pictures.members(data), len(data.fit), pictures.SHOWN)
    labels = data.fit.targets["label"][index]
    assert labels.bincount(minlength=8).tolist() == [3] * 8 and (labels.diff() >= 0).all()
    assert len({*index}) == 24 and pictures.samples(data) == pictures.samples(data)


def test_few_samples_are_all_shown_and_of_many_classes_some() -> None:
    assert pictures.spread([[0], [1, 2]], 4, 24) == [0, 1, 2, 3]
    assert pictures.spread([[at] for at in range(100)], 100, 4) == [0, 25, 50, 75]


def test_a_histogram_keeps_few_values_and_bins_many_by_round_widths() -> None:
    assert bars.histogram("px", {64: 3, 32: 1})[1:3] == (("32", "64"), ((1,), (3,)))
    found = bars.histogram("width / height", {round(0.5 + at / 10, 1): 1 for at in range(20)})  # 0.5, 0.6, ... 2.4
    assert found.names[:3] == ("from 0.4", "from 0.6", "from 0.8") and found.names[-1] == "from 2.4"
    assert found.values == ((1,), *[(2,)] * 9, (1,))


def test_long_tables_are_cut_on_a_terminal_and_whole_in_markdown() -> None:
    rows = [(f"class{at}", "1") for at in range(23)]
    found = Page("many", ("said",), (Section("Labels", ["a line"], ("images of", "fit"), rows),))
    text = written.text(found)
    assert "class19" in text and "class20" not in text and "and 3 more" in text and "  a line" in text
    assert "class22" in written.markdown(found) and "more" not in written.markdown(found)


def test_names_are_neither_markdown_nor_html() -> None:
    table = Section("Labels", [], ("images of", "fit"), [("a|b<i>\nc", "1")])
    found = Page("<b>", ("x",), (table._replace(pictures=[Picture("one.png", "what", lambda: b"PNG")]),))
    assert r"a\|b&lt;i> c" in written.markdown(found) and "![Labels](one.png)" in written.markdown(found)
    content = written.html(found)
    assert "<h1>&lt;b&gt;</h1>" in content and "a|b&lt;i&gt;" in content and "data:image/png;base64,UE5H" in content


def test_every_picture_of_a_page_can_be_drawn(shown: Page) -> None:
    assert [picture.name for picture in shown.pictures] == ["samples.png", "labels.png"]
    assert all(seen(picture.draw()).size for picture in shown.pictures)


def test_masks_of_a_part_that_has_none_are_said_and_shown_as_nothing() -> None:
    data = tiny()
    part = replace(data.test, targets={"label": data.test.targets["label"]})
    with pytest.raises(UserError, match="masks of test have no pixel of a class"):
        refuse_targets("segmentation", frozenset({"mask"}), "here", replace(data, test=part), PLAIN)
    assert sum(counts.mask_shares(data.fit, data)) == pytest.approx(1)
    assert counts.mask_shares(part, data) == [0] * data.mask_classes
