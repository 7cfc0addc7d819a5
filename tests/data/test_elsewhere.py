"""Another data set's test is read in the terms of what is fitted."""

from dataclasses import replace

import pytest
import torch

from ssbench.data import Dataset
from ssbench.data.elsewhere import judged_on
from ssbench.errors import UserError

LABEL = frozenset({"label"})


def test_classes_are_matched_by_name(tiny: Dataset) -> None:
    back = tiny.classes[::-1]
    other = replace(
        tiny,
        classes=back,
        test=replace(tiny.test, targets={"label": len(back) - 1 - tiny.test.targets["label"]}),
    )
    found = judged_on(tiny, other, "there", LABEL)
    assert torch.equal(found.test.targets["label"], tiny.test.targets["label"])
    assert found.fit is tiny.fit and found.classes == tiny.classes


def test_other_data_may_lack_classes(tiny: Dataset) -> None:
    few = replace(tiny, classes=tiny.classes[2:3], test=replace(tiny.test, targets={"label": torch.zeros(40).long()}))
    assert judged_on(tiny, few, "there", LABEL).test.targets["label"].unique().tolist() == [2]


def test_a_class_that_nothing_is_fitted_to_is_refused(tiny: Dataset) -> None:
    other = replace(tiny, classes=("disk", *tiny.classes[1:]))
    with pytest.raises(UserError, match="nothing is fitted to its class 'disk'; did you mean disc"):
        judged_on(tiny, other, "there", LABEL)


def test_what_lacks_a_target_or_has_other_numbers_is_refused(tiny: Dataset) -> None:
    with pytest.raises(UserError, match="--test-on there: it has no depths"):
        judged_on(tiny, tiny, "there", frozenset({"depths"}))
    with pytest.raises(UserError, match="its factors are of width, not of x, y"):
        judged_on(tiny, replace(tiny, factors=("width",)), "there", frozenset({"factors"}))
    with pytest.raises(UserError, match="has 10 classes of pixels, not 9"):
        judged_on(tiny, replace(tiny, mask_classes=10), "there", frozenset({"mask"}))
