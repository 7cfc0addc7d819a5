"""`ssbench cache`: what is kept of decoded data, so that it need not be decoded again."""

from typing import Annotated

from typer import Option, Typer

cache = Typer(no_args_is_help=True, help="Decoded images that are kept between commands: ls, prune.")
GB = 2**30


@cache.command("ls")
def ls() -> None:
    """Data sets that are kept, the longest unused first."""
    from datetime import datetime

    from ssbench.data import stored

    found = stored.entries()
    for entry in found:
        used = datetime.fromtimestamp(entry.used).isoformat(" ", "minutes")
        print(f"{entry.folder.name}  {entry.size / GB:8.3f} GB  last used {used}  {entry.name}")
    total = sum(entry.size for entry in found)
    print(f"{len(found)} data sets, {total / GB:.3f} of at most {stored.MOST / GB:.0f} GB, in {stored.place()}")


@cache.command("prune")
def prune(
    most: Annotated[float, Option(help="Gigabytes that may stay; the longest unused go first.", min=0)] = 0.0,
) -> None:
    """Remove what is kept: it is decoded again when it is needed."""
    from ssbench.data import stored

    gone = stored.prune(round(most * GB))
    print(f"{len(gone)} data sets removed, {sum(entry.size for entry in gone) / GB:.3f} GB")
