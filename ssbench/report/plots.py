"""Tables and records -> figures in one style: score against cost, where rows stand, losses. No torch.

Text stays text in SVG, and black is `currentColor`, so that a page's own colours, light or dark, are the figure's.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from html import escape
from io import BytesIO, StringIO
from math import ceil, inf, log10
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ssbench.results.grid import Frame
from ssbench.results.metrics import Array
from ssbench.results.record import Record
from ssbench.results.scaling import Scaled
from ssbench.results.standing import judging, mean
from ssbench.results.table import Column, Row, Table

INK, QUIET, STRONG = "#010203", "#8a8f98", "#2f6fde"  # the first is replaced in SVG
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ssbench",
    "text.parse_math": False,
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.transparent": True,
    **{f"{part}.color": INK for part in ("text", "xtick", "ytick")},
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
}
WIDE = 7.2  # inches
CURVES = 6  # small panels in a row
THOUSANDS = ("", "k", "M", "G", "T", "P", "E")


@matplotlib.rc_context(STYLE)
def pareto(table: Table) -> Figure | None:
    """Score against FLOPs of pretraining, a panel a column; None without two rows that were trained and judged.

    The line joins the rows that no other beats at less cost, and these are named; controls are lines across.
    """
    shown = [at for at in judging(table) if len(_trained(table, at)) > 1]
    if not shown:
        return None
    figure, panels = _panels(len(shown), 2, 3.0)
    for at, panel in zip(shown, panels):
        _against_cost(panel, table, at)
    return figure


def _trained(table: Table, at: int) -> list[Row]:
    return [row for row in table.rows if row.gflops and row.images and row.cells[at].values]


def _against_cost(panel: Axes, table: Table, at: int) -> None:
    column, rows = table.columns[at], _trained(table, at)
    for row in rows:
        colour, cell = QUIET if row.control or row.labels else STRONG, row.cells[at]
        panel.errorbar(_tflops(row), _score(row, at), cell.sd or 0.0, fmt="o", color=colour, markersize=4, linewidth=1)
    line = front([row for row in rows if not (row.control or row.labels)], column, at)
    panel.plot([_tflops(row) for row in line], [_score(row, at) for row in line], color=STRONG, linewidth=1)
    for row in [*line, *(row for row in rows if row.control or row.labels)]:
        where = _tflops(row), _score(row, at)
        panel.annotate(row.name, where, (4, 4), textcoords="offset points", fontsize=8)
    for row in table.rows:
        if row.control and not row.gflops and row.cells[at].values:
            score = _score(row, at)
            panel.axhline(score, color=QUIET, linewidth=0.8, linestyle=":")
            panel.annotate(
                row.name, (0, score), (2, 2), ("axes fraction", "data"), "offset points", fontsize=8, color=QUIET
            )
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter("{x:g}")  # powers of ten would be formulas, and names are none
    panel.xaxis.set_minor_formatter("")
    panel.set_xlabel("TFLOPs of pretraining")
    panel.set_title(column.header)


def _score(row: Row, at: int) -> float:
    return row.cells[at].mean or 0.0


def _tflops(row: Row) -> float:
    return (row.gflops or 0.0) * (row.images or 0.0) / 1e3


def front(rows: Sequence[Row], column: Column, at: int) -> list[Row]:
    """Those that no row beats at less cost, the cheapest first."""
    sign = -1 if column.score and column.score.better == "lower" else 1
    found: list[Row] = []
    for row in sorted(rows, key=lambda row: (_tflops(row), -sign * _score(row, at))):
        if not found or sign * _score(row, at) > sign * _score(found[-1], at):
            found.append(row)
    return found


@matplotlib.rc_context(STYLE)
def ranks(frame: Frame) -> Figure:
    """The average rank of each row of a frame of standing, with what tests leave open; 1 is best and on the left."""
    rows = [row for row in frame.rows if row[-1].span]
    figure, panel = _named([row[0].text for row in rows])
    for place, row in enumerate(rows):
        rank, (low, high) = row[-1].mean or 0.0, row[-1].span or (0.0, 0.0)
        panel.plot((low, high), (place, place), color=QUIET, linewidth=1.5)
        panel.plot(rank, place, "o", color=STRONG, markersize=4)
    panel.set_xlabel("average rank over columns, and what the tests leave open")
    return figure


@matplotlib.rc_context(STYLE)
def apart(table: Table, at: int, letters: Mapping[str, str]) -> Figure:
    """The scores of one column, best on top, with a bar beside those that share a letter: not told apart."""
    rows = sorted((row for row in table.rows if row.name in letters), key=lambda row: -mean(row, at))
    figure, panel = _named([row.name for row in rows])
    for place, row in enumerate(rows):
        cell = row.cells[at]
        colour = QUIET if row.control else STRONG
        panel.errorbar(cell.mean or 0.0, place, xerr=cell.sd or 0, fmt="o", color=colour, markersize=4, linewidth=1)
    _bars(panel, [letters[row.name] for row in rows])
    panel.set_xlabel(table.columns[at].header)
    return figure


@matplotlib.rc_context(STYLE)
def nemenyi(frame: Frame) -> Figure:
    """The average rank of each row over data sets, best on top, with bars as `apart` has (Demšar 2006, figure 1)."""
    figure, panel = _named([row[0].text for row in frame.rows])
    for place, (_, rank, *_) in enumerate(frame.rows):
        panel.plot(rank.mean or 0.0, place, "o", color=STRONG, markersize=4)
    _bars(panel, [row[2].text for row in frame.rows])
    panel.set_xlabel("average rank over data sets")
    return figure


def _bars(panel: Axes, letters: Sequence[str]) -> None:
    """Beside rows with these letters a thin line for each one, thick where rows have it: it may pass others."""
    each = sorted({one for text in letters for one in text})
    for number, letter in enumerate(each):
        places = [place for place, text in enumerate(letters) if letter in text]
        beside, across = 1.02 + number * min(0.02, 0.25 / len(each)), panel.get_yaxis_transform()
        if len(places) > 1:
            panel.plot((beside, beside), (places[0], places[-1]), lw=0.4, color=QUIET, transform=across, clip_on=False)
        for start, end in _stretches(places) if len(places) > 1 else []:
            ends = (start - 0.3, end + 0.3)
            panel.plot((beside, beside), ends, lw=1.6, color=INK, transform=across, clip_on=False)


def _stretches(places: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of neighbours."""
    found: list[tuple[int, int]] = []
    for place in places:
        found = (
            [*found[:-1], (found[-1][0], place)] if found and found[-1][1] == place - 1 else [*found, (place, place)]
        )
    return found


