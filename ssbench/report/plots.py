"""Tables and records -> figures in one style: score against cost, where rows stand, losses. No torch.

Text stays text in SVG, and black is `currentColor`, so that a page's own colours, light or dark, are the figure's.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO, StringIO
from math import ceil
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssbench.results.grid import Frame
from ssbench.results.record import Record
from ssbench.results.standing import judging, mean
from ssbench.results.table import Column, Row, Table

INK, QUIET, STRONG = "#010203", "#8a8f98", "#2f6fde"  # the first is replaced in SVG
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ssbench",
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
CURVES = 6  # in a row


def pareto(table: Table) -> Figure | None:
    """Score against FLOPs of pretraining, a panel a column; None without two rows that were trained and judged.

    The line joins the rows that no other beats at less cost, and these are named; controls are lines across.
    """
    shown = [at for at in judging(table) if len(_trained(table, at)) > 1]
    if not shown:
        return None
    figure, panels = _panels(len(shown), 2, 2.9)
    for at, panel in zip(shown, panels):
        _against_cost(panel, table, at)
    return figure


def _trained(table: Table, at: int) -> list[Row]:
    return [row for row in table.rows if row.gflops and row.images and row.cells[at].values]


def _against_cost(panel: Axes, table: Table, at: int) -> None:
    column, rows = table.columns[at], _trained(table, at)
    for row in rows:
        colour = QUIET if row.control or row.labels else STRONG
        cell = row.cells[at]
        panel.errorbar(_tflops(row), cell.mean, yerr=cell.sd or 0, fmt="o", color=colour, markersize=4, linewidth=1)
    line = front([row for row in rows if not (row.control or row.labels)], column, at)
    panel.plot([_tflops(row) for row in line], [row.cells[at].mean for row in line], color=STRONG, linewidth=1)
    named = [*line, *(row for row in rows if row.control or row.labels)]
    for row in named:
        score = row.cells[at].mean or 0.0
        panel.annotate(row.name, (_tflops(row), score), (4, 4), textcoords="offset points", fontsize=8)
    for row in table.rows:
        score = row.cells[at].mean
        if row.control and not row.gflops and score is not None:
            panel.axhline(score, color=QUIET, linewidth=0.8, linestyle=":")
            panel.annotate(
                row.name, (1, score), (0, 2), xycoords=("axes fraction", "data"), textcoords="offset points", ha="right"
            )
    panel.set_xscale("log")
    panel.set_xlabel("TFLOPs of pretraining")
    panel.set_title(column.header)


def _tflops(row: Row) -> float:
    return (row.gflops or 0.0) * (row.images or 0.0) / 1e3


def front(rows: Sequence[Row], column: Column, at: int) -> list[Row]:
    """Those that no row beats at less cost, the cheapest first."""
    sign = -1 if column.score and column.score.better == "lower" else 1
    found: list[Row] = []
    for row in sorted(rows, key=lambda row: (_tflops(row), -sign * (row.cells[at].mean or 0.0))):
        if not found or sign * (row.cells[at].mean or 0.0) > sign * (found[-1].cells[at].mean or 0.0):
            found.append(row)
    return found


def ranks(frame: Frame) -> Figure:
    """The average rank of each row of a frame of standing, with its interval; 1 is best and on the left."""
    rows = [row for row in frame.rows if row[-1].span]
    figure = _figure(0.22 * len(rows) + 0.8)
    panel = figure.subplots()
    for place, row in enumerate(rows):
        rank, (low, high) = row[-1].mean or 0.0, row[-1].span or (0.0, 0.0)
        panel.plot((low, high), (place, place), color=QUIET, linewidth=1.5)
        panel.plot(rank, place, "o", color=STRONG, markersize=4)
    panel.set_yticks(range(len(rows)), [row[0].text for row in rows])
    panel.invert_yaxis()
    panel.set_xlabel("average rank over columns, 95 % interval")
    return figure


def apart(table: Table, at: int, letters: Mapping[str, str]) -> Figure:
    """The scores of one column, best on top, with a bar beside those that share a letter: not told apart."""
    rows = sorted((row for row in table.rows if row.name in letters), key=lambda row: -mean(row, at))
    figure = _figure(0.22 * len(rows) + 0.8)
    panel = figure.subplots()
    for place, row in enumerate(rows):
        cell = row.cells[at]
        colour = QUIET if row.control else STRONG
        panel.errorbar(cell.mean, place, xerr=cell.sd or 0, fmt="o", color=colour, markersize=4, linewidth=1)
    for number, letter in enumerate(sorted({one for text in letters.values() for one in text})):
        places = [place for place, row in enumerate(rows) if letter in letters[row.name]]
        if len(places) > 1:
            beside = 1.02 + 0.02 * number
            panel.plot(
                (beside, beside),
                (min(places), max(places)),
                transform=panel.get_yaxis_transform(),
                color=INK,
                clip_on=False,
            )
    panel.set_yticks(range(len(rows)), [row.name for row in rows])
    panel.invert_yaxis()
    panel.set_xlabel(table.columns[at].header)
    return figure


def losses(runs: Mapping[str, Sequence[Record]]) -> Figure | None:
    """The training loss of each row, all terms together, a line a seed; None where nothing was trained."""
    known = {name: [run for run in found if len(run.loss) > 1] for name, found in runs.items()}
    shown = {name: found for name, found in known.items() if found}
    if not shown:
        return None
    figure, panels = _panels(len(shown), CURVES, 1.0)
    for (name, found), panel in zip(shown.items(), panels):
        for run in found:
            steps = [point["step"] for point in run.loss]
            terms = [sum(value for key, value in point.items() if key != "step") for point in run.loss]
            panel.plot(steps, terms, color=STRONG, linewidth=0.8)
        panel.set_title(name, fontsize=7)
        panel.tick_params(labelsize=6, length=2)
    return figure


def _figure(height: float) -> Figure:
    with matplotlib.rc_context(STYLE):
        return Figure((WIDE, height), layout="constrained")


def _panels(count: int, across: int, height: float) -> tuple[Figure, list[Axes]]:
    """So many panels, so many in a row, each so high."""
    across = min(across, count)
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDE, height * ceil(count / across) + 0.3), layout="constrained")
        panels = [*figure.subplots(ceil(count / across), across, squeeze=False).flat]
    for panel in panels[count:]:
        panel.remove()
    return figure, panels[:count]


def svg(figure: Figure, title: str, name: str) -> str:
    """An `svg` element with a title for those who do not see it; `name` makes its ids those of no other figure."""
    out = StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    element = text[text.index("<svg") :].replace(INK, "currentColor")
    own = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", element)
    return own.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


def png(figure: Figure) -> bytes:
    """On white, 200 dots an inch."""
    out = BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(out, format="png", dpi=200, transparent=False, metadata={"Software": None})
    return out.getvalue()
