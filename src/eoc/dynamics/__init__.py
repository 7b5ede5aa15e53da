"""What is measured: curvature, update cosines, feature change. Plain torch, usable in any loop."""

from eoc.dynamics.features import FeatureChange, kernel_alignment, relative_change
from eoc.dynamics.update_cosines import UpdateCosines, UpdateGeometry

__all__ = ["FeatureChange", "UpdateCosines", "UpdateGeometry", "kernel_alignment", "relative_change"]
