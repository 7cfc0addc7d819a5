"""Every table that a results folder gives. No torch."""

from collections.abc import Mapping, Sequence

from ssbench.results.across import across
from ssbench.results.alike import alike
from ssbench.results.character import character
from ssbench.results.codes import settled, witnesses
from ssbench.results.foretell import foretelling
from ssbench.results.grid import grids, measures, optima, pivots
from ssbench.results.groups import Group, groups
from ssbench.results.ladders import ladders
from ssbench.results.mce import mce
from ssbench.results.profiles import profiles
from ssbench.results.published import published
from ssbench.results.ranks import agreement, study
from ssbench.results.record import Record
from ssbench.results.render import Shown
from ssbench.results.scaling import scaling
from ssbench.results.standing import standing
from ssbench.results.store import Store
from ssbench.results.table import rows_of, tables
from ssbench.results.trunks import trunks
from ssbench.results.tuned import tunings


def every(store: Store, controls: Mapping[str, str], records: Sequence[Record]) -> list[Shown]:
    """In the order in which they are shown; raises UserError where predictions can't be read."""
    records = settled(records, witnesses(store))
    found = groups(records)
    settings = pivots(store, found)
    built = tables(store, controls, found)
    rungs = ladders(found, built, controls)
    return [
        *built,
        *standing(built),
        *character(built, records),
        *across(((_data(one), table, rows_of(one, controls)) for one, table in zip(found, built)), controls),
        *grids(settings),
        *optima(settings),
        *measures(found, controls),
        *mce(found, controls),
        *profiles(found, controls),
        *study(found, controls),
        *agreement(found, controls),
        *trunks(found, controls),
        *scaling(rungs),
        *foretelling(rungs),
        *alike(store, found, controls),
        *tunings(records, controls),
        *published(store, records),
    ]


def _data(group: Group) -> str:
    return group.records[0].spec.data.fingerprint
