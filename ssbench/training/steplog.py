"""The step log: what is read along a training, a line of JSON each, while it goes on. It ends in the record too."""

import json
from pathlib import Path

from ssbench.spec import Pretraining
from ssbench.training.loop import Note


def file_of(cache: Path, p: Pretraining) -> Path:
    """Where the log of a pretraining lies."""
    named = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in p.method)[:100]
    return cache / "logs" / f"{named}-seed{p.seed}-{p.digest()}.jsonl"


def begin(file: Path, p: Pretraining) -> Note:
    """An empty log, and what writes into it at once: lines as `ssbench export-results` has them in a `.jsonl`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("")

    def note(of: str, point: dict[str, float]) -> None:
        with file.open("a") as lines:
            lines.write(json.dumps({**p.named(), "of": of, **point}) + "\n")

    return note
