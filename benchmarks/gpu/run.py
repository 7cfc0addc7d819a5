"""The three parts in order, each within its time; then one table, and the records packed. `run.sh` starts it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LIMIT, RESERVE = 540, 20  # seconds in all, and those at the end for table and records
CORRECTNESS, COMPILING, SPEED = 120, 30, 120  # seconds at most; the second are those that compiling may go on alone
# lightly, docs/source/getting_started/benchmarks.rst: ResNet-18, batch 512, 200 epochs, k = 200, best epoch on test
PUBLISHED = {
    "simclr": 84.8,
    "byol": 86.8,
    "barlow-twins": 81.9,
    "swav": 84.2,
    "moco-v2": 84.7,
    "simsiam": 76.4,
    "dino": 81.3,
}
APART = (
    "Published k-NN: 50,000 PNG images, 200 epochs of SGD, best epoch on the test split of 10,000. Here: about 9,050 "
    "JPEG images (a fifth), 50 epochs of the recipe cifar, bf16, last epoch, 2,000 test images, one seed."
)


def start(script: str, log: Path, *words: object) -> "subprocess.Popen[bytes]":
    """A part as a process with a group of its own, so that all of it can be ended."""
    with log.open("a") as to:
        command = [sys.executable, "-u", str(HERE / script), *map(str, words)]
        return subprocess.Popen(command, stdout=to, stderr=subprocess.STDOUT, start_new_session=True)


def end(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def finish(process: "subprocess.Popen[bytes]", until: float, out: Path, work: Path) -> str:
    """Wait for a part, but no longer; the records so far are packed every half minute."""
    packed = time.time()
    while process.poll() is None and time.time() < until:
        time.sleep(0.2)
        if time.time() - packed > 30:
            pack(out, work)
            packed = time.time()
    said = f"exit {process.returncode}" if process.returncode is not None else "cut off"
    end(process)
    return said


def pack(out: Path, work: Path) -> None:
    """All records so far in one file."""
    folder = work / "results" / "records"
    if folder.exists():
        with tarfile.open(out / "records.part", "w:gz") as packed:
            for file in sorted(folder.glob("[!.]*")):  # what is being written has a dot
                packed.add(file, f"records/{file.name}")
        os.replace(out / "records.part", out / "records.tar.gz")


def read(file: Path) -> list[dict[str, Any]]:
    """The rows of a part; none where it left none."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def table(out: Path) -> str:
    """One table of all that was found, in Markdown."""
    lines = ["| part | what | found |", "|---|---|---|"]
    checks = read(out / "correctness.jsonl")
    for check in dict.fromkeys(row["check"] for row in checks):
        lines.append(f"| a | {check} | {checked([row for row in checks if row['check'] == check])} |")
    for row in read(out / "speed.jsonl"):
        lines.append(f"| b | {row['case']}, {row['variant']} | {speed(row)} |")
    for row in read(out / "results.jsonl"):
        what = [row.get(key, "") for key in ("method", "backbone", "data", "task")]
        lines.append(f"| c | {', '.join(filter(None, what))} | {score(row)} |")
    return "\n".join([*lines, "", APART])


def checked(rows: list[dict[str, Any]]) -> str:
    """How many of a check held, the one that was nearest to its limit or furthest beyond, and all that did not."""
    measured = [row for row in rows if "value" in row]
    found = f"{sum(row['ok'] for row in rows)} of {len(rows)}"
    if measured:
        worst = max(measured, key=lambda row: row["value"])
        found += f", largest {worst['value']:.2g} ({worst['name']}; limit {worst['limit']:g})"
    failed = [f"{row['name']} {row.get('value', '')} {row['note']}".strip() for row in rows if not row["ok"]]
    return found + (f"; **not: {'; '.join(failed)}**" if failed else "")


def speed(row: dict[str, Any]) -> str:
    if "images/s" not in row:
        return str(row["note"])
    parts = " / ".join(f"{row[part]:.0f}" for part in ("views", "forward", "backward", "optimiser"))
    found = f"{row['images/s']:.0f} images/s, MFU {row['MFU %']:.1f} % of {row['GEMM TFLOP/s']:.0f} TFLOP/s"
    found += f", batch {row['batch']}, {row['GB']} GB; views / forward / backward / optimiser {parts} %"
    if "waits" in row:
        found += f"; busy {row['busy %']:.0f} %; waits: {', '.join(row['waits']) or 'none'}"
        found += f" ({row['waits profiled']} profiled)"
    return found


def score(row: dict[str, Any]) -> str:
    if row.get("score") is None:
        return str(row["note"])
    beside_it = (row["backbone"], row["task"], row["budget"]) == ("resnet18", "knn", "epochs=50")
    published = PUBLISHED.get(row["method"]) if beside_it else None
    beside = f" (published {published})" if published else ""
    return f"{row['score']:.2f} %{beside}, {row['budget']}, {row['seconds']:.0f} s of training, {row['MB']:.0f} MB"


def main(out: Path, work: Path, started: float, rehearsal: bool) -> None:
    slower = 4 if rehearsal else 1  # on a small machine the same script takes longer
    until, log, words = started + slower * (LIMIT - RESERVE), out / "log.txt", ["--rehearsal"] if rehearsal else []
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(work / "inductor")

    def say(text: str) -> None:
        line = f"{time.time() - started:6.1f} s  {text}"
        print(line, flush=True)
        with log.open("a") as to:
            to.write(line + "\n")

    warm = start("speed.py", log, out, work / "warm", *words, "--warm")
    part = start("correctness.py", log, out, work, *words)
    say(f"correctness: {finish(part, time.time() + slower * CORRECTNESS, out, work)}")
    compiled = finish(warm, time.time() + slower * COMPILING, out, work)
    if compiled != "exit 0":  # half-written files in its cache would fail where they are found
        shutil.rmtree(work / "inductor", ignore_errors=True)
    say(f"compiling beforehand: {compiled}")
    part = start("speed.py", log, out, work / "warm", *words)
    say(f"speed: {finish(part, time.time() + slower * SPEED, out, work)}")
    left = until - time.time()
    part = start("results.py", log, out, work, left, *words)
    say(f"results, in {left:.0f} s: {finish(part, until, out, work)}")
    pack(out, work)
    text = table(out)
    (out / "table.md").write_text(text + "\n")
    print(text)
    say("done")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), "--rehearsal" in sys.argv)
