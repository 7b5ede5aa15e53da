"""The top of the Hessian spectrum, followed along training."""
