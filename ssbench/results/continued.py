"""Did it help to go on from given weights? Each method beside the encoder that it started from, in words. No torch."""

from collections.abc import Iterable, Mapping

from ssbench.results.groups import Cells, Head, Line
from ssbench.results.stats import UNTESTED, Side, difference

EXPLAINED = "continued: the mean difference to the encoder as given, with its 95 % interval over seeds and test samples"


def verdicts(
    judged: Mapping[Head, Mapping[Line, Side]],
    cells: Cells,
    names: Mapping[Head, str],
    called: Mapping[Line, str],
    controls: Iterable[str],
) -> list[str]:
    """A note for each row that started from given weights, and what they mean; none where there is no such row."""
    started = {
        line: found[0].spec.pretraining.init
        for (line, _), found in cells.items()
        if found[0].spec.pretraining.init and found[0].spec.pretraining.budget is not None
    }
    notes = []
    for line in sorted(started, key=lambda one: (one.method in {*controls}, called[one])):
        said = [
            one for head, name in names.items() if (one := _said(judged[head], cells, line, head, started[line], name))
        ]
        notes += [f"{called[line]}, continued: {'; '.join(said)}"] if said else []
    return [*notes, EXPLAINED] if notes else []


def _said(found: Mapping[Line, Side], cells: Cells, line: Line, head: Head, init: str, name: str) -> str:
    """`worse in knn, by 12.3 (9.6 to 15.0)`; empty where one of the two was not run."""
    own = (line.encoder, line.size, line.patch)  # the same network, as it was fitted here
    given = next(
        (one for one, at in cells if at == head and one.given and (one.encoder, one.size, one.patch) == own), None
    )
    if given is None or (line, head) not in cells or cells[given, head][0].spec.pretraining.init != init:
        return ""
    if line not in found or given not in found:
        return ""
    made = difference(found[line], found[given])
    if made is None:
        return f"{name} can't be told: {UNTESTED} in one of the two"
    low, high = made.interval()
    done = next(record for record in cells[line, head] if record.status == "done")
    unit, to = (" points", ".1f") if done.scores[done.headline].unit == "%" else ("", ".3f")
    if low > 0:
        return f"better in {name}, by {made.mean:{to}}{unit} ({low:{to}} to {high:{to}})"
    if high < 0:
        return f"WORSE in {name}, by {-made.mean:{to}}{unit} ({-high:{to}} to {-low:{to}})"
    return f"not told apart in {name}, {made.mean:+{to}}{unit} ({low:+{to}} to {high:+{to}})"
