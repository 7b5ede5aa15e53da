"""Logs λ by an independent solver, to check those that steer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from eoc.data import chunks
from eoc.dynamics.curvature import HessianOperator, NonFiniteCurvature
from eoc.errors import real
from eoc.training.callbacks.base import Measurement

if TYPE_CHECKING:
    from eoc.training.module import EdgeOfChaosModule


def independent_sharpness(operator: HessianOperator, tolerance: float = 1e-6, seed: int = 0) -> float:
    """Return the largest eigenvalue by SciPy's implicitly restarted Lanczos (ARPACK), from a random start.

    Args:
        operator: products in float64.
        tolerance: relative, as ARPACK understands it.
        seed: of the start.

    Returns:
        The eigenvalue, 0 of a matrix that is 0 (a dead network's), or NaN where ARPACK gives up.
    """

    def product(vector: np.ndarray) -> np.ndarray:
        rows = torch.from_numpy(vector.reshape(1, -1)).to(operator.device)
        return operator(rows)[0].cpu().numpy()

    matrix = LinearOperator((operator.size, operator.size), matvec=product, dtype=np.float64)
    start = np.random.default_rng(seed).standard_normal(operator.size)
    if not product(start).any():  # ARPACK calls it an error
        return 0.0
    try:
        return float(eigsh(matrix, k=1, which="LA", tol=tolerance, v0=start, return_eigenvectors=False)[0])
    except ArpackNoConvergence:
        return float("nan")


class ReferenceSharpnessCallback(Measurement):
    """``reference/sharpness``: λ by SciPy's implicitly restarted Lanczos (ARPACK) from a fresh random start.

    It shares nothing with the tracker but the products, which this measures in float64; ``reference/lr_x_sharpness``
    is η_t times it. Some hundred products each: for checks. Where weights rest on a kink of the activation, the two
    precisions see the Hessians of its two sides: ``reference/kinks`` counts the hidden preactivations of the training
    examples whose signs they disagree about.

    Args:
        every: cadence in steps.
        tolerance: relative, as ARPACK understands it.
    """

    def __init__(self, every: int = 50, tolerance: float = 1e-6) -> None:
        super().__init__(every)
        self.tolerance = real("tolerance", tolerance, above=0.0)

    def names(self, module: EdgeOfChaosModule) -> set[str]:  # noqa: ARG002
        """λ, η·λ, and the kinks."""
        return {"reference/sharpness", "reference/lr_x_sharpness", "reference/kinks"}

    def before_step(self, module: EdgeOfChaosModule) -> None:
        """Measure θ_t."""
        if self.due(module.step):
            self.at_end(module)

    def after_step(self, module: EdgeOfChaosModule) -> None:
        """Multiply by the rate that θ_t was given."""
        if self.due(module.step) and "reference/sharpness" in module.metrics:
            module.metrics["reference/lr_x_sharpness"] = module.metrics["lr"] * module.metrics["reference/sharpness"]

    def at_end(self, module: EdgeOfChaosModule) -> None:
        """Measure the present weights."""
        data, probe = module.dataset, module.make_probe()
        inputs, targets = data.train_inputs[: probe.examples], data.train_targets[: probe.examples]
        weights = [weight.detach().double().requires_grad_() for weight in module.network.weights]

        def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return module.loss(module.network.preactivations(x, weights)[-1], y)

        batches = chunks(inputs.double(), targets.double(), probe.chunk_size)
        if not all(weight.isfinite().all() for weight in weights):
            return
        operator = HessianOperator(loss, weights, batches, metric=module.network.rates)
        try:
            found = independent_sharpness(operator, self.tolerance, seed=module.step)
            value = torch.tensor(found, dtype=torch.float64)
        except NonFiniteCurvature:  # the loss will not be finite either, and that ends the run
            return
        if bool(value.isfinite()):
            self.write(module, "reference/sharpness", value)
        with torch.no_grad():
            here = module.network.preactivations(inputs)[:-1]
            there = module.network.preactivations(inputs.double(), weights)[:-1]
            kinks = sum(((a > 0) != (b > 0)).sum() for a, b in zip(here, there, strict=True))
        self.write(module, "reference/kinks", torch.as_tensor(kinks))
