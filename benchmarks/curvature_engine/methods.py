"""The ways to find the sharpness that are compared, and SciPy's answer."""

from __future__ import annotations

import contextlib
import io
import statistics
import warnings
from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn

from eoc.dynamics.curvature import (
    CurvatureTracker,
    GaussNewtonOperator,
    HessianOperator,
    PerceptronHessian,
    SpectralMemory,
    input_span,
    top_eigenpairs,
)
from eoc.model import MLP
from eoc.model.loss import half_squared_error

Estimate = tuple[float, float | None, int]  # value, relative bound where there is one, products
Clock = Callable[[], float]


def timed(call: Callable[[], object], clock: Clock) -> tuple[float, object]:
    """Seconds of a call, of the device's work too, and what it returned."""

    def ready() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return clock()

    start = ready()
    result = call()
    return ready() - start, result


class Problem:
    """The loss of a network on fixed data: half the squared error, averaged over the examples."""

    def __init__(self, network: MLP, inputs: Tensor, targets: Tensor) -> None:
        self.network, self.batches = network, [(inputs, targets)]
        self.weights, self.metric = list(network.weights), network.rates
        self.span = input_span(inputs)

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return half_squared_error(self.network(inputs), targets)

    def gradient(self) -> list[Tensor]:
        return list(torch.autograd.grad(self.loss(*self.batches[0]), self.weights))

    def operator(self, autocast: torch.dtype | None = None) -> HessianOperator:
        return HessianOperator(self.loss, self.weights, self.batches, self.metric, autocast=autocast)

    def written_out(self, autocast: torch.dtype | None = None, *, spanned: bool = True) -> PerceptronHessian:
        span = self.span if spanned else None
        return PerceptronHessian(
            self.network, half_squared_error, self.batches, self.metric, autocast=autocast, span=span
        )


class Tracked:
    """A tracker of ours."""

    def __init__(self, autocast: torch.dtype | None = None, scout: torch.dtype | None = None, **options) -> None:
        self.tracker, self.autocast, self.scout = CurvatureTracker(**options), autocast, scout

    def __call__(self, problem: Problem) -> Estimate:
        scout = None if self.scout is None else self.operator(problem, self.scout)
        found = self.tracker.probe(self.operator(problem, self.autocast), scout)
        return float(found.values[0]), found.relative_bound, found.products

    def operator(self, problem: Problem, autocast: torch.dtype | None) -> HessianOperator:
        return problem.operator(autocast)


class WrittenOut(Tracked):
    """The same with the products of an MLP written out, its first layer in the coordinates of the inputs' span."""

    def operator(self, problem: Problem, autocast: torch.dtype | None) -> HessianOperator:
        return problem.written_out(autocast)


class WrittenOutInAll(Tracked):
    """The same in all coordinates."""

    def operator(self, problem: Problem, autocast: torch.dtype | None) -> HessianOperator:
        return problem.written_out(autocast, spanned=False)


class LastProbe:
    """Start from the last probe, never from the one before; with the memory's predictions or without."""

    def __init__(self, predict: bool) -> None:
        self.memory: SpectralMemory | None = None
        self.predict = predict

    def __call__(self, problem: Problem) -> Estimate:
        start = self.memory if self.predict or self.memory is None else self.memory.vectors
        found = top_eigenpairs(problem.operator(), start=start)
        self.memory = found.memory
        return float(found.values[0]), found.relative_bound, found.products


class PowerIteration:
    """Products applied to the last vector: two of them, or a Chebyshev polynomial of the given degree."""

    def __init__(self, degree: int, chebyshev: bool) -> None:
        self.degree, self.chebyshev, self.vector, self.value = degree, chebyshev, None, 0.0

    def __call__(self, problem: Problem) -> Estimate:
        operator = problem.operator()
        if self.vector is None:
            found = top_eigenpairs(operator)
            self.vector, self.value = found.vectors, float(found.values[0])
        old, new = torch.zeros_like(self.vector), self.vector
        # Damp everything between -0.3 and 0.9 of the last value.
        low, high = (-0.3 * self.value, 0.9 * self.value) if self.chebyshev else (-1.0, 1.0)
        for _ in range(self.degree - 1):
            image = operator(new)
            if self.chebyshev:
                mapped = (2 * image - (high + low) * new) / (high - low)
                old, new = new, (mapped if not old.any() else 2 * mapped - old)
            else:
                new = image
            scale = new.norm()
            old, new = old / scale, new / scale
        image = operator(new)
        self.value = float((image * new).sum())
        residual = float((image - self.value * new).norm()) / abs(self.value)
        self.vector = new
        return self.value, residual, operator.products


CHEAP = {"guards": 0, "capacity": 4}

