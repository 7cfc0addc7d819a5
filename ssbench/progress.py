"""What is shown while it runs, on standard error: one live line on a terminal, plain lines elsewhere."""

import time
from types import TracebackType

from rich.console import Console
from rich.status import Status

from ssbench.results.record import Record

PLAIN_EVERY = 10.0  # seconds between plain lines of one cell


class Progress:
    """Which cell of how many, and what it is doing."""

    def __init__(self, total: int) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._status: Status | None = self._console.status("starting") if self._console.is_terminal else None
        self._total, self._number, self._cell, self._said = total, 0, "preparing", time.monotonic()

    def __enter__(self) -> "Progress":
        if self._status:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the live line."""
        if self._status:
            self._status.stop()

    def cell(self, name: str) -> None:
        """The next cell begins."""
        self._number += 1
        self._cell = f"[{self._number}/{self._total}] {name}"
        self._said = time.monotonic()
        self.tell("")

    def tell(self, text: str) -> None:
        """What the cell is doing now."""
        if self._status:
            self._status.update(f"{self._cell}  {text}")
        elif text and time.monotonic() - self._said > PLAIN_EVERY:
            self._said = time.monotonic()
            self._print(f"{self._cell}  {text}")

    def say(self, text: str) -> None:
        """A line that stays."""
        self._print(text)

    def ended(self, record: Record) -> None:
        """The line that stays."""
        if record.status == "done":
            score = record.scores[record.headline]
            took = record.costs.task_seconds
            self._print(f"{self._cell}  {record.headline} {score.value:.2f} {score.unit}  (task {took:.1f} s)")
        else:
            self._print(f"{self._cell}  {record.status}: {record.reason}")

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)
