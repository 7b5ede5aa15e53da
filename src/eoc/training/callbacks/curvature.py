"""Logs the top of the Hessian spectrum in the learning-rate metric."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from eoc.dynamics.curvature import NonFiniteCurvature
from eoc.errors import InvalidInput, integer, under
from eoc.training.callbacks.base import Measurement
from eoc.training.probe import complain

if TYPE_CHECKING:
    from eoc.training.module import EdgeOfChaosModule
    from eoc.training.probe import CurvatureProbe

QUALITIES = ("residual", "products", "milliseconds", "converged")


class CurvatureCallback(Measurement):
    """``sharpness`` (λ) with what its probe cost and how good it is, and now and then ``hessian/eig_1`` … ``eig_k``.

    ``hessian/residual`` is ‖Av − λv‖/λ, which bounds the relative error of λ; ``hessian/products``, ``milliseconds``
    and ``converged`` speak of that probe, ``hessian/top_…`` of the one for the top k (its residual is the largest).
    Where the schedule asks for λ its probe is logged; otherwise this callback measures with one of its own, so that
    the weights do not depend on whether it is there. How eigenvalues are measured is set in the config's ``curvature``.

    Args:
        every: steps between measurements of λ.
        k: eigenvalues of the top of the spectrum, largest algebraic first.
        top_every: steps between measurements of the top k, a multiple of ``every``.
    """

    def __init__(self, every: int = 1, k: int = 5, top_every: int = 20) -> None:
        super().__init__(every)
        self.k = integer("k", k, minimum=1)
        self.top_every = integer("top_every", top_every, minimum=1)
        if self.top_every % self.every:
            raise InvalidInput("top_every", top_every, f"it must be a multiple of every, {every}")
        self._probes: dict[str, CurvatureProbe] = {}

    def names(self, module: EdgeOfChaosModule) -> set[str]:
        """λ, the top k, and how good they are; there are no more eigenvalues than weights."""
        weights = sum(weight.numel() for weight in module.network.parameters())
        if self.k > weights:
            raise InvalidInput("callbacks.curvature.k", self.k, f"it must be at most {weights}, the number of weights")
        probes = {f"hessian/{top}{name}" for top in ("", "top_") for name in QUALITIES}
        return {"sharpness", "lr_x_sharpness", *probes, *(f"hessian/eig_{i}" for i in range(1, self.k + 1))}

    def prepare(self, module: EdgeOfChaosModule) -> None:
        """Make probes of its own."""
        with under("curvature"):  # their settings are there
            self._probes = {"sharpness": module.make_probe(k=1)}
            try:
                self._probes["top"] = module.make_probe(k=self.k)
            except InvalidInput as error:  # what is allowed for one is not for k
                rule = f"{error.rule} where callbacks.curvature.k is {self.k}"
                raise InvalidInput(error.key, error.value, rule) from error

    def take_back(self, module: EdgeOfChaosModule, state: dict[str, Any]) -> None:  # noqa: ARG002
        """Take the vectors that the next probes start from."""
        for name, probe in self._probes.items():
            probe.load_state_dict(state[name])

    def before_step(self, module: EdgeOfChaosModule) -> None:
        """Measure θ_t."""
        if self.due(module.step):
            self._measure(module, module.scheduled_probe)

    def at_end(self, module: EdgeOfChaosModule) -> None:
        """Measure θ_T; the schedule's probe stays where it was, for a run that goes on from here."""
        self._measure(module, lambda: None)

    def state_dict(self) -> dict[str, Any]:
        """Return the vectors that the next probes start from."""
        return {name: probe.state_dict() for name, probe in self._probes.items()}

    def _measure(self, module: EdgeOfChaosModule, scheduled: Callable[[], CurvatureProbe | None]) -> None:
        top = module.step % self.top_every == 0 or module.step == module.trainer.max_steps
        with suppress(NonFiniteCurvature):  # the loss will not be finite either, and that ends the run
            self._write(module, scheduled() or self._probes["sharpness"], top=False)
            if top:
                self._write(module, self._probes["top"], top=True)

    def _write(self, module: EdgeOfChaosModule, probe: CurvatureProbe, *, top: bool) -> None:
        pairs = probe.measure(module)
        values = pairs.values.tolist()
        residual = pairs.residuals.max().item()
        relative = residual / abs(values[0]) if values[0] else residual
        prefix = "hessian/top_" if top else "hessian/"
        if top:
            module.metrics.update({f"hessian/eig_{i}": value for i, value in enumerate(values, start=1)})
        else:
            module.metrics["sharpness"] = values[0]
        module.metrics[f"{prefix}residual"] = relative
        module.metrics[f"{prefix}products"] = pairs.products
        module.metrics[f"{prefix}milliseconds"] = probe.milliseconds
        module.metrics[f"{prefix}converged"] = int(pairs.converged)
        complain(module, pairs, prefix)
