"""The one exception that users see, and what its messages say of other errors and of near misses."""

import logging
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache


class UserError(Exception):
    """The command or the data is wrong. Its text is one line: what is wrong, with which value, and what to do."""


class NotApplicable(Exception):
    """A cell that makes no sense, such as fine-tuning raw pixels: its row shows a dash, its text says why."""


class Broken(Exception):
    """A method or a task does not keep its contract. Its text is one line: whose, what it promised, what came."""


def one_line(error: Exception) -> str:
    """The first line of what an error says, else what kind it is."""
    return (str(error) or type(error).__name__).splitlines()[0]


@cache
def warn(text: str) -> None:
    """Say once what went wrong and stopped nothing: a line on standard error, unless `logging` is told otherwise."""
    logging.getLogger("ssbench").warning("ssbench: %s", text)


def near(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean a or b?` for the known names closest to a wrong one, else all of them when they are few."""
    names = sorted(known)
    close = get_close_matches(wrong, names, n=3, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; known: {', '.join(names)}" if 0 < len(names) <= 20 else ""
