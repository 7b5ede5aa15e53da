"""Measures the whole Hessian spectrum at chosen steps: by layer, its trace, its density."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from eoc.data.subsets import LARGEST_SEED
from eoc.dynamics.curvature import LayerCurvature, NonFiniteCurvature, spectral_density, trace
from eoc.errors import integer, text, under
from eoc.tracking.run_folder import make_writable, write_spectrum
from eoc.training.callbacks.base import MOST_DOTS, Measurement, drawing, log_figure

if TYPE_CHECKING:
    from eoc.training.module import EdgeOfChaosModule
    from eoc.training.probe import CurvatureProbe


class SpectrumCallback(Measurement):
    """``hessian/layer_k``, ``hessian/trace``, ``hessian/trace_error``; ``spectrum.npz`` and ``spectrum.png``.

    All of D^½·H·D^½, the matrix whose top is the sharpness λ: of each layer's diagonal block the largest eigenvalue,
    of the whole the trace with its standard error (Hutch++) and the density of eigenvalues (stochastic Lanczos
    quadrature). On which examples, and how precisely the layers' eigenvalues, is set in the config's ``curvature``.

    Args:
        folder: the run folder.
        draw: makes the figure from the folder, and returns its path.
        every: steps between measurements.
        trace_products: products for one trace.
        density_steps: Lanczos steps from each random vector (the number of weights at most).
        density_runs: number of random vectors.
        seed: of the random vectors, which are the same at every step.
        dots_per_inch: resolution.
    """

    def __init__(
        self,
        folder: str,
        draw: Callable[..., Path],
        every: int = 100,
        trace_products: int = 60,
        density_steps: int = 60,
        density_runs: int = 4,
        seed: int = 0,
        dots_per_inch: int = 150,
    ) -> None:
        super().__init__(every)
        self.folder, self.draw = Path(text("folder", folder)), drawing("draw", draw)
        self.trace_products = integer("trace_products", trace_products, minimum=6)
        self.density_steps = integer("density_steps", density_steps, minimum=1)
        self.density_runs = integer("density_runs", density_runs, minimum=1)
        self.seed = integer("seed", seed, 0, LARGEST_SEED)
        self.dots_per_inch = integer("dots_per_inch", dots_per_inch, 1, MOST_DOTS)
        self._probe: CurvatureProbe | None = None
        self._layers: LayerCurvature | None = None
        self._records: list[dict[str, Any]] = []

    def names(self, module: EdgeOfChaosModule) -> set[str]:
        """A sharpness for each layer, the trace and its error."""
        return {"hessian/trace", "hessian/trace_error", *(f"hessian/{name}" for name in module.network.layer_names)}

    def prepare(self, module: EdgeOfChaosModule) -> None:
        """Make a probe of its own; refuse a folder that cannot be written, before the first step."""
        make_writable(self.folder, "callbacks.spectrum.folder")
        with under("curvature"):  # its settings are there
            self._probe = module.make_probe(k=1)
        settings = self._probe.tracker
        self._layers = LayerCurvature(
            {name: [index] for index, name in enumerate(module.network.layer_names)},
            tolerance=settings.tolerance,
            guards=settings.guards,
            max_products=settings.max_products,
            caution=settings.caution,
        )

    def take_back(self, module: EdgeOfChaosModule, state: dict[str, Any]) -> None:  # noqa: ARG002
        """Take what was measured, and the vectors that the layers' next probes start from."""
        assert self._layers is not None, "the fit has not started"
        self._layers.load_state_dict(state["layers"])
        self._records = list(state["records"])

    def before_step(self, module: EdgeOfChaosModule) -> None:
        """Measure θ_t."""
        if self.due(module.step):
            self._measure(module)

    def at_end(self, module: EdgeOfChaosModule) -> None:
        """Measure θ_T and draw; a figure that cannot be drawn is said, and costs nothing else."""
        self._measure(module)
        if not self._records or not module.trainer.is_global_zero:
            return
        log_figure(module, "spectrum", lambda: self.draw(self.folder, dots_per_inch=self.dots_per_inch))

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured, and the vectors that the layers' next probes start from."""
        return {"records": self._records, "layers": self._layers.state_dict() if self._layers else {}}

    def _measure(self, module: EdgeOfChaosModule) -> None:
        assert self._probe is not None, "the fit has not started"
        assert self._layers is not None, "the fit has not started"
        with suppress(NonFiniteCurvature):  # the loss will not be finite either, and that ends the run
            operator = self._probe.operator(module)
            layers = torch.cat([pairs.values for pairs in self._layers.probe(operator).values()])
            whole = trace(operator, self.trace_products, torch.Generator().manual_seed(self.seed))
            steps = min(self.density_steps, operator.size)
            density = spectral_density(operator, steps, self.density_runs, torch.Generator().manual_seed(self.seed))
            self.by_layer(module, "hessian", layers)
            module.metrics |= {"hessian/trace": whole.value, "hessian/trace_error": whole.standard_error}
            record = {
                "step": module.step,
                "layers": layers,
                "trace": whole.value,
                "trace_error": whole.standard_error,
                "nodes": density.nodes.flatten(),
                "weights": density.weights.flatten() / self.density_runs,
            }
            self._records = [*(old for old in self._records if old["step"] != module.step), record]
            if module.trainer.is_global_zero:
                write_spectrum(self.folder, self._records, module.network.layer_names)
