"""Logs the top of the Hessian spectrum in the learning-rate metric."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pytorch_lightning.utilities import rank_zero_warn

from eoc.dynamics.curvature import Eigenpairs, NonFiniteCurvature
from eoc.training.callbacks.base import Measurement

if TYPE_CHECKING:
    from eoc.training.module import EdgeOfChaosModule
    from eoc.training.probe import CurvatureProbe


class CurvatureCallback(Measurement):
    """``sharpness`` (λ), ``hessian/eig_1`` … ``eig_k``, and what each probe cost and how good it is.

    ``hessian/residual`` is ‖Av − λv‖/λ of the largest pair, which bounds its relative error; ``products``,
    ``milliseconds`` and ``converged`` speak of the probe. Where the schedule measures at the same step, its probe is
    logged; otherwise this callback measures with one of its own, so that the weights do not depend on whether it is
    there. How λ is measured is set in the config's ``curvature``.

    Args:
        every: cadence in steps.
    """

    def __init__(self, every: int = 1) -> None:
        super().__init__(every)
        self._probe: CurvatureProbe | None = None
        self._state: dict[str, Any] | None = None

    def prepare(self, module: EdgeOfChaosModule) -> None:
        """Make a probe of its own."""
        self._probe = module.make_probe()
        if self._state is not None:
            self._probe.load_state_dict(self._state)

    def before_step(self, module: EdgeOfChaosModule) -> None:
        """Measure θ_t."""
        if not self.due(module.step):
            return
        with suppress(NonFiniteCurvature):  # the loss will not be finite either, and that ends the run
            pairs = module.scheduled_probe()
            if pairs is not None:
                self._write(module, pairs, module.probe_milliseconds)
            else:
                self._measure(module)

    def at_end(self, module: EdgeOfChaosModule) -> None:
        """Measure θ_T."""
        if module.divergence is None:
            with suppress(NonFiniteCurvature):
                self._measure(module)

    def state_dict(self) -> dict[str, Any]:
        """Return the vectors that the next probe starts from."""
        return self.probe.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back when the fit starts."""
        self._state = state_dict

    @property
    def probe(self) -> CurvatureProbe:
        """This callback's own probe; there from the start of the fit."""
        assert self._probe is not None, "the fit has not started"
        return self._probe

    def _measure(self, module: EdgeOfChaosModule) -> None:
        self._write(module, self.probe.measure(module), self.probe.milliseconds)

    def _write(self, module: EdgeOfChaosModule, pairs: Eigenpairs, milliseconds: float) -> None:
        values = pairs.values.tolist()
        residual = pairs.residuals[0].item()
        relative = residual / abs(values[0]) if values[0] else residual
        module.metrics["sharpness"] = values[0]
        module.metrics.update({f"hessian/eig_{i}": value for i, value in enumerate(values, start=1)})
        module.metrics["hessian/residual"] = relative
        module.metrics["hessian/products"] = pairs.products
        module.metrics["hessian/milliseconds"] = milliseconds
        module.metrics["hessian/converged"] = int(pairs.converged)
        if not pairs.converged:
            rank_zero_warn(
                f"step {module.step}: the eigenvalues are not known to curvature.tolerance after {pairs.products} "
                f"products (relative residual of the largest {relative:.1e}); raise curvature.max_products"
            )
