"""Logs the tangent kernel and its distance from infinite width."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eoc.dynamics.tangent_kernel import kernel_deviation, tangent_kernel
from eoc.errors import integer
from eoc.training.callbacks.base import Measurement

if TYPE_CHECKING:
    from eoc.training.module import EdgeOfChaosModule


class TangentKernelCallback(Measurement):
    """``kernel/mean`` (mean diagonal entry of K) and ``kernel/deviation`` (‖K − K^∞‖/‖K^∞‖).

    In the learning-rate metric; see `eoc.dynamics.tangent_kernel`.

    Args:
        every: cadence in steps.
        examples: size of the fixed batch, the first training examples; K has (examples·classes)² entries.
    """

    def __init__(self, every: int = 100, examples: int = 32) -> None:
        super().__init__(every)
        self.examples = integer("examples", examples, minimum=1)

    def names(self, module: EdgeOfChaosModule) -> set[str]:  # noqa: ARG002
        """Both."""
        return {"kernel/mean", "kernel/deviation"}

    def before_step(self, module: EdgeOfChaosModule) -> None:
        """Measure θ_t."""
        if self.due(module.step):
            self.at_end(module)

    def at_end(self, module: EdgeOfChaosModule) -> None:
        """Measure the present weights."""
        inputs = module.dataset.train_inputs[: self.examples]
        kernel = tangent_kernel(module.network, inputs)
        self.write(module, "kernel/mean", kernel.diagonal().mean())
        self.write(module, "kernel/deviation", kernel_deviation(kernel, module.network, inputs))
