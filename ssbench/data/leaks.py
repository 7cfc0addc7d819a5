"""How many test images are copies of images that are trained or chosen on; counted once for each pair of data sets."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ssbench.data import DECODER, Split, memory
from ssbench.data.copies import RULE, copies, joined, look


@dataclass(frozen=True)
class Copied:
    """Of the images of a test split."""

    test: int  # are copies
    equal: int  # of them pixel for pixel
    example: str = ""  # the key of one, and of what it is a copy of


def copied(seen: Sequence[Split], test: Split, key: Sequence[str] = ()) -> Copied:
    """Copies of `test` among what is `seen`; remembered under a `key`, which says what data it is."""
    name = hashlib.sha256("|".join((*key, str(DECODER), str(RULE))).encode()).hexdigest()[:32]
    if key and isinstance(known := memory.recall("copies", name), dict):
        return Copied(**known)
    before, judged = joined([look(part.images) for part in seen]), look(test.images)
    first = copies(before, judged).tolist()
    hits = [(at, of) for at, of in enumerate(first) if of >= 0]
    keys = [one for part in seen for one in part.keys]
    found = Copied(
        len(hits),
        sum(judged.exact[at] == before.exact[of] for at, of in hits),
        f"{test.keys[hits[0][0]]} of {keys[hits[0][1]]}" if hits else "",
    )
    if key:
        memory.remember("copies", name, asdict(found))
    return found
