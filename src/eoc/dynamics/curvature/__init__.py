"""The top of the Hessian spectrum, followed along training; and other measures of curvature."""

from eoc.dynamics.curvature.critical import CriticalSharpness, critical_sharpness
from eoc.dynamics.curvature.eigenpairs import Eigenpairs, top_eigenpairs
from eoc.dynamics.curvature.estimates import SpectralDensity, Trace, spectral_density, trace
from eoc.dynamics.curvature.gauss_newton import GaussNewtonOperator, TangentKernelOperator
from eoc.dynamics.curvature.hessian import HessianOperator
from eoc.dynamics.curvature.layers import LayerCurvature
from eoc.dynamics.curvature.memory import SpectralMemory
from eoc.dynamics.curvature.operator import NonFiniteCurvature, ParameterOperator, SymmetricOperator
from eoc.dynamics.curvature.perceptron import PerceptronHessian
from eoc.dynamics.curvature.span import InputSpan, input_span
from eoc.dynamics.curvature.tracker import CurvatureTracker

__all__ = [
    "CriticalSharpness",
    "CurvatureTracker",
    "Eigenpairs",
    "GaussNewtonOperator",
    "HessianOperator",
    "InputSpan",
    "LayerCurvature",
    "NonFiniteCurvature",
    "ParameterOperator",
    "PerceptronHessian",
    "SpectralDensity",
    "SpectralMemory",
    "SymmetricOperator",
    "TangentKernelOperator",
    "Trace",
    "critical_sharpness",
    "input_span",
    "spectral_density",
    "top_eigenpairs",
    "trace",
]
