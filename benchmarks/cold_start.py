"""How often does a probe that starts from random vectors alone report a lower eigenvalue for the first?

    python benchmarks/cold_start.py

takes λ_0 of many networks (μP, of 3 and 5 layers, at initialization, on 200 digits drawn anew for each) with several
tolerances and numbers of guards, and compares it with that of nine random vectors improved to 1e-6 in float64. Prints
the table of docs/curvature.md, and puts it there with ``--publish``.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import torch
from environment import environment
from misses import counted, table
from publication import publish

from eoc.data import digits
from eoc.dynamics.curvature import HessianOperator, top_eigenpairs
from eoc.model import MLP, half_squared_error

PAGE = "curvature.md"
DEPTHS = (3, 5)
SETTINGS = [(0, 1e-2), (0, 1e-3), (0, 1e-4), (1, 1e-2), (1, 1e-3), (2, 1e-2)]  # guards, tolerance


def measure(depth: int, seed: int) -> dict[tuple[int, float], tuple[float, int]]:
    """Return every setting's relative error and products for one network."""
    data = digits(n_train=200, subset_seed=seed)
    network = MLP(data.dim, data.classes, parameterization="mup", depth=depth, width=64, growth=0.0, seed=seed)
    exact = [weight.detach().double().requires_grad_() for weight in network.weights]

    def exact_loss(inputs, targets):
        return half_squared_error(network.preactivations(inputs, exact)[-1], targets)

    def loss_of(inputs, targets):
        return half_squared_error(network(inputs), targets)

    exact_batches = [(data.train_inputs.double(), data.train_targets.double())]
    sure = HessianOperator(exact_loss, exact, exact_batches, network.rates)
    other = torch.Generator().manual_seed(seed + 1_000_000)
    sharpness = top_eigenpairs(sure, tolerance=1e-6, guards=8, max_products=500, generator=other).values[0].item()
    batches = [(data.train_inputs, data.train_targets)]
    rows = {}
    for guards, tolerance in SETTINGS:
        operator = HessianOperator(loss_of, list(network.weights), batches, network.rates)
        generator = torch.Generator().manual_seed(seed)
        found = top_eigenpairs(operator, tolerance=tolerance, guards=guards, generator=generator)
        rows[guards, tolerance] = (found.values[0].item() / sharpness - 1, found.products)
    return rows


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1500)
    parser.add_argument("--publish", action="store_true", help="write them into docs/ and beside this file as well")
    given = parser.parse_args()
    total = defaultdict(list)
    for depth in DEPTHS:
        for seed in range(given.seeds):
            for setting, row in measure(depth, seed).items():
                total[setting].append(row)
            if (seed + 1) % 100 == 0:
                print(f"{depth} layers: {seed + 1} of {given.seeds} networks", flush=True)
    lines = [{"guards": guards, "tolerance": t, **counted(rows)} for (guards, t), rows in total.items()]
    result = {"depths": list(DEPTHS), "seeds": given.seeds, "rows": lines, "environment": environment()}
    print(tables(result)["cold_start"])
    if given.publish:
        publish(__file__, result, tables(result), PAGE)


def tables(result: dict) -> dict[str, str]:
    """As the page shows them."""
    rows = [(f"{row['guards']}", f"{row['tolerance']:.0e}", row) for row in result["rows"]]
    return {"cold_start": table(("guards", "tolerance"), "networks", rows)}


if __name__ == "__main__":
    main()