METHODS: dict[str, Callable[[], Callable[[Problem], Estimate]]] = {
    "tracker": Tracked,
    "tracker, top 5": lambda: Tracked(k=5),
    "tracker, tolerance 1e-2": lambda: Tracked(tolerance=1e-2),
    "tracker, products written out": WrittenOut,
    "tracker, products written out, in all coordinates": WrittenOutInAll,
    "tracker, products written out, top 5": lambda: WrittenOut(k=5),
    "tracker, products written out, tolerance 1e-2": lambda: WrittenOut(tolerance=1e-2),
    "tracker, scout in bfloat16, tolerance 1e-2": lambda: Tracked(scout=torch.bfloat16, tolerance=1e-2),
    "tracker, scout in bfloat16, tolerance 1e-2, 2 guards": lambda: Tracked(
        scout=torch.bfloat16, tolerance=1e-2, guards=2
    ),
    "tracker, scout in bfloat16, tolerance 1e-2, top 5": lambda: Tracked(scout=torch.bfloat16, tolerance=1e-2, k=5),
    "tracker, bfloat16, tolerance 1e-2": lambda: Tracked(torch.bfloat16, tolerance=1e-2),
    "tracker, bfloat16, tolerance 1e-2, caution 1.2": lambda: Tracked(torch.bfloat16, tolerance=1e-2, caution=1.2),
    "tracker, bfloat16, tolerance 1e-2, caution 4": lambda: Tracked(torch.bfloat16, tolerance=1e-2, caution=4.0),
    "tracker, products written out, bfloat16, tolerance 1e-2": lambda: WrittenOut(torch.bfloat16, tolerance=1e-2),
    "tracker, products written out, bfloat16, tolerance 1e-2, caution 4": lambda: WrittenOut(
        torch.bfloat16, tolerance=1e-2, caution=4.0
    ),
    "tracker, cheap (2e-2, no guard)": lambda: Tracked(tolerance=2e-2, **CHEAP),
    "tracker, cheapest (5e-2, no guard)": lambda: Tracked(tolerance=5e-2, **CHEAP),
}

# What was tried and lost.
ALTERNATIVES: dict[str, Callable[[], Callable[[Problem], Estimate]]] = {
    "last probe, predictions": lambda: LastProbe(True),
    "last probe, residuals": lambda: LastProbe(False),
    "power iteration, 2 products": lambda: PowerIteration(2, False),
    "Chebyshev filter, 6 products": lambda: PowerIteration(6, True),
}


def reference(problem: Problem, tracker: CurvatureTracker) -> float:
    """The largest eigenvalue by SciPy in float64, at tolerance 1e-8, started from the tracker's vector."""
    copies = [w.detach().double().requires_grad_() for w in problem.weights]
    network, (inputs, targets) = problem.network, problem.batches[0]

    def loss(x: Tensor, y: Tensor) -> Tensor:
        outputs = torch.func.functional_call(network, dict(zip(names, copies, strict=True)), (x,))
        return 0.5 * (outputs - y).square().sum() / len(x)

    names = [name for name, _ in network.named_parameters()]
    operator = HessianOperator(loss, copies, [(inputs.double(), targets.double())], problem.metric)

    def product(vector: np.ndarray) -> np.ndarray:
        row = torch.from_numpy(np.ascontiguousarray(vector).reshape(1, -1)).to(operator.device)
        return operator(row)[0].cpu().numpy()

    # The start holds a part of every remembered vector: if another pair were the largest, it would be found.
    vectors = tracker.state_dict()["vectors"][0].double()
    start = (vectors[0] + 0.1 * vectors[1:6].sum(0)).cpu().numpy()
    matrix = LinearOperator((operator.size, operator.size), matvec=product, dtype=np.float64)
    return float(eigsh(matrix, k=1, which="LA", tol=1e-8, v0=start, ncv=16, return_eigenvectors=False)[0])


