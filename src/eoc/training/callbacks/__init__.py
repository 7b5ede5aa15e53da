"""Callbacks; those that measure write into the metrics of the current step."""

from eoc.training.callbacks.base import Measurement, StepCallback
from eoc.training.callbacks.checkpoint import CheckpointCallback
from eoc.training.callbacks.curvature import CurvatureCallback
from eoc.training.callbacks.divergence import DivergenceCallback
from eoc.training.callbacks.evaluation import EvaluationCallback
from eoc.training.callbacks.features import FeaturesCallback
from eoc.training.callbacks.layer_steps import LayerStepsCallback
from eoc.training.callbacks.progress import ProgressCallback
from eoc.training.callbacks.recorder import Recorder
from eoc.training.callbacks.reference_sharpness import ReferenceSharpnessCallback
from eoc.training.callbacks.spectrum import SpectrumCallback
from eoc.training.callbacks.summary_figure import SummaryFigureCallback
from eoc.training.callbacks.tangent_kernel import TangentKernelCallback
from eoc.training.callbacks.update_cosines import UpdateCosinesCallback

__all__ = [
    "CheckpointCallback",
    "CurvatureCallback",
    "DivergenceCallback",
    "EvaluationCallback",
    "FeaturesCallback",
    "LayerStepsCallback",
    "Measurement",
    "ProgressCallback",
    "Recorder",
    "ReferenceSharpnessCallback",
    "SpectrumCallback",
    "StepCallback",
    "SummaryFigureCallback",
    "TangentKernelCallback",
    "UpdateCosinesCallback",
]
