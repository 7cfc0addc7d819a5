"""Tables of how alike rows' features are, from kept features that are known."""

from pathlib import Path

import numpy as np

from ssbench.results.alike import alike
from ssbench.results.groups import groups
from ssbench.results.record import Score
from ssbench.results.store import Store

from .records import done, spec


def keep(store: Store, method: str, seed: int, features: np.ndarray | None, task: str = "diagnostics") -> None:
    score = Score(value=1, low=0, high=2, unit="", better="higher", kind="mean", samples=9)
    made = done(spec(method, seed, task), "rankme", score)
    store.write(made, {"kept": {"features": features}} if features is not None else {"rankme": {"value": np.ones(9)}})


def test_rows_are_alike_as_their_kept_features_of_the_same_seed_are(tmp_path: Path) -> None:
    store, draw = Store(tmp_path), np.random.default_rng(0)
    for seed in (0, 1):
        x = draw.standard_normal((200, 8))
        turned = 2 * x @ np.linalg.qr(draw.standard_normal((8, 8)))[0]
        for method, features in (("one", x), ("turned", turned), ("other", draw.standard_normal((200, 8)))):
            keep(store, method, seed, features.astype(np.float16))
        keep(store, "one", seed, None, "knn")
    keep(store, "bare", 0, None)
    (frame,) = alike(store, groups(store.all()), {})
    assert frame.slug.endswith("-cka") and frame.header == ("method", "one", "other", "turned")
    cells = {(row[0].text, name): cell for row in frame.rows for name, cell in zip(frame.header[1:], row[1:])}
    assert cells["one", "turned"].text == cells["turned", "one"].text == "1.00"
    for pair in (("one", "other"), ("one", "one")):
        mean = cells[pair].mean
        assert mean is not None and abs(mean) < 0.05, (
            "other features, and those of another seed, have nothing in common"
        )
    assert alike(store, groups(reversed(store.all())), {}) == [frame]


def test_without_two_rows_there_is_no_table(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keep(store, "one", 0, np.random.default_rng(0).standard_normal((50, 4)))
    assert alike(store, groups(store.all()), {}) == []