class Rescaled(nn.Module):
    """The network in the coordinates A / sqrt(g), where the plain Hessian is ours: peers know no metric."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.phi = problem.network.phi
        factors = zip(problem.network.forward_factors, problem.metric, strict=True)
        self.factors = [c * g**0.5 for c, g in factors]
        scaled = [w.detach() / g**0.5 for w, g in zip(problem.weights, problem.metric, strict=True)]
        self.weights = nn.ParameterList(scaled)

    def forward(self, x: Tensor) -> Tensor:
        for k, (weight, factor) in enumerate(zip(self.weights, self.factors, strict=True)):
            x = nn.functional.linear(self.phi(x) if k else x, weight) * factor
        return x


def _curvlinops(problem: Problem) -> float:
    from curvlinops import HessianLinearOperator

    model = Rescaled(problem)
    # Half the squared error is 5 times the mean over the 10 outputs.
    operator = HessianLinearOperator(
        model, nn.MSELoss(), list(model.parameters()), problem.batches, check_deterministic=False
    )
    return 5 * float(eigsh(operator.to_scipy(), k=1, which="LA", tol=1e-3, return_eigenvectors=False)[0])


def _eigenthings(problem: Problem):
    from hessian_eigenthings import HessianOperator as Operator
    from hessian_eigenthings import supervised_loss

    return Operator(Rescaled(problem), problem.batches, supervised_loss(half_squared_error))


def _lanczos(steps: int) -> Callable[[Problem], float]:
    def run(problem: Problem) -> float:
        from hessian_eigenthings import lanczos

        return float(lanczos(_eigenthings(problem), k=1, max_iter=steps, which="LA", seed=0).eigenvalues[0])

    return run


def _power(problem: Problem) -> float:
    from hessian_eigenthings import power_iteration_one

    return float(power_iteration_one(_eigenthings(problem), tol=1e-3, seed=0)[0])


def _pyhessian(problem: Problem) -> float:
    from pyhessian import hessian

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        inputs = problem.batches[0][0]
        found = hessian(Rescaled(problem), half_squared_error, data=problem.batches[0], cuda=inputs.is_cuda)
        return float(found.eigenvalues(maxIter=100, tol=1e-3, top_n=1)[0][0])


PEERS: dict[str, Callable[[Problem], float]] = {
    "curvlinops + SciPy eigsh, tol 1e-3": _curvlinops,
    **{f"hessian-eigenthings, Lanczos, {steps} products": _lanczos(steps) for steps in (12, 16, 18, 20, 22, 24)},
    "hessian-eigenthings, power iteration, tol 1e-3": _power,
    "PyHessian, power iteration, tol 1e-3": _pyhessian,
}


def products_table(problem: Problem, clock: Clock, repeats: int = 15) -> dict[str, float]:
    """Medians of the time of one product, by way of computing it, in gradients (timed in turns)."""
    inputs, targets = problem.batches[0]
    operator, written = problem.operator(), problem.written_out()
    newton = GaussNewtonOperator(problem.network, half_squared_error, problem.weights, problem.batches, problem.metric)
    operator.gradient(), written.gradient()
    coarse, rough = problem.operator(torch.bfloat16), problem.written_out(torch.bfloat16)
    row, rows = torch.randn(1, operator.size).to(inputs), torch.randn(4, operator.size).to(inputs)
    whole, fewer = problem.written_out(spanned=False), torch.randn(4, written.size).to(inputs)
    graph = torch.autograd.grad(problem.loss(inputs, targets), problem.weights, create_graph=True)
    stacked = [
        part.reshape(4, *w.shape)
        for part, w in zip(rows.split([w.numel() for w in problem.weights], 1), problem.weights, strict=True)
    ]
    values = tuple(w.detach() for w in problem.weights)
    names = [name for name, _ in problem.network.named_parameters()]

    def loss(*weights: Tensor) -> Tensor:
        return half_squared_error(
            torch.func.functional_call(problem.network, dict(zip(names, weights, strict=True)), (inputs,)), targets
        )

    gradient = torch.func.grad(loss, argnums=tuple(range(len(values))))
    tangents = tuple(part[0] for part in stacked)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, linear = torch.func.linearize(gradient, *values)
        compiled = torch.compile(lambda v, t: torch.func.jvp(gradient, v, t)[1])
        ways: dict[str, tuple[Callable[[], object], int]] = {
            "gradient": (problem.gradient, 1),
            "gradient with graph": (lambda: problem.operator().gradient(), 1),
            "gradient, from the graph of a probe": (operator.gradient, 1),
            "gradient with graph, written out": (lambda: problem.written_out().gradient(), 1),
            "gradient, from the passes of a probe written out": (written.gradient, 1),
            "Hessian product": (lambda: operator(row), 1),
            "Hessian product, written out, in all coordinates": (lambda: whole(row), 1),
            "Hessian product, written out": (lambda: written(fewer[:1]), 1),
            "Hessian product, written out, 4 vectors": (lambda: written(fewer), 4),
            "Hessian product, 4 vectors in one pass (is_grads_batched)": (
                lambda: torch.autograd.grad(graph, problem.weights, stacked, retain_graph=True, is_grads_batched=True),
                4,
            ),
            "Hessian product, torch.func.linearize": (lambda: linear(*tangents), 1),
            "Hessian product, torch.func.jvp of grad (with its own gradient)": (
                lambda: torch.func.jvp(gradient, values, tangents),
                1,
            ),
            "Hessian product, the same compiled": (lambda: compiled(values, tangents), 1),
            "Hessian product, bfloat16": (lambda: coarse(row), 1),
            "Hessian product, written out, bfloat16": (lambda: rough(fewer[:1]), 1),
            "Gauss-Newton product": (lambda: newton(row), 1),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for repeat in range(repeats + 2):
            for name, (way, vectors) in ways.items():
                spent, _ = timed(way, clock)
                if repeat >= 2:
                    seconds[name].append(spent / vectors)
    unit = statistics.median(seconds["gradient"])
    return {name: statistics.median(times) / unit for name, times in seconds.items()} | {"gradient_seconds": unit}
