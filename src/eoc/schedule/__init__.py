"""Learning-rate rules as small objects with state.

A rule is told the sharpness and the cosines by whoever measures them and gives the rate η_t; it measures
nothing itself.
"""

from eoc.schedule.alignment import Alignment
from eoc.schedule.base import Schedule
from eoc.schedule.clock import Constant, Cosine, Warmup
from eoc.schedule.geometric import Geometric
from eoc.schedule.stability import phase, stability_limit

__all__ = [
    "Alignment",
    "Constant",
    "Cosine",
    "Geometric",
    "Schedule",
    "Warmup",
    "phase",
    "stability_limit",
]
