"""In what these methods are not their published code: literals only, so that listing imports no torch."""

from ssbench.departures import Compared

COMPARED: dict[str, Compared] = {}
