"""The top of the Hessian spectrum, followed along training."""

from eoc.dynamics.curvature.eigenpairs import Eigenpairs, top_eigenpairs
from eoc.dynamics.curvature.memory import SpectralMemory
from eoc.dynamics.curvature.operators import HessianOperator, NonFiniteCurvature, SymmetricOperator
from eoc.dynamics.curvature.tracker import CurvatureTracker

__all__ = [
    "CurvatureTracker",
    "Eigenpairs",
    "HessianOperator",
    "NonFiniteCurvature",
    "SpectralMemory",
    "SymmetricOperator",
    "top_eigenpairs",
]
