"""Intervals and names of code in records of an earlier ssbench, as today's writes them. No torch."""

from ssbench.code import RENAMED
from ssbench.errors import UserError
from ssbench.results.bootstrap import interval
from ssbench.results.record import Record, Score, seals
from ssbench.results.store import Store
from ssbench.results.verify import close


def renew(store: Store) -> int:
    """Write records with today's intervals and names of code, and tell in how many any was another.

    Raises UserError where a record or its predictions are not what was written.
    """
    count = 0
    for record in store.all():
        again = _renewed(store, record)
        if again != record:
            if seals(record) != record.seals:
                raise UserError(f"{store.file(record.spec)} is not what was written; see ssbench verify")
            store.update(again)
            count += 1
    return count


def _renewed(store: Store, record: Record) -> Record:
    digests, *earlier = (
        {part: RENAMED.get(digest, digest) for part, digest in one.items()} for one in (record.digests, *record.earlier)
    )
    return record.model_copy(update={"scores": _scores(store, record), "digests": digests, "earlier": earlier})


def _scores(store: Store, record: Record) -> dict[str, Score]:
    """With today's intervals where the record's are not close to them."""
    if not record.scores:
        return record.scores
    predictions, scores = store.predictions(record, record.scores), dict(record.scores)
    for name, score in record.scores.items():
        if predictions[name]:
            low, high = interval(score.kind, predictions[name])
            if not (close(score.low, low) and close(score.high, high)):
                scores[name] = score.model_copy(update={"low": low, "high": high})
    return scores
