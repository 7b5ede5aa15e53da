"""How often does the tracker report the second eigenvalue for the first, and what does it cost to ask more of it?

    python benchmarks/missed_eigenvalues.py

trains the main job's network (νP, 4 layers) on 200 digits at η = κ/λ, λ by SciPy's Lanczos in float64 from a random
start at every step, and lets several trackers follow λ along the same weights. Prints the table of docs/curvature.md,
and puts it there with ``--publish``.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import torch
from environment import environment
from misses import counted, table
from publication import publish

from eoc.data import digits
from eoc.dynamics.curvature import CurvatureTracker, HessianOperator
from eoc.model import MLP, half_squared_error
from eoc.training.callbacks.reference_sharpness import independent_sharpness

PAGE = "curvature.md"
KAPPAS = (2.5, 3.0, 3.5)
SCOUTED = "scout in bfloat16, tolerance 1e-2"
SCOUTED_2 = f"{SCOUTED}, 2 guards"
SETTINGS = {
    "as it is (1 guard)": {},
    "2 guards": {"guards": 2},
    **{f"caution {caution}": {"caution": float(caution)} for caution in (1, 2, 4)},
    SCOUTED: {"tolerance": 1e-2},
    SCOUTED_2: {"tolerance": 1e-2, "guards": 2},
}


def follow(kappa: float, seed: int, steps: int) -> dict[str, list[tuple[float, int]]]:
    """Train once, and return every tracker's relative errors and products."""
    data = digits(n_train=200)
    network = MLP(data.dim, data.classes, parameterization="nup", depth=4, width=12, growth=2.0, seed=seed)
    weights, batches = list(network.weights), [(data.train_inputs, data.train_targets)]
    exact_batches = [(data.train_inputs.double(), data.train_targets.double())]
    trackers = {name: CurvatureTracker(**setting) for name, setting in SETTINGS.items()}
    rows = defaultdict(list)

    def loss_of(inputs, targets):
        return half_squared_error(network(inputs), targets)

    for step in range(steps):
        exact = [weight.detach().double().requires_grad_() for weight in weights]

        def exact_loss(inputs, targets, exact=exact):
            return half_squared_error(network.preactivations(inputs, exact)[-1], targets)

        sharpness = independent_sharpness(HessianOperator(exact_loss, exact, exact_batches, network.rates), seed=step)
        for name, tracker in trackers.items():
            operators = [HessianOperator(loss_of, weights, batches, network.rates)]
            if name in (SCOUTED, SCOUTED_2):
                operators.append(HessianOperator(loss_of, weights, batches, network.rates, autocast=torch.bfloat16))
            found = tracker.probe(*operators)
            rows[name].append((found.values[0].item() / sharpness - 1, found.products))
        gradient = torch.autograd.grad(loss_of(*batches[0]), weights)
        with torch.no_grad():
            for weight, factor, slope in zip(weights, network.rates, gradient, strict=True):
                weight -= kappa / sharpness * factor * slope
    return rows


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--publish", action="store_true", help="write them into docs/ and beside this file as well")
    given = parser.parse_args()
    lines = []
    for kappa in KAPPAS:
        total = defaultdict(list)
        for seed in range(given.seeds):
            for name, rows in follow(kappa, seed, given.steps).items():
                total[name] += rows
            print(f"κ = {kappa:g}: {seed + 1} of {given.seeds} seeds", flush=True)
        lines += [{"kappa": kappa, "tracker": name, **counted(rows)} for name, rows in total.items()]
    result = {"steps": given.steps, "seeds": given.seeds, "rows": lines, "environment": environment()}
    print(tables(result)["missed_eigenvalues"])
    if given.publish:
        publish(__file__, result, tables(result), PAGE)


def tables(result: dict) -> dict[str, str]:
    """As the page shows them."""
    rows = [(f"{row['kappa']:g}", row["tracker"], row) for row in result["rows"]]
    return {"missed_eigenvalues": table(("κ", "tracker"), "probes", rows)}


if __name__ == "__main__":
    main()
