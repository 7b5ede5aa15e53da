"""What is measured: curvature, update cosines, feature change. Plain torch, usable in any loop."""