Curve = Callable[[Record], tuple[list[float], list[float]]]  # what a run's line goes through, across and up


def losses(runs: Mapping[str, Sequence[Record]]) -> Figure | None:
    """The training loss of each row, all terms together, a line a seed; None where nothing was trained."""

    def loss(run: Record) -> tuple[list[float], list[float]]:
        terms = [sum(value for key, value in point.items() if key != "step") for point in run.loss]
        return [point["step"] for point in run.loss], terms

    return _multiples(runs, loss, alike=False)


def learning(runs: Mapping[str, Sequence[Record]]) -> Figure | None:
    """How many of select's classes neighbours tell along each row's training, a line a seed; None where none did."""

    def judged(run: Record) -> tuple[list[float], list[float]]:
        known = [point for point in run.health if "select_knn" in point]
        return [point["step"] for point in known], [point["select_knn"] for point in known]

    return _multiples(runs, judged, alike=True)


@matplotlib.rc_context(STYLE)
def _multiples(runs: Mapping[str, Sequence[Record]], curve: Curve, alike: bool) -> Figure | None:
    """A small panel a row, those with two points or more; `alike`: all that see no labels on one scale.

    All lie in one matplotlib panel, where each is a square of 1: panels of their own take far longer to draw.
    """
    known = {name: [np.array(line) for line in map(curve, found) if len(line[0]) > 1] for name, found in runs.items()}
    shown = {name: lines for name, lines in known.items() if lines}
    if not shown:
        return None
    across = min(CURVES, len(shown))
    down = ceil(len(shown) / across)
    figure = Figure((WIDE, 1.1 * down))
    whole = figure.add_axes((0, 0, 1, 1), xlim=(0, across), ylim=(down, 0))
    whole.set_axis_off()
    taught = {name for name, found in runs.items() if any(run.supervised for run in found)}
    common = _reach([line for name in shown.keys() - taught for line in shown[name]], 1.0)
    for place, (name, lines) in enumerate(shown.items()):
        _small(whole, (place % across, place // across), name, lines, common if alike and name not in taught else None)
    return figure


def _reach(lines: Sequence[Array], beyond: float = 0.0) -> tuple[float, float]:
    """The lowest and the highest of lines (2, N), and so much beyond; of what is not finite 0 and 1."""
    heights = [height for _, up in lines for height in up if np.isfinite(height)] or [0.0, 1.0]
    low, high = min(heights) - beyond, max(heights) + beyond
    return low, high if high > low else low + 1


def _small(
    whole: Axes, at: tuple[int, int], name: str, lines: Sequence[Array], reach: tuple[float, float] | None
) -> None:
    """One of small multiples in its square: lines (2, N), and numbers at the ends of its axes."""
    left, right, top, bottom = at[0] + 0.27, at[0] + 0.95, at[1] + 0.25, at[1] + 0.82
    (low, high), last = reach or _reach(lines), max(steps[-1] for steps, _ in lines)
    whole.plot((left, left, right), (top, bottom, bottom), color=QUIET, linewidth=0.6)
    for steps, up in lines:
        heights = bottom + (up - low) / (high - low) * (top - bottom)
        whole.plot(left + steps / last * (right - left), heights, color=STRONG, linewidth=0.8)
    whole.text(at[0] + 0.03, top - 0.07, name, fontsize=7)
    for height, value in ((top, high), (bottom, low)):
        whole.text(left - 0.03, height, f"{value:.3g}", fontsize=6, ha="right", va="center")
    for place, step, side in ((left, 0, "left"), (right, last, "right")):
        whole.text(place, bottom + 0.03, f"{step:.0f}", fontsize=6, ha=side, va="top")


@matplotlib.rc_context(STYLE)
def scaling(frame: Scaled) -> Figure:
    """Scores by budget and, of a budget in images, by what these cost, a line a row, named at its end."""
    names = [row[0].text for row in frame.rows]
    count, beside = 2 if frame.unit == "samples" else 1, min(0.07 * max(map(len, names)) + 0.2, WIDE / 2)
    figure, panels = _panels(count, 2, max(3.6, 0.17 * len(names) + 0.8), beside)
    curves = [[(value.mean or 0.0, value.sd or 0.0) for value in row[1 : 1 + len(frame.amounts)]] for row in frame.rows]
    reach = np.ptp([mean for curve in curves for mean, _ in curve])
    ends = _spread([curve[-1][0] for curve in curves], float(reach) / 18)
    for number, (name, curve, cost, end) in enumerate(zip(names, curves, frame.gflops, ends)):
        means, errors = zip(*curve)
        style: Any = {"color": f"C{number % 10}", "markersize": 3, "linewidth": 1, "elinewidth": 0.7}
        style["fmt"] = "o-" if number < 10 else "o--"
        for panel, unit in zip(panels, (1.0, cost / 1e3)):
            panel.errorbar([amount * unit for amount in frame.amounts], means, errors, **style)
        where: Any = {"xy": (1.01, end), "xycoords": ("axes fraction", "data"), "va": "center"}
        panels[-1].annotate(name, fontsize=8, color=style["color"], **where)
    for panel in panels:
        panel.set_xscale("log")
        panel.xaxis.set_minor_locator(NullLocator())
    panels[0].set_xticks(frame.amounts, [_briefly(one) for one in frame.amounts], fontsize=7)
    panels[0].set_xlabel("images seen" if frame.unit == "samples" else frame.unit)
    if count > 1:
        panels[1].xaxis.set_major_formatter("{x:g}")
        panels[1].set_xlabel("TFLOPs of pretraining")
    panels[0].set_title(frame.title)
    return figure


def _briefly(amount: float) -> str:
    """`64k`."""
    power = min(int(log10(amount)) // 3, len(THOUSANDS) - 1) if amount >= 1 else 0
    return f"{amount / 1000**power:.3g}{THOUSANDS[power]}"


def _spread(values: Sequence[float], least: float) -> list[float]:
    """The values, moved apart where two are nearer than `least`, in their order."""
    made, last = [0.0] * len(values), -inf
    for place in sorted(range(len(values)), key=lambda place: values[place]):
        made[place] = last = max(values[place], last + least)
    return made


def _named(names: Sequence[str]) -> tuple[Figure, Axes]:
    """One panel with a line for each name, the first on top."""
    height, left = 0.22 * len(names) + 0.8, min(0.07 * max(map(len, names)) + 0.2, WIDE / 2)
    place = {"left": left / WIDE, "right": 0.78, "top": 1 - 0.2 / height, "bottom": 0.5 / height}
    figure = Figure((WIDE, height))
    panel = figure.subplots(gridspec_kw=place)
    panel.set_yticks(range(len(names)), names)
    panel.invert_yaxis()
    return figure, panel


def _panels(count: int, across: int, height: float, beside: float = 0.3) -> tuple[Figure, list[Axes]]:
    """So many panels, so many in a row, each so high in inches with its title and axis; `beside`: room on the right."""
    across = min(across, count)
    down = ceil(count / across)
    place = {
        "left": 0.5 / WIDE,
        "right": 1 - beside / WIDE,
        "top": 1 - 0.3 / height / down,
        "bottom": 0.45 / height / down,
    }
    apart = {"wspace": 0.45 if across > 2 else 0.2, "hspace": 0.8}
    figure = Figure((WIDE, height * down))
    panels = [*figure.subplots(down, across, squeeze=False, gridspec_kw={**place, **apart}).flat]
    for panel in panels[count:]:
        panel.remove()
    return figure, panels[:count]


@matplotlib.rc_context(STYLE)
def svg(figure: Figure, title: str, name: str) -> str:
    """An `svg` element with a title for those who do not see it; `name` makes its ids those of no other figure."""
    out = StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    element = _lean(text[text.index("<svg") :].replace(INK, "currentColor"))
    own = sha256(name.encode()).hexdigest()[:10]
    element = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{own}-", element)
    return element.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


def _lean(element: str) -> str:
    """Half as long: without comments, names of groups, turns by nothing, line breaks, thousandths of a point, fonts."""
    element = re.sub(r"<[^>]+>", _lean_tag, re.sub(r"<!--.*?-->", "", element, flags=re.DOTALL))
    return re.sub(r">\s+<", "><", element).replace("<svg", '<svg font-family="sans-serif"', 1)


def _lean_tag(found: re.Match[str]) -> str:
    tag = re.sub(r'^<g id="[^"]*">$', "<g>", found[0])
    tag = re.sub(r' transform="rotate\(-0 [^"]*"| font-family: [^;"]*;?', "", tag)
    return re.sub(r"\s+", " ", re.sub(r"\d+\.\d{3,}", _rounded, tag))


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


@matplotlib.rc_context(STYLE)
def png(figure: Figure) -> bytes:
    """On white, 200 dots an inch."""
    out = BytesIO()
    figure.savefig(out, format="png", dpi=200, transparent=False, metadata={"Software": None})
    return out.getvalue()
