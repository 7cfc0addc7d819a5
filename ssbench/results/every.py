"""Every table that a results folder gives. No torch."""

from collections.abc import Mapping, Sequence

from ssbench.results.alike import alike
from ssbench.results.grid import grids, measures, optima, pivots
from ssbench.results.mce import mce
from ssbench.results.profiles import profiles
from ssbench.results.ranks import agreement, study
from ssbench.results.record import Record
from ssbench.results.render import Shown
from ssbench.results.store import Store
from ssbench.results.table import build
from ssbench.results.trunks import trunks
from ssbench.results.tuned import tunings


def every(store: Store, controls: Mapping[str, str], records: Sequence[Record]) -> list[Shown]:
    """In the order in which they are shown; raises UserError where predictions can't be read."""
    found = pivots(store, records)
    return [
        *build(store, controls, records),
        *grids(found),
        *optima(found),
        *measures(records, controls),
        *mce(records, controls),
        *profiles(records, controls),
        *study(records, controls),
        *agreement(records, controls),
        *trunks(records, controls),
        *alike(store, records, controls),
        *tunings(records, controls),
    ]
