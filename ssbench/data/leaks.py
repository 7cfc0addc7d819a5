"""Copies in a data set: which images are, and how many of test are of those that are trained or chosen on."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from ssbench.data import DECODER, Split, memory
from ssbench.data.copies import RULE, copies, joined, look, within


@dataclass(frozen=True)
class Copied:
    """Images that are copies of others on another side."""

    test: int  # of test: of what is trained or chosen on
    equal: int  # of them pixel for pixel
    example: str = ""  # the key of one, and of what it is a copy of
    select: int = 0  # of select: of fit


def copied(seen: Sequence[Split], test: Split, key: Sequence[str] = ()) -> Copied:
    """Copies of `test` among what is `seen`, the last of which is what chooses for it and the one before what it is
    trained on; remembered under a `key`, which says what data it is.
    """
    name = hashlib.sha256("|".join((*key, str(DECODER), str(RULE))).encode()).hexdigest()[:32]
    if key and isinstance(known := memory.recall("copies", name), dict):
        return Copied(**known)
    looks, judged = [look(part.images) for part in seen], look(test.images)
    before = joined(looks)
    first = copies(before, judged).tolist()
    hits = [(at, of) for at, of in enumerate(first) if of >= 0]
    equal = [(at, of) for at, of in hits if judged.exact[at] == before.exact[of]]
    keys = [one for part in seen for one in part.keys]
    at, of = (equal or hits or [(0, 0)])[0]
    chosen = int((copies(looks[-2], looks[-1]) >= 0).sum()) if len(looks) > 1 else 0
    found = Copied(len(hits), len(equal), f"{test.keys[at]} of {keys[of]}" if hits else "", chosen)
    if key:
        memory.remember("copies", name, asdict(found))
    return found


class Copy(NamedTuple):
    """An image that is a copy of one of a part that is trained or chosen on."""

    role: str
    at: int
    other: str  # role
    of: int
    equal: bool


def all_copies(parts: Mapping[str, Split]) -> list[Copy]:
    """Images of fit that are copies of earlier ones, of select that are of fit's, of test that are of either's.

    An image is named once, with one of those that it is a copy of.
    """
    looks = {role: look(part.images) for role, part in parts.items()}

    def copy(role: str, at: int, other: str, of: int) -> Copy:
        return Copy(role, at, other, of, looks[role].exact[at] == looks[other].exact[of])

    pairs = [copy("fit", later, "fit", earlier) for earlier, later in within(looks["fit"]).tolist()]
    first = {pair.at: pair for pair in sorted(pairs, key=lambda pair: (pair.equal, -pair.of))}  # equal ones come last
    found = [first[at] for at in sorted(first)]
    places = [(role, at) for role in ("fit", "select") for at in range(len(parts[role]))]
    for role, seen in (("select", looks["fit"]), ("test", joined([looks["fit"], looks["select"]]))):
        of = copies(seen, looks[role]).tolist()
        found += [copy(role, at, *places[place]) for at, place in enumerate(of) if place >= 0]
    return found
